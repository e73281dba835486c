import { StatusTag } from '../parts/marks.tsx';
import { updatesText } from '../parts/flag_state.tsx';
import { ConflictText } from './conflict_text.tsx';
import type { Plan, PlanRow } from './documents.ts';
import type { FlagDiff, Tried } from './dry_run.ts';
import { FieldsDiff } from './fields_diff.tsx';
import {
  changesOf,
  differences,
  fieldName,
  fieldsOf,
  isOf,
  valueText,
  type Conflict,
} from './model.ts';
import type { Line } from './what_table.tsx';

/** What stands against a change, each in a line of its own. */
const Conflicts = ({ list }: { readonly list: readonly Conflict[] }) => (
  <>
    {list.map((conflict) => (
      <span key={JSON.stringify(conflict)} class="block">
        <StatusTag status="conflict" /> <ConflictText conflict={conflict} />
      </span>
    ))}
  </>
);

/** Of a dry run: each flag before and after, and what stands against it. */
export const linesOfRun = (
  changes: readonly FlagDiff[],
  conflicts: readonly Conflict[],
): readonly Line[] => {
  const tried = changes.map((one): Line => {
    const against = conflicts.filter(isOf(one));
    return {
      ...{ flagKey: one.flagKey, environment: one.environment },
      change: <FieldsDiff before={one.before} after={one.after} />,
      note: <Conflicts list={against} />,
      tone: against.length > 0 ? 'bad warn' : '',
    };
  });
  const others = conflicts.filter((one) => !changes.some(isOf(one)));
  const waiting = [...Map.groupBy(others, (one) => `${one.environment} ${one.flagKey}`).values()];
  return [
    ...tried,
    ...waiting.flatMap(([first, ...more]): Line[] =>
      first === undefined
        ? []
        : [
            {
              ...{ flagKey: first.flagKey, environment: first.environment, tone: 'bad warn' },
              change: <span class="muted">nothing changes</span>,
              note: <Conflicts list={[first, ...more]} />,
            },
          ],
    ),
  ];
};

/** What was expected of a flag and what was found, as a suspended schedule has them. */
function Found({ row }: { readonly row: PlanRow }) {
  const details = fieldsOf(row.suspendedDetails);
  const expected = fieldsOf(details?.expected);
  const found = fieldsOf(details?.found);
  if (expected === null || found === null) return null;
  return (
    <>
      {Object.entries(expected).map(([field, value]) => (
        <span key={field} class="block">
          {fieldName(field)} was {valueText(field, found[field])}, and {valueText(field, value)} was
          expected.
        </span>
      ))}
    </>
  );
}

/** What a row of the plan came to, beside its change. */
function noteOf(row: PlanRow | undefined): Pick<Line, 'note' | 'tone'> {
  if (row === undefined) return { note: null, tone: '' };
  const { kept, errorMessage, attempts, maxAttempts, resolutionReason } = row;
  switch (row.status) {
    case 'failed':
      return {
        note: (
          <>
            <StatusTag status="failed" /> {errorMessage}
          </>
        ),
        tone: 'bad',
      };
    case 'suspended':
      return { note: <Found row={row} />, tone: row.suspendedDetails === null ? '' : 'bad warn' };
    case 'pending':
      return {
        note:
          attempts > 0 ? `Try ${attempts} of ${maxAttempts} failed: ${errorMessage ?? ''}` : null,
        tone: '',
      };
    default: {
      const left = (kept ?? []).map((field) => fieldName(field));
      return {
        note: (
          <>
            {left.length > 0 && `Somebody else had changed ${left.join(' and ')}: it was kept. `}
            {resolutionReason !== null && `“${resolutionReason}”`}
          </>
        ),
        tone: '',
      };
    }
  }
}

/**
 * What a plan does or did, flag by flag.
 *
 * @param rows the schedules of its point
 * @param tried its dry run; null where none is made, as for who may only read
 * @param done what it changed, by the trail
 */
export function linesOfPlan(
  plan: Plan,
  rows: readonly PlanRow[],
  tried: Tried | null,
  done: readonly FlagDiff[],
): readonly Line[] {
  return changesOf(plan).map((change): Line => {
    const { flagKey, environment } = change;
    const row = rows.find(({ flag }) => flag !== null && isOf(flag)(change));
    const run = tried?.run?.changes.find(isOf(change));
    const diff = done.find(isOf(change)) ?? run;
    const isShown = diff !== undefined && differences(diff.before, diff.after).length > 0;
    const { note, tone } = noteOf(row);
    // Of what is suspended the schedule itself says what was found.
    const against = row?.status === 'suspended' ? [] : plan.conflicts.filter(isOf(change));
    return {
      ...{ flagKey, environment },
      change:
        diff !== undefined && isShown ? (
          <FieldsDiff before={diff.before} after={diff.after} />
        ) : (
          <>→ {updatesText(change.updates)}</>
        ),
      note: (
        <>
          {note}
          <Conflicts list={against} />
        </>
      ),
      tone: tone === '' && against.length > 0 ? 'bad warn' : tone,
    };
  });
}
