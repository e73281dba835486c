import type { FieldProblem } from '../data/field_problems.ts';
import type { FlagState, FlagUpdates } from '../parts/flag_state.tsx';
import { restUpdates, updatesOf, type ChangeText } from '../schedules/change.ts';
import { stateAt, type Pending } from '../schedules/effect.ts';
import { dateText } from '../time/format.ts';
import { readWhen, whenTextOf, type When, type WhenText } from '../time/when.ts';
import type { Fields } from './model.ts';
import type { Asked, OnConflict, RestChange } from './requests.ts';

/** What a person has typed for one flag of a plan. */
export interface ChangeRow extends ChangeText {
  readonly environment: string;
  readonly flagKey: string;
  /** What happens where the flag isn't as the form shows it. */
  readonly rule: OnConflict;
  /** The change as the plan has it; null for a new one, and once something of it was changed here. */
  readonly given: RestChange | null;
}

/** All that a person has typed into the form of a plan. */
export interface PlanText extends WhenText {
  readonly title: string;
  readonly isNow: boolean;
  readonly reason: string;
  readonly changes: readonly ChangeRow[];
  /** The revision of the plan that is edited, as it was when the form was opened; 0 for a new one. */
  readonly revision: number;
  /** When that plan comes, which may have milliseconds that no field shows; null for a new one. */
  readonly givenAt: number | null;
  readonly [name: string]: unknown;
}

export const newRow = (environment: string): ChangeRow => ({
  ...{ environment, flagKey: '', kind: 'on', share: '', turnsOn: true },
  ...{ rule: 'suspend', given: null },
});

/** What a new form says: today, at no time yet. */
export const newPlan = (environment: string, zone: string, now: number): PlanText => ({
  ...{ title: '', isNow: false, reason: '', revision: 0, givenAt: null },
  changes: [newRow(environment)],
  ...{ date: dateText(now, zone), time: '', zone, choice: '' },
});

/** A plan as it was read, for the form that edits it. */
export interface EditedPlan {
  readonly title: string;
  readonly reason: string | null;
  readonly startsAt: string | null;
  readonly nextAt: string | null;
  readonly revision: number;
}

const RULES: readonly OnConflict[] = ['suspend', 'keep', 'overwrite'];
const ruleOf = (rule: string | undefined): OnConflict =>
  RULES.find((known) => known === rule) ?? 'overwrite';

function rowOf(given: RestChange): ChangeRow {
  const { enabled, rollout_percentage: share } = given.updates;
  const isShare = typeof share === 'number' && enabled !== false;
  return {
    ...{ environment: given.environment, flagKey: given.flag_key, given },
    ...{ kind: isShare ? 'share' : enabled === false ? 'off' : 'on' },
    ...{ share: isShare ? String(share) : '', turnsOn: enabled === true || !isShare },
    rule: ruleOf(given.on_conflict),
  };
}

/** The form of a plan as it is. */
export const textOf = (
  plan: EditedPlan,
  changes: readonly RestChange[],
  zone: string,
): PlanText => {
  const givenAt = Date.parse(plan.nextAt ?? plan.startsAt ?? '');
  return {
    ...{ title: plan.title, isNow: false, reason: plan.reason ?? '', revision: plan.revision },
    ...{ ...whenTextOf(givenAt, zone), givenAt, changes: changes.map(rowOf) },
  };
};

/** A flag with what is pending, as far as it is known. */
export interface KnownFlag extends FlagState {
  readonly pending: readonly (Pending & { readonly planId: string | null })[];
}

/** A row, and what it means. */
export interface ReadRow {
  /** The flag just before the change; null while it isn't known. */
  readonly before: FlagState | null;
  /** Null while a share can't be read. */
  readonly updates: FlagUpdates | null;
  /** What is sent; null while something is missing. */
  readonly change: RestChange | null;
}

export interface ReadPlan {
  readonly when: When;
  /** Null: now, or no instant yet. */
  readonly at: number | null;
  readonly rows: readonly ReadRow[];
  /** What can be tried; null while a row isn't whole. */
  readonly asked: Asked | null;
}

/**
 * What the form says.
 *
 * @param flags the rows' flags, in their order; null for one that isn't known yet
 * @param planId of the plan that is edited: its own changes are no other's
 */
export function readPlan(
  text: PlanText,
  flags: readonly (KnownFlag | null)[],
  planId: string | null,
  now: number,
): ReadPlan {
  const when = readWhen(text, now);
  const typed = when.kind === 'instant' && !text.isNow ? when.at : null;
  const { givenAt } = text;
  const isGiven = givenAt !== null && Math.floor(givenAt / 1_000) * 1_000 === typed;
  const at = isGiven ? givenAt : typed;
  const rows = text.changes.map((row, i): ReadRow => {
    const flag = flags[i] ?? null;
    const pending = flag?.pending.filter((one) => one.planId === null || one.planId !== planId);
    const before = flag === null ? null : at === null ? flag : stateAt(flag, pending ?? [], at);
    const updates = updatesOf(row, before);
    return { before, updates, change: changeOf(row, before, updates) };
  });
  const changes = rows.flatMap(({ change }) => (change === null ? [] : [change]));
  const isWhole = changes.length === rows.length && rows.length > 0;
  return {
    ...{ when, at, rows },
    asked: isWhole ? { title: text.title.trim(), at, reason: text.reason, changes } : null,
  };
}

/** A row as the API takes it. A row of the plan that the admin hasn’t touched stays as it was. */
function changeOf(
  row: ChangeRow,
  before: FlagState | null,
  updates: FlagUpdates | null,
): RestChange | null {
  const { given, rule } = row;
  if (given !== null && ruleOf(given.on_conflict) === rule) return given;
  if (before === null || updates === null || row.flagKey.trim() === '') return null;
  const sent: Fields = given?.updates ?? restUpdates(updates);
  return {
    ...{ flag_key: row.flagKey.trim(), environment: row.environment, updates: sent },
    ...(rule === 'overwrite' ? {} : { expects: given?.expects ?? expectsOf(before, sent) }),
    on_conflict: rule,
  };
}

/** What the form shows of the fields that a change sets. */
export const expectsOf = (before: FlagState, updates: Fields): Fields =>
  Object.fromEntries(
    Object.entries(restUpdates(before)).filter(([field]) => Object.hasOwn(updates, field)),
  );

/** Whether a row expects something else than the form shows now. */
export function isOutdated({ given }: ChangeRow, { before }: ReadRow): boolean {
  const expects = given?.expects;
  if (given === null || expects === undefined || before === null) return false;
  return Object.entries(restUpdates(before)).some(
    ([field, value]) => Object.hasOwn(expects, field) && expects[field] !== value,
  );
}

/** What is missing before there is a request at all. */
export function missingOf(text: PlanText, read: ReadPlan): readonly FieldProblem[] {
  const missing: FieldProblem[] = [];
  if (!text.isNow && text.title.trim() === '')
    missing.push({ path: 'title', message: 'What is it called?' });
  if (!text.isNow && read.when.kind === 'bad')
    missing.push({ path: 'scheduled_at', message: read.when.message });
  for (const [i, { change, updates, before }] of read.rows.entries()) {
    if (change !== null) continue;
    const key = text.changes[i]?.flagKey.trim() ?? '';
    if (key === '') missing.push({ path: `changes.${i}.flag_key`, message: 'Which flag?' });
    else if (before === null)
      missing.push({ path: `changes.${i}.flag_key`, message: `There is no flag “${key}”.` });
    if (updates === null)
      missing.push({
        path: `changes.${i}.updates`,
        message: 'Which share? A whole number from 0 to 100.',
      });
  }
  return missing;
}

/** The server's problems by the form's fields: its paths begin with the step, and may have brackets. */
export const formProblems = (problems: readonly FieldProblem[]): readonly FieldProblem[] =>
  problems.map(({ path, message }) => ({
    path: path
      .replaceAll(/\[(\d+)\]/g, '.$1')
      .replace(/^steps\.\d+\./, '')
      .replace(/^starts_at/, 'scheduled_at'),
    message,
  }));
