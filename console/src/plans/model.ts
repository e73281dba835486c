import type { FlagUpdates } from '../parts/flag_state.tsx';
import type { Status } from '../parts/marks.tsx';

/** What a plan's place in its life is called, and its shape. */
export interface PlanState {
  readonly status: Status;
  readonly word: string;
}

/** What a plan's state goes by. */
export interface Lived {
  readonly status: string;
  readonly suspendedFor: string | null;
  readonly nextAt: string | null;
  readonly appliedCount: number;
}

/** @param now in milliseconds since 1970 */
export function stateOf(plan: Lived, now: number): PlanState {
  switch (plan.status) {
    case 'completed':
      return plan.appliedCount > 0
        ? { status: 'applied', word: 'Applied' }
        : { status: 'cancelled', word: 'Skipped' };
    case 'cancelled':
      return { status: 'cancelled', word: 'Cancelled' };
    case 'paused':
      return { status: 'failed', word: 'Paused' };
    default:
      if (plan.suspendedFor === 'conflict') return { status: 'conflict', word: 'Suspended' };
      if (plan.suspendedFor !== null) return { status: 'uncertain', word: 'Stopped' };
      return Date.parse(plan.nextAt ?? '') <= now
        ? { status: 'pending', word: 'Due' }
        : { status: 'pending', word: 'Next' };
  }
}

/** Whether something of it is still to come. */
export const isOpen = ({ status }: { readonly status: string }): boolean =>
  status === 'active' || status === 'paused';

/** A change of one flag, as a plan says it. */
export interface Change {
  readonly flagKey: string;
  readonly environment: string;
  readonly updates: FlagUpdates;
}

interface Stepped<C extends Change> {
  readonly steps: readonly { readonly changes: readonly C[] }[];
}

export const changesOf = <C extends Change>({ steps }: Stepped<C>): readonly C[] =>
  steps.flatMap(({ changes }) => changes);

/** `1 flag`, `3 flags`: a flag in two environments is two flags. */
export const countText = (count: number, one: string): string =>
  `${count.toLocaleString('en-US')} ${count === 1 ? one : `${one}s`}`;

/** What stands against a change: in the names of both APIs. */
export interface Conflict {
  readonly flagKey: string;
  readonly environment: string;
  readonly field: string;
  readonly kind: string;
  readonly expected: unknown;
  readonly found: unknown;
  readonly at: string;
  readonly scheduleId: string | null;
  readonly planId: string | null;
}

/** What fields are called, by their columns and by their names in GraphQL. */
const FIELDS: Readonly<Record<string, string>> = {
  enabled: 'enabled',
  rollout_percentage: 'rollout',
  rolloutPercentage: 'rollout',
};

export const fieldName = (field: string): string => FIELDS[field] ?? field;

/** A field's value in a word: `on`, `25%`. */
export function valueText(field: string, value: unknown): string {
  if (typeof value === 'boolean' && field === 'enabled') return value ? 'on' : 'off';
  if (typeof value === 'number' && fieldName(field) === 'rollout') return `${value}%`;
  return value === null || value === undefined ? 'nothing' : JSON.stringify(value);
}

/** A flag's fields by column, or some of them. */
export type Fields = Readonly<Record<string, unknown>>;

/** The fields that differ, with both values; before null for a flag that didn't exist. */
export const differences = (
  before: Fields | null,
  after: Fields,
): readonly { readonly field: string; readonly from: unknown; readonly to: unknown }[] =>
  Object.entries(after)
    .filter(([field, to]) => JSON.stringify(before?.[field]) !== JSON.stringify(to))
    .map(([field, to]) => ({ field, from: before?.[field], to }));

/** The fields of a record of the trail or of a column of jsonb. */
export const fieldsOf = (value: unknown): Fields | null =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : null;

/** Of one flag in one environment. */
export const isOf =
  ({ flagKey, environment }: { readonly flagKey: string; readonly environment: string }) =>
  (other: { readonly flagKey: string; readonly environment: string }): boolean =>
    other.flagKey === flagKey && other.environment === environment;

/** What a plan takes back, in words; '' where it takes nothing back. */
export function revertsText(reverts: unknown, time: (at: string) => string): string {
  const found = fieldsOf(reverts);
  if (found === null) return '';
  const { environment, from, to } = found;
  if (typeof environment === 'string' && typeof from === 'string' && typeof to === 'string')
    return `what changed in ${environment} from ${time(from)} to ${time(to)}`;
  return typeof found.planId === 'string' ? 'a plan' : 'a schedule';
}
