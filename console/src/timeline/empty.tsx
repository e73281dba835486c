import { databaseNow } from '../data/clock.ts';
import { chosenEnvironment, isAdmin } from '../data/person.ts';
import { Command } from '../parts/command.tsx';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { HOUR } from '../time/zone.ts';
import type { Row } from './model.ts';

/** No change in view: what to do, with a command that works here. */
export function Empty({ rows }: { readonly rows: readonly Row[] }) {
  const environment = chosenEnvironment.value;
  const flag = rows.find((row) => row.environment === environment)?.flagKey ?? null;
  const at = (Math.floor(databaseNow() / HOUR) + 1) * HOUR;
  if (!isAdmin.value)
    return (
      <div class="blank">
        <h2>Nothing is scheduled in {environment}</h2>
        <p class="muted">Once an admin schedules a change it appears here.</p>
      </div>
    );
  const many =
    rows.length === 1 ? `There is one flag, ${flag ?? ''}.` : `There are ${rows.length} flags.`;
  return (
    <div class="blank">
      <h2>
        {flag === null
          ? `No flags in ${environment} yet`
          : `Nothing is scheduled in ${environment}`}
      </h2>
      <p class="muted">
        {flag === null
          ? 'Create the first flag, then schedule its first change: both appear here.'
          : `${many} Schedule a change and it appears here, with everything that happens after it.`}
      </p>
      <div class="row">
        <a class="btn primary" href={link('/flags', { form: flag === null ? 'flag' : 'schedule' })}>
          {flag === null ? 'Create a flag' : 'Schedule a change'}
        </a>
      </div>
      <Command
        title="Or by curl"
        {...(flag === null
          ? {
              path: '/api/admin/flags',
              body: { flag_key: 'my-first-flag', environment },
              note: 'Creates a flag that is off. $ADMIN is the token that npm start printed.',
            }
          : {
              path: `/api/admin/flags/${encodeURIComponent(flag)}/schedule?environment=${encodeURIComponent(environment)}`,
              body: {
                scheduled_at: new Date(at).toISOString(),
                updates: { enabled: true },
              },
              note: `Turns ${flag} on at ${shortText(at, zone.value, databaseNow(), 'second')} ${zone.value}. $ADMIN is the token that npm start printed.`,
            })}
      />
    </div>
  );
}
