import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type pg from 'pg';
import type { DivergenceCheck } from '../audit/delivery/divergence.ts';
import type { Destination } from '../audit/delivery/sinks/index.ts';
import type { AppliedBatch } from '../schedules/batch.ts';
import { watch, watchIgnored, watchPool } from './pool.ts';

/** What a worker counts of what it does itself; of several workers the sum is the whole. */
export type WorkerMetrics = ReturnType<typeof makeWorkerMetrics>;
export type DeliveryMetrics = ReturnType<WorkerMetrics['delivery']>;

/** What is read at each scrape. */
interface WorkerParts {
  readonly pool: pg.Pool;
  readonly healthy: () => boolean;
  /** How many notifications were ignored. */
  readonly ignored: () => number;
  readonly destinations: readonly (Destination & { readonly divergence: DivergenceCheck })[];
  /** Whether nothing is sent to a destination because it asked for that. */
  readonly stopped: (destination: string) => boolean;
  /** Of the kinds of work, those that stand still. */
  readonly standing: () => readonly string[];
}

/** From one millisecond to ten minutes, in seconds. */
const LATENESS_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600,
];
const DELIVERY_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600, 86_400];

/** @param registry one that has no worker's metrics yet */
export function makeWorkerMetrics(registry: Registry) {
  return {
    applied: makeScheduleMetrics(registry),
    delivery: makeDeliveryMetrics(registry),
    watch({ pool, healthy, ignored, destinations, stopped, standing }: WorkerParts) {
      watchPool(registry, 'worker', pool);
      watchIgnored(registry, 'worker', ignored);
      watchStandstill(registry, standing);
      watchDegraded(registry, destinations);
      watch(registry, 'halyard_worker_healthy', {
        help: '1 while the worker receives notifications, reads what is due and takes jobs, and nothing stands still. 0 for long: see its log.',
        read: () => Number(healthy()),
      });
      const watchEach = (
        name: string,
        help: string,
        read: (one: (typeof destinations)[number]) => number,
      ) =>
        new Gauge({
          ...{ name, help, labelNames: ['destination'], registers: [registry] },
          collect() {
            for (const one of destinations) this.set({ destination: one.destination }, read(one));
          },
        });
      watchEach(
        'halyard_destination_unasked',
        '1 while this worker could not ask its destination for its newest seal: a restored database that is behind it goes unnoticed. See its log.',
        ({ divergence }) => divergence.gauges().unasked,
      );
      watchEach(
        'halyard_destination_refused',
        '1 while this worker forwards nothing because its destination belongs to the original of this copy. Set another destination.',
        ({ divergence }) => divergence.gauges().refused,
      );
      watchEach(
        'halyard_delivery_stopped',
        '1 while this worker sends nothing because its destination asked for that (HTTP 410). Mend or remove the destination, and start the worker again.',
        ({ destination }) => Number(stopped(destination)),
      );
    },
  };
}

function makeScheduleMetrics(registry: Registry) {
  const lateness = new Histogram({
    name: 'halyard_schedule_lateness_seconds',
    help: 'How long after their scheduled time schedules were applied. A worker that keeps up stays under 0.1.',
    buckets: LATENESS_BUCKETS,
    registers: [registry],
  });
  const { applied, retried, failed, stuck } = makeCounters(registry, 'schedules', {
    applied: 'Schedules that this process applied.',
    retried:
      'Attempts that failed and are made again. Many: see the error_message of the schedules.',
    failed:
      'Schedules that failed for good. Any: see flag_schedule.failed in the trail, mend the cause, retry them.',
    stuck:
      'Attempts that could neither be made nor be marked as failed. Any: see the warnings in the log.',
  });
  /** One batch of schedules. */
  return (batch: AppliedBatch) => {
    for (const ms of batch.latenessMs) lateness.observe(Math.max(0, ms) / 1_000);
    applied.inc(batch.applied);
    retried.inc(batch.retried);
    failed.inc(batch.failed);
    stuck.inc(batch.stuck);
  };
}

/** @returns what counts for one destination */
function makeDeliveryMetrics(registry: Registry) {
  const latency = new Histogram({
    name: 'halyard_delivery_latency_seconds',
    help: 'From an audit event to the confirmation of its destination, by the clocks of database and worker. High after an outage.',
    buckets: DELIVERY_BUCKETS,
    labelNames: ['destination'],
    registers: [registry],
  });
  const helps = {
    events: 'Records, events and seals, that the destination confirmed.',
    repeated:
      'Records that were handed to the destination again, because it had not confirmed them before.',
    failures:
      'Sendings that the destination refused or did not confirm. Rising: see the log of the worker.',
  };
  const { events, repeated, failures } = makeCounters(registry, 'delivery', helps, ['destination']);
  return (destination: string) => {
    const label = { destination };
    // Each series is there from the start.
    latency.zero(label);
    for (const counter of [events, repeated, failures]) counter.inc(label, 0);
    return {
      /** Records that the destination has confirmed, with their times. */
      delivered(occurredAt: readonly Date[]) {
        const now = Date.now();
        events.inc(label, occurredAt.length);
        // The histogram throws at what is no number, and events that have arrived must be confirmed.
        for (const at of occurredAt)
          if (!Number.isNaN(at.getTime()))
            latency.observe(label, Math.max(0, now - at.getTime()) / 1_000);
      },
      repeated: (records: number) => repeated.inc(label, records),
      failed: () => failures.inc(label),
    };
  };
}

function watchStandstill(registry: Registry, standing: WorkerParts['standing']): void {
  new Gauge({
    name: 'halyard_work_standing_still',
    help: '1 while the same schedule or audit event has been next for a minute in applying, numbering or forwarding. The log of the worker names the sessions in the way.',
    labelNames: ['work'],
    registers: [registry],
    collect() {
      const works = standing();
      for (const work of ['applying', 'numbering', 'forwarding'])
        this.set({ work }, Number(works.includes(work)));
    },
  });
}

/** Of sinks that don't deliver every event as it is. */
function watchDegraded(registry: Registry, destinations: readonly Destination[]): void {
  new Counter({
    name: 'halyard_delivery_exceptions_total',
    help: 'Audit events delivered under the time of sending (late, ahead) or as a stub (stubbed), or passed over because the destination refuses them (skipped). stubbed, skipped: read them in the database.',
    labelNames: ['destination', 'kind'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { destination, sink } of destinations)
        for (const [kind, count] of Object.entries(sink.degraded?.() ?? {}))
          this.inc({ destination, kind }, count);
    },
  });
}

/** Counters named `halyard_<part>_<key>_total`, with the help of each. */
function makeCounters<K extends string>(
  registry: Registry,
  part: string,
  helps: Record<K, string>,
  labelNames: readonly string[] = [],
) {
  const counters = Object.entries<string>(helps).map(([key, help]) => [
    key,
    new Counter({ name: `halyard_${part}_${key}_total`, help, labelNames, registers: [registry] }),
  ]);
  return Object.fromEntries(counters) as Record<K, Counter>;
}
