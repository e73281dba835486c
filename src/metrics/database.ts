import { Gauge, Registry } from 'prom-client';
import pg from 'pg';
import { makePool } from '../postgres/pool.ts';
import { withDeadline } from '../lib/wait.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage } from '../lib/outage.ts';

/** Above the milliseconds that it takes, and below the 10 s that Prometheus waits for the whole answer. */
const DEADLINE_MS = 3_000;
const STATEMENT_TIMEOUT_MS = 2_000;
/** A part whose table somebody has locked is left out, before all of them together take too long. */
const LOCK_TIMEOUT_MS = 300;

/** What app_private.metrics() gives, by name without `halyard_`: what it means, and what to do about it. */
export const DATABASE_GAUGES: Readonly<Record<string, string>> = {
  schedules_pending:
    'Schedules that wait for their time or their next attempt; 10000 means that or more.',
  schedules_overdue:
    'Schedules that are due and not applied; 10000 means that or more. More than a moment: see whether a worker runs.',
  schedules_overdue_oldest_seconds:
    'For how long the oldest overdue schedule has been due; 0 without one. Above a few seconds: see whether a worker runs.',
  points_waiting:
    'Points of plans that are due and not applied; suspended ones do not count. More than a moment: another session has one of their flags locked, or they fail.',
  schedules_suspended:
    'Schedules that came due and wait for an admin, because their environment is stopped (stop) or their flag is not as they expect (conflict); 10000 means that or more.',
  environments_stopped:
    'Environments in which no schedule is applied, because an admin stopped them: environments.stop_reason says why.',
  events_unsequenced:
    'Audit events that have no number and no seal yet; 10000 means that or more. It should fall to 0 again and again.',
  events_unsequenced_oldest_seconds:
    'Age of the oldest audit event without a number and a seal; 0 without one. Above a minute: no worker numbers them.',
  events_last_seq: 'Number of the newest audit event that has one: its rate is the rate of events.',
  seals_last_number:
    'Number of the newest seal. It must never fall: a fall means that the trail was cut.',
  seals_last_age_seconds:
    'Time since the newest seal. High is normal when nothing happens: look at events_unsequenced beside it.',
  delivery_behind_events:
    'Numbered audit events that the destination has not confirmed. Rising: see the log of the worker that forwards.',
  delivery_oldest_seconds:
    'For how long the oldest unconfirmed audit event has had its number; 0 without one. Above minutes: the destination is down.',
  destination_ahead:
    '1 while a destination has more of this trail than the database, as after the restore of an older snapshot: nothing is numbered or forwarded. Decide: halyard restore.',
  dead_letters:
    'Audit events that could not be written to the trail; 10000 means that or more. Anything but 0: mend the cause.',
  dead_letters_oldest_seconds: 'Age of the oldest dead letter; 0 without one.',
  events_reconciled_last_day:
    'Audit events that the reconciler wrote in the last 24 hours: writing them had failed; 1000 means that or more. Anything but 0: find out why.',
  audit_triggers_wrong:
    'Triggers of the audit trail that are missing, disabled or altered, and tables without row-level security. Anything but 0: changes may leave no event.',
  rows_unexplained:
    'Flags, schedules, plans, environments and settings that the last full reconciliation found to differ from what the trail says. Anything but 0: audit verify names them.',
  rows_checked_age_seconds:
    'Time since the last full reconciliation ended, which compares all rows with the trail; before the first, since the trail began. Above two days: it fails, see the log.',
  notification_queue_usage_ratio:
    'Share of the notification queue in use, 0 to 1. From 0.5 on no hints are sent: end the session that listens in a transaction.',
  audit_strict:
    '1 in strict mode, where a change fails when its event can not be written; 0 in lax mode. A change of it is the event setting.changed.',
  workers_connected:
    'Worker processes with a live connection. 0: nothing is applied, numbered or delivered.',
  audit_partitions_ahead_months:
    'Months after this one that have a partition of the trail without a gap, 24 at most; -1: this one has none. Below 1: make partitions.',
  database_unreadable_parts:
    'Parts of these figures that could not be read, and are left out. Anything but 0: a table is missing, broken or locked.',
};

/** What the value in the column `destination` is of: its destination, unless it stands here. */
const LABELS: Readonly<Record<string, string>> = { schedules_suspended: 'for' };

interface Row {
  readonly metric: string;
  readonly destination: string | null;
  readonly value: number;
}

/**
 * What the database says, on a connection of its own: a scrape and the process's requests don't wait for each other.
 *
 * @param databaseUrl the worker's or the authenticator's
 * @param destinations where this process delivers to: shown from the start, before it has confirmed anything
 */
export function makeDatabaseMetrics(
  databaseUrl: string,
  destinations: readonly string[],
  log: Logger,
) {
  const pool = makePool(databaseUrl, {
    name: 'halyard metrics',
    max: 1,
    queryTimeoutMs: DEADLINE_MS,
    log,
  });
  const outage = makeOutage(log, {
    failing: 'the database gives no metrics',
    back: 'the database gives metrics again',
  });

  async function read(): Promise<readonly Row[] | null> {
    try {
      const rows = await withDeadline(
        () => ask(pool, destinations),
        DEADLINE_MS,
        `The database did not answer within ${DEADLINE_MS} ms.`,
      );
      outage.back();
      return rows;
    } catch (error) {
      outage.failed(error);
      return null;
    }
  }

  return {
    /** Asks the database, and renders what it says; `halyard_database_up 0` and nothing else when it doesn't answer. */
    render: async () => renderRows(await read()),
    close: () => pool.end(),
  };
}

/** One message is one transaction, so the time-outs are its own, also through PgBouncer. Such a message takes no parameters. */
async function ask(pool: pg.Pool, destinations: readonly string[]): Promise<readonly Row[]> {
  const list = destinations.map((destination) => pg.escapeLiteral(destination)).join(', ');
  const results: unknown = await pool.query(
    `set local statement_timeout = ${STATEMENT_TIMEOUT_MS};
     set local lock_timeout = ${LOCK_TIMEOUT_MS};
     select metric, destination, value from app_private.metrics(array[${list}]::text[])`,
  );
  return (results as [unknown, unknown, pg.QueryResult<Row>])[2].rows;
}

/** A registry for each answer: what the database didn't say this time is absent, and no gauge stands still at an old value. */
async function renderRows(rows: readonly Row[] | null): Promise<string> {
  const registry = new Registry();
  new Gauge({
    name: 'halyard_database_up',
    help: '1 when the database answered this scrape. 0: see whether it runs, can be reached and is migrated.',
    registers: [registry],
  }).set(rows === null ? 0 : 1);
  for (const [name, help] of Object.entries(DATABASE_GAUGES)) {
    const values = rows?.filter(({ metric }) => metric === name) ?? [];
    if (values.length === 0) continue;
    const label = LABELS[name] ?? 'destination';
    const labelNames = values.some((row) => row.destination !== null) ? [label] : [];
    const gauge = new Gauge({
      name: `halyard_${name}`,
      help,
      labelNames,
      registers: [registry],
    });
    for (const { destination, value } of values)
      gauge.set(destination === null ? {} : { [label]: destination }, value);
  }
  return registry.metrics();
}
