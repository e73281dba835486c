import { onTestFailed } from 'vitest';
import { startLoad } from '../support/chaos/load.ts';
import type { Load } from '../support/chaos/load.ts';
import type { Breach } from '../support/chaos/invariant.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite } from '../support/chaos/site.ts';
import type { Site } from '../support/chaos/site.ts';
import { withDatabase } from '../../src/postgres/setup.ts';
import type { TestDatabase } from '../support/database.ts';
import { cloneMigrated, loginsTo } from '../support/migrated.ts';
import type { Cluster } from './cluster.ts';
import { layLadder } from './ladder.ts';
import { watchLog } from './log_watch.ts';
import type { LogWatch } from './log_watch.ts';
import { measureOutage, promiseMore } from './outage.ts';

/** The migrated database that each scenario's is a clone of. */
export const TEMPLATE = 'halyard_template';

const random = makeRandom(newSeed());
const CLIENTS = 4;
/** How the message begins with which the load's schedules of a flag that refuses every change are logged. */
const EXPECTED = 'schedules failed';

/** A site on the cluster, under load, whose outage is measured. */
export interface Scenario {
  readonly site: Site;
  readonly load: Load;
  readonly log: LogWatch;
}

/** What is known of a fault, for a person to read. */
export interface Measured {
  /** A line on the outage and one on the schedules. */
  readonly lines: readonly string[];
}

/** Two workers and an API in a database of their own, straight on HAProxy, and clients that change things. */
export async function openScenario(
  cluster: Cluster,
  name: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Scenario> {
  const database = await makeDatabase(cluster, `halyard_${name}`);
  const log = watchLog();
  const site = await openSite(database, undefined, {
    direct: true,
    env: { LOG_LEVEL: 'info' },
    onLine: log.onLine,
  });
  onTestFailed(async () => void process.stdout.write(`${await cluster.logs()}\n`));
  await Promise.all([site.startWorker(env), site.startWorker(), site.startApi()]);
  const load = clients(site);
  await promiseMore(load, 50);
  return { site, load, log };
}

/** Clients that change things, until they are stopped. */
export const clients = (site: Site): Load => startLoad(site, random, CLIENTS);

/** A clone of the template, with the logins' passwords. */
export async function makeDatabase(cluster: Cluster, name: string): Promise<TestDatabase> {
  await cloneMigrated(cluster.rootUrl, TEMPLATE, name, 'wal_log');
  return {
    name,
    rootUrl: withDatabase(cluster.rootUrl, name),
    ...loginsTo(cluster.rootUrl, cluster.password, name),
    drop: () => Promise.resolve(),
  };
}

/**
 * Does something to the cluster under load.
 *
 * @param seconds for how long a schedule comes due each second, from the fault on: longer than the outage
 * @param mend is awaited once changes succeed again, before every schedule must have been applied
 */
export async function measure(
  { site, load }: Scenario,
  seconds: number,
  fault: () => void | Promise<void>,
  mend?: () => void | Promise<void>,
): Promise<Measured> {
  const answered = new Map(site.journal.statuses);
  const unknown = site.journal.unknown.length;
  const ladder = await layLadder(site.database, seconds);
  const outage = await measureOutage(load, fault);
  const refused = count503(site.journal.statuses) - count503(answered);
  await mend?.();
  await ladder.applied();
  const { due, lastAfter, laterLate } = await ladder.report(outage);
  return {
    lines: [
      `changes failed for ${secondsOf(outage.to - outage.from)} s; ${refused} requests got 503, ` +
        `${site.journal.unknown.length - unknown - refused} got no answer within 10 s or another 5xx`,
      `${due} schedules came due meanwhile; the last was applied ${lastAfter.toFixed(1)} s after the first change that ` +
        `succeeded again; later ones were at most ${laterLate.toFixed(2)} s late`,
    ],
  };
}

const count503 = (statuses: ReadonlyMap<number, number>) => statuses.get(503) ?? 0;
const secondsOf = (ms: number) => (ms / 1_000).toFixed(1);

/** Prints what was found, a paragraph a scenario. */
export function print(
  name: string,
  { lines }: Measured,
  log: LogWatch,
  breaches: readonly Breach[],
): void {
  const rules = [...Map.groupBy(breaches, ({ rule }) => rule)].map(
    ([rule, each]) => `${each.length} × ${rule}`,
  );
  const checker = `checker: ${rules.length === 0 ? 'all is well' : rules.join(', ')}`;
  const all = [...lines, checker, describeLog(log)].map((line) => `  ${line}\n`);
  process.stdout.write(`\n${name}\n${all.join('')}`);
}

function describeLog(log: LogWatch): string {
  const list = (level: 'warn' | 'error') => {
    const messages = [...log.messages(level)].filter(([message]) => !message.startsWith(EXPECTED));
    if (messages.length === 0) return 'none';
    return messages.map(([text, n]) => `${n} × ${text.split('\n')[0] ?? ''}`).join('; ');
  };
  const { count, lines } = log.broken;
  const broken = count === 0 ? 'none' : `${count}, such as ${lines[0] ?? ''}`;
  return `log: warnings: ${list('warn')}. Errors: ${list('error')}. Lines that are no JSON: ${broken}`;
}

/** How many answers no client should get: 5xx other than 503. */
export function blunders({ site }: Scenario): number {
  return [...site.journal.statuses]
    .filter(([status]) => status >= 500 && status !== 503)
    .reduce((sum, [, count]) => sum + count, 0);
}
