/** What a flag is set to. */
export interface FlagState {
  readonly enabled: boolean;
  readonly rolloutPercentage: number;
}

/** What a change sets; what it leaves out stays. */
export interface FlagUpdates {
  readonly enabled?: boolean | null;
  readonly rolloutPercentage?: number | null;
}

/** As `Off`, `On`, `On for 25%`. */
export function stateText({ enabled, rolloutPercentage }: FlagState): string {
  if (!enabled) return 'Off';
  return rolloutPercentage === 100 ? 'On' : `On for ${rolloutPercentage}%`;
}

/** The same, where it stands large or in a list: `On · 25%`. */
export const dottedState = (state: FlagState): string =>
  state.enabled && state.rolloutPercentage < 100
    ? `On · ${state.rolloutPercentage}%`
    : stateText(state);

/** The share of users that get the feature, 0 to 100. */
export const shareOf = ({ enabled, rolloutPercentage }: FlagState): number =>
  enabled ? rolloutPercentage : 0;

/** The state after a change. */
export const applyUpdates = (state: FlagState, updates: FlagUpdates): FlagState => ({
  enabled: updates.enabled ?? state.enabled,
  rolloutPercentage: updates.rolloutPercentage ?? state.rolloutPercentage,
});

/** Whether two of the changes, which come at one instant, set one field to different values: someone had better decide. */
export function isConflict(changes: readonly FlagUpdates[]): boolean {
  const differ = (values: readonly unknown[]): boolean =>
    new Set(values.filter((value) => value !== null && value !== undefined)).size > 1;
  return (
    differ(changes.map(({ enabled }) => enabled)) ||
    differ(changes.map(({ rolloutPercentage }) => rolloutPercentage))
  );
}

/** The state as a change sets it, in a word: `on`, `off`, `50%`. */
export function updatesText({ enabled, rolloutPercentage }: FlagUpdates): string {
  if (enabled === false) return 'off';
  if (rolloutPercentage !== null && rolloutPercentage !== undefined)
    return enabled === true ? `on, ${rolloutPercentage}%` : `${rolloutPercentage}%`;
  return enabled === true ? 'on' : 'no change';
}

/** A state in a word, as beside a mark: `off`, `on`, `25%`. */
export const shortState = (state: FlagState): string =>
  !state.enabled ? 'off' : state.rolloutPercentage === 100 ? 'on' : `${state.rolloutPercentage}%`;

const onOff = (enabled: boolean): string => (enabled ? 'on' : 'off');

/** One value before and after: struck and inserted, so that it reads without colour. */
function Value({ from, to }: { readonly from: string | null; readonly to: string }) {
  if (from === null) return <ins>{to}</ins>;
  if (from === to) return <>{to}</>;
  return (
    <>
      <del>{from}</del> → <ins>{to}</ins>
    </>
  );
}

interface Change {
  /** Null for a flag that didn't exist. */
  readonly before: FlagState | null;
  readonly after: FlagState;
}

/** Both fields before and after, in a frame; with `short` only what changes, if anything does. */
export function Diff({ before, after, short = false }: Change & { readonly short?: boolean }) {
  const isSwitched = before?.enabled !== after.enabled;
  const isShared = before?.rolloutPercentage !== after.rolloutPercentage;
  const showsAll = !short || (!isSwitched && !isShared);
  return (
    <div class="diff" role="group" aria-label="Before and after">
      {(showsAll || isSwitched) && (
        <>
          <span class="k">enabled</span>
          <span>
            <Value from={before && onOff(before.enabled)} to={onOff(after.enabled)} />
          </span>
        </>
      )}
      {(showsAll || isShared) && (
        <>
          <span class="k">rollout</span>
          <span>
            <Value
              from={before && `${before.rolloutPercentage}%`}
              to={`${after.rolloutPercentage}%`}
            />
          </span>
        </>
      )}
    </div>
  );
}

/** What changes, in a line: `off → on`, `rollout 25% → 50%`; what stays is left out. */
export function InlineDiff({ before, after }: Change) {
  if (before === null) return <ins>created, {shortState(after)}</ins>;
  const isSwitched = before.enabled !== after.enabled;
  const isShared = before.rolloutPercentage !== after.rolloutPercentage;
  if (!isSwitched && !isShared) return <>stays {shortState(after)}</>;
  return (
    <>
      {isSwitched && <Value from={onOff(before.enabled)} to={onOff(after.enabled)} />}
      {isSwitched && isShared && ', '}
      {isShared && (
        <>
          rollout <Value from={`${before.rolloutPercentage}%`} to={`${after.rolloutPercentage}%`} />
        </>
      )}
    </>
  );
}

/** A bar beside the words, and never without them. */
export const Meter = ({
  state,
  small = false,
}: {
  readonly state: FlagState;
  readonly small?: boolean;
}) => (
  <svg class={small ? 'meter sm' : 'meter'} aria-hidden="true">
    <rect class="band" width={`${shareOf(state)}%`} height="100%" />
  </svg>
);
