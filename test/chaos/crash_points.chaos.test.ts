import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { cloudWatchDestination } from '../support/chaos/cloudwatch.ts';
import { byForm } from '../support/chaos/form.ts';
import { holdAt } from '../support/chaos/hold.ts';
import type { Moment } from '../support/chaos/postgres_proxy.ts';
import { openSite } from '../support/chaos/site.ts';
import type { Site } from '../support/chaos/site.ts';
import { makeCloudWatchServer } from '../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../support/cloudwatch_server.ts';
import { withClient } from '../support/database.ts';
import type { ChaosProcess } from '../support/chaos/process.ts';
import { insertDue, useFreshDatabase } from '../support/worker.ts';

let server: CloudWatchServer;
beforeAll(async () => {
  server = await makeCloudWatchServer();
});
afterAll(() => server.close());

/** Sees to it that the worker is killed at one step of the work that comes now; resolves when it is dead. */
type Ambush = (site: Site, worker: ChaosProcess, work: () => Promise<void>) => Promise<void>;

/** Killed as a statement is on its way, or its answer. */
function atStatement(when: Moment['when'], statement: RegExp): Ambush {
  return async (site, worker, work) => {
    const killed = site.proxy.at({ when, statement }, () => worker.kill());
    await work();
    await killed;
  };
}

/** Killed while its transaction stands still; the server hears of that at once, or goes on by itself. */
function inTransaction(
  table: string,
  when: Parameters<typeof holdAt>[2],
  then: 'rolled back' | 'committed',
): Ambush {
  return async (site, worker, work) => {
    // The work is there before the hold, which would stop it too.
    await work();
    const hold = await holdAt(site.database, table, when);
    const backend = await hold.reached();
    await worker.kill();
    if (then === 'rolled back') await hold.terminate(backend);
    await hold.release();
  };
}

const afterPut: Ambush = async (_site, worker, work) => {
  const before = server.calls.length;
  server.failNext('drip');
  await work();
  await vi.waitFor(
    () => expect(server.calls.slice(before).map((c) => c.outcome)).toContain('drip'),
    {
      timeout: 10_000,
      interval: 5,
    },
  );
  await worker.kill();
};

const STEPS: [string, Ambush][] = [
  ['after it has claimed a job', atStatement('before', /app_private\.apply_due\w*\(/)],
  [
    'in the middle of an apply that the server gives up',
    inTransaction('app_public.feature_flag_schedules', 'before update', 'rolled back'),
  ],
  [
    'in the middle of an apply that the server ends',
    inTransaction('app_public.feature_flag_schedules', 'before update', 'committed'),
  ],
  [
    'after the apply and before its commit',
    inTransaction('app_public.feature_flag_schedules', 'at commit', 'rolled back'),
  ],
  ['after the commit of an apply', atStatement('answered', /app_private\.apply_due\w*\(/)],
  ['before it completes a job', atStatement('before', /^delete from \S+_private_jobs/)],
  ['in the middle of sealing', inTransaction('audit.seals', 'before insert', 'rolled back')],
  ['after a seal', atStatement('answered', /app_private\.seal_\w+\(/)],
  ['before it sends', atStatement('answered', /undelivered_audit_events\(/)],
  ['after a put that it knows nothing of', afterPut],
  ['before the cursor moves', atStatement('before', /confirm_audit_events\(/)],
  ['after the cursor has moved', atStatement('answered', /confirm_audit_events\(/)],
];

/** The steps at which least is known, for the short form. */
const SHORT = [
  'after the apply and before its commit',
  'in the middle of sealing',
  'after a put that it knows nothing of',
  'after the cursor has moved',
];

test('a worker that is killed at any step leaves nothing undone and does nothing twice', async () => {
  const database = await useFreshDatabase();
  const site = await openSite(
    database,
    cloudWatchDestination(() => server),
  );
  let worker = await site.startWorker();
  const work = () =>
    withClient(database.ownerUrl, (client) => insertDue(client, { count: 7, dueIn: '300 ms' }));

  const steps = byForm({ short: STEPS.filter(([step]) => SHORT.includes(step)), full: STEPS });
  for (const [step, ambush] of steps) {
    await site.settle();
    await ambush(site, worker, work).catch((error: unknown) => {
      throw new Error(`The worker could not be killed ${step}.`, { cause: error });
    });
    await site.replace(worker);
    worker = site.workers[0] ?? worker;
    await site.check().catch((error: unknown) => {
      throw new Error(`A worker was killed ${step}.`, { cause: error });
    });
  }
});
