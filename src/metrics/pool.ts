import { Counter, Gauge, type Registry } from 'prom-client';
import type pg from 'pg';

import { waitingFor } from '../postgres/fair_pool.ts';

/** Gauges of how much of a pool of connections is in use. @param part both may be in one process */
export function watchPool(registry: Registry, part: 'api' | 'worker', pool: pg.Pool): void {
  new Gauge({
    name: `halyard_${part}_pool_connections`,
    help: `Connections of the pool of the ${part}. All in use for long: queries are slow, or one hangs.`,
    labelNames: ['state'],
    registers: [registry],
    collect() {
      this.set({ state: 'idle' }, pool.idleCount);
      this.set({ state: 'in_use' }, pool.totalCount - pool.idleCount);
    },
  });
  watch(registry, `halyard_${part}_pool_waiting`, {
    help: `What waits for a connection of the ${part}. More than 0 for long: queries are slow, or too many are asked.`,
    read: () => waitingFor(pool),
  });
}

/** A gauge that is read at each scrape. */
export function watch(
  registry: Registry,
  name: string,
  { help, read }: { help: string; read: () => number },
): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/** The counter of the notifications that a listener ignored, read at each scrape. @param part both may be in one process */
export function watchIgnored(registry: Registry, part: 'api' | 'worker', read: () => number): void {
  new Counter({
    name: `halyard_${part}_notifications_ignored_total`,
    help: `Notifications on halyard_audit that the ${part} ignored, because they are none of Halyard's or too many. Rising: a login floods the channel.`,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}
