import { now } from '../data/clock.ts';
import { readsTrail } from '../data/person.ts';
import { CopyButton } from '../parts/copy.tsx';
import { jsonOf } from './model.ts';
import type { StateAt } from './documents.ts';

/** What the answer stands on. */
export function Basis({ at }: { readonly at: number }) {
  const isPast = at <= now.value;
  return (
    <section class="card" aria-labelledby="basis">
      <header>
        <h2 id="basis">{isPast ? 'Where it is from' : 'What it assumes'}</h2>
      </header>
      <ul class="body stack tight small bullets">
        {isPast ? (
          <>
            <li>The trail: of each flag the last change until then.</li>
            {readsTrail.value && <li>Each row leads to its event, and that to its proof.</li>}
            <li>A flag that was created later did not exist.</li>
          </>
        ) : (
          <>
            <li>Every pending change is applied on time, by the rule that applies it.</li>
            <li>No person changes a flag, or schedules another change, until then.</li>
            <li>Of two changes at one instant one wins: by its id, which is chance.</li>
            <li>
              A change that will not find what it expects does what was chosen for that: it waits,
              leaves the field as it is, or sets it all the same.
            </li>
            <li>What is paused goes on at once, and applies what came due.</li>
            <li>What has failed or is suspended stays out until someone goes on with it.</li>
          </>
        )}
      </ul>
    </section>
  );
}

interface TakeProps {
  readonly at: number;
  readonly names: readonly string[];
  readonly answers: readonly (StateAt | null)[];
}

/** One quote of the shell would end the word. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The same answer for programs. */
export function Take({ at, names, answers }: TakeProps) {
  const instant = new Date(at).toISOString();
  const [first] = names;
  const bodies = answers.map((answer, i) =>
    jsonOf(names[i] ?? '', answer ?? [], { now: now.value, at }),
  );
  const json =
    names.length === 1 ? bodies[0] : Object.fromEntries(names.map((name, i) => [name, bodies[i]]));
  const curl = names
    .map((name) =>
      [
        `curl -s ${quoted(`${location.origin}/api/admin/environments/${encodeURIComponent(name)}/state?at=${instant}`)} \\`,
        `  -H "Authorization: Bearer $TOKEN"`,
      ].join('\n'),
    )
    .join('\n');
  if (first === undefined) return null;
  return (
    <section class="card" aria-labelledby="take">
      <header>
        <h2 id="take">Take it along</h2>
      </header>
      <div class="body stack">
        <div class="row">
          {answers.length > 0 && (
            <CopyButton text={`${JSON.stringify(json, null, 2)}\n`}>Copy as JSON</CopyButton>
          )}
          <CopyButton text={curl}>Copy as curl</CopyButton>
          <CopyButton text={location.href}>Copy link</CopyButton>
        </div>
        <pre {...{ tabIndex: 0, class: 'payload', 'aria-label': 'Command' }}>{curl}</pre>
      </div>
    </section>
  );
}
