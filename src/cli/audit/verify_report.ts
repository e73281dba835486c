import type { AnchorReport } from '../../audit/verification/anchors.ts';
import { formatRanges, type Coverage } from '../../audit/verification/coverage.ts';
import type { Loss } from '../../audit/verification/losses.ts';
import type { StateProblem } from '../../audit/verification/state.ts';
import type { Problem, Verification } from '../../audit/verification/verify.ts';

/** Problems shown one by one; of more there is only the count. */
const MAX_SHOWN = 50;
/** Ranges of event numbers shown of one problem. */
const MAX_RANGES = 5;

/** What was checked, and in which mode changes are made: null when that isn't known. */
type Verified = Verification & { readonly auditMode: string | null };

/**
 * What was found, for a person.
 *
 * @param anchors null when there was nothing to compare with
 * @param state what is wrong with rows and triggers; null when they weren't checked
 */
export function summarize(
  verification: Verified,
  anchors: AnchorReport | null,
  state: readonly StateProblem[] | null,
): string {
  const problems = [...verification.problems, ...(anchors?.problems ?? []), ...(state ?? [])];
  const more = problems.length - MAX_SHOWN;
  return `${[
    ...counts(verification),
    state === null ? STATE_UNCHECKED : STATE_CHECKED,
    MODES[verification.auditMode ?? ''] ?? 'Audit mode: not known, the settings are locked.',
    ...(anchors === null ? [UNANCHORED] : describeAnchors(anchors)),
    problems.length === 0 ? 'No problems.' : plural(problems.length, 'problem'),
    ...problems.slice(0, MAX_SHOWN).map(describe),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ].join('\n')}\n`;
}

/** What was found, for a program: one line of JSON. */
export function toJson(
  verification: Verified,
  anchors: AnchorReport | null,
  state: readonly StateProblem[] | null,
): string {
  const { problems: own, ...counted } = verification;
  const { problems: against = [], ...compared } = anchors ?? {};
  const problems = [...own, ...against, ...(state ?? [])];
  return JSON.stringify({
    ok: problems.length === 0,
    ...counted,
    anchors: anchors === null ? null : compared,
    rowsChecked: state !== null,
    problems,
  });
}

const MODES: Readonly<Record<string, string>> = {
  lax: 'Audit mode: lax, a change goes through when its event can’t be written.',
  strict: 'Audit mode: strict, no change without its event.',
};
const UNANCHORED =
  'Checked against itself only: who could rewrite every table could have rewritten the seals. Give --anchors a copy of the trail.';
const STATE_CHECKED =
  'Rows: flags, schedules, environments, settings and triggers were compared with the trail.';
const STATE_UNCHECKED = 'Rows and triggers were not looked at.';
const SEALS_ONLY =
  'Only seals were read, not events. Give --anchors a file with the copy to have its events compared and its gaps found.';

function counts({ seals, events, firstSeq, lastSeq, purged }: Verification): string[] {
  if (seals === 0) return ['Verified: no sealed events.'];
  const range = `${firstSeq ?? 0} to ${lastSeq ?? 0}`;
  return [
    `Verified: ${plural(events, 'event')} (${range}) in ${plural(seals, 'seal')}.`,
    ...(purged > 0 ? [`Purged: ${plural(purged, 'event')}, whose leaves are kept.`] : []),
  ];
}

function describeAnchors(report: AnchorReport): string[] {
  const { anchored, matching, copies, coverage, last, behind, unanchored } = report;
  const lines = [`Anchors: ${matching} of ${plural(anchored, 'seal')} agree.`];
  if (report.sealsOnly) lines.push(SEALS_ONLY);
  if (copies > 0) lines.push(`Copies: ${plural(copies, 'event')} compared with the ledger.`);
  if (coverage !== null) lines.push(describeCoverage(coverage));
  const rest =
    behind > 0 ? `; ${plural(behind, 'seal')} behind it not anchored yet.` : ', the last one.';
  if (last !== null) lines.push(`They reach to seal ${last.seal}, event ${last.seq}${rest}`);
  if (unanchored > 0)
    lines.push(
      `${plural(unanchored, 'seal')} before it without an anchor: the chain vouches for what the copy lacks.`,
    );
  return [...lines, ...report.lost.map(describeLoss)];
}

function describeCoverage({ first, last, missing }: Coverage): string {
  const whole = missing === 0 ? 'every event' : `all but ${plural(missing, 'event')}`;
  return `The copy has ${whole} from ${first} to ${last}.`;
}

function describeLoss({ acceptedAt, reason, seals, events }: Loss): string {
  const what = [
    ...(seals === null ? [] : [`seals ${seals.first} to ${seals.last}`]),
    ...(events === null ? [] : [`events ${events.first} to ${events.last}`]),
  ].join(', ');
  return `Lost: ${what}, of the history given up at ${acceptedAt}, because: ${reason}`;
}

function describe({ status, seal, seqs, detail }: Problem): string {
  const where = [
    ...(seal === null ? [] : [`seal ${seal}`]),
    ...(seqs.length === 0 ? [] : [`${seqs.length === 1 ? 'event' : 'events'} ${ranges(seqs)}`]),
  ].join(', ');
  return `  ${status}${where === '' ? '' : ` (${where})`}: ${detail}`;
}

/** 1 to 3, 7, 9: numbers in ascending order, those in a row taken together. */
export function ranges(seqs: readonly number[]): string {
  const found: [number, number][] = [];
  for (const seq of seqs) {
    const last = found.at(-1);
    if (last?.[1] === seq - 1) last[1] = seq;
    else found.push([seq, seq]);
  }
  return formatRanges(found, MAX_RANGES);
}

function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
