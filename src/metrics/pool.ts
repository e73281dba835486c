import { Gauge, type Registry } from 'prom-client';
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
