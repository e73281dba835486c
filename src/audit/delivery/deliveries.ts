import type pg from 'pg';
import { addJob } from '../../jobs/jobs.ts';
import { coalesce } from '../../lib/coalesce.ts';
import type { Logger } from '../../lib/log.ts';
import { makeOutage } from '../../lib/outage.ts';
import type { Forwarder } from './forwarder.ts';
import { makeDelivery } from './loop.ts';

const HINT_EVERY_MS = 50;

/**
 * Delivers the trail to all destinations of a process, side by side: one that is down or slow delays no other. A hint queues one job,
 * with which any worker process runs its own destinations.
 *
 * @param options see makeDelivery
 */
export function makeDeliveries(options: {
  readonly pool: pg.Pool;
  readonly forwarders: readonly { readonly destination: string; readonly forwarder: Forwarder }[];
  readonly log: Logger;
  readonly stopping: AbortSignal;
  readonly abort: AbortSignal;
  readonly waitFor?: () => Promise<unknown>;
}) {
  const { pool, forwarders, log, ...shared } = options;
  const outage = makeOutage(log, {
    failing: 'forwarding audit events could not be queued; this process forwards without a job',
    back: 'forwarding audit events can be queued again',
  });
  let queueing: Promise<unknown> = Promise.resolve();
  const deliveries = forwarders.map((one) =>
    makeDelivery({ ...one, ...shared, log, handOver: queue }),
  );
  const hinting = coalesce(async () => {
    // Without a job this process forwards by itself, soon.
    if (!(await queue())) void run();
  }, HINT_EVERY_MS);

  /**
   * One request at a time: while the jobs are locked, each takes a connection.
   *
   * @returns whether the job was queued; the next run without a job makes up for it otherwise
   */
  function queue(): Promise<boolean> {
    const queued = queueing.then(queueNow);
    queueing = queued;
    return queued;
  }

  async function queueNow(): Promise<boolean> {
    try {
      await addJob(pool, 'forward_audit_events');
      outage.back();
      return true;
    } catch (error) {
      outage.failed(error);
      return false;
    }
  }

  async function run(): Promise<void> {
    await Promise.all(deliveries.map((delivery) => delivery.run()));
  }

  return {
    /** Forwards to each destination until nothing is left. Never rejects. */
    run,
    /** Says that there are new events. Many calls at once cost one job. */
    hint: hinting.request,
    /** Whether nothing is sent to a destination any more, because it asked for that. */
    stopped: (destination: string) =>
      deliveries.some((one) => one.destination === destination && one.stopped()),
    /** Resolves once no run is in hand any more. */
    async close(): Promise<void> {
      await hinting.close();
      await Promise.all(deliveries.map((delivery) => delivery.close()));
    },
  };
}

export type Deliveries = ReturnType<typeof makeDeliveries>;
