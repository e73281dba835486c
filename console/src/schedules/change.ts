import type { FlagState, FlagUpdates } from '../parts/flag_state.tsx';

/** What one can ask of a flag. */
export type ChangeKind = 'on' | 'off' | 'share';

/** What a person has chosen and typed for a change. */
export interface ChangeText {
  readonly kind: ChangeKind;
  /** Of users, as typed: `75`, `75 %`. */
  readonly share: string;
  /** Whether a share turns the flag on too, where it is off. */
  readonly turnsOn: boolean;
}

/** Reads a share of users: 0 to 100, whole. Null where it is none. */
export function parseShare(text: string): number | null {
  const found = /^(\d{1,3})\s*%?$/.exec(text.trim());
  const share = Number(found?.[1] ?? Number.NaN);
  return Number.isInteger(share) && share <= 100 ? share : null;
}

/**
 * What the change sets; null while the share can't be read.
 *
 * @param before the flag just before it: a share alone doesn't turn it on
 */
export function updatesOf(
  { kind, share, turnsOn }: ChangeText,
  before: FlagState | null,
): FlagUpdates | null {
  if (kind !== 'share') return { enabled: kind === 'on' };
  const rolloutPercentage = parseShare(share);
  if (rolloutPercentage === null) return null;
  return before?.enabled === false && turnsOn
    ? { enabled: true, rolloutPercentage }
    : { rolloutPercentage };
}

/** As the REST API writes it. */
export const restUpdates = ({ enabled, rolloutPercentage }: FlagUpdates) => ({
  ...(enabled === null || enabled === undefined ? {} : { enabled }),
  ...(rolloutPercentage === null || rolloutPercentage === undefined
    ? {}
    : { rollout_percentage: rolloutPercentage }),
});

/** What a change is called on the button that makes it: `Turn on`, `Turn off`, `Set 50%`. */
export function changeName(updates: FlagUpdates | null): string {
  if (updates === null) return 'Change';
  const { enabled, rolloutPercentage } = updates;
  if (enabled === false) return 'Turn off';
  if (rolloutPercentage === null || rolloutPercentage === undefined) return 'Turn on';
  return enabled === true ? `Turn on for ${rolloutPercentage}%` : `Set ${rolloutPercentage}%`;
}
