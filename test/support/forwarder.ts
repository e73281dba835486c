import { beforeEach, expect, onTestFinished } from 'vitest';
import { makeForwarder } from '../../src/audit/delivery/forwarder.ts';
import type { Forwarder, ForwarderOptions } from '../../src/audit/delivery/forwarder.ts';
import type { AuditEvent } from '../../src/audit/delivery/sink.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { one } from './factory.ts';
import { makeTestLog } from './log.ts';
import { insertDue, makeMemorySink, useFreshDatabase } from './worker.ts';
import type { MemorySink } from './worker.ts';
import type pg from 'pg';

/** Signals that are never given. */
export const never = new AbortController().signal;
export const signals = { stopping: never, abort: never };
/** Runs until nothing is left: on a slow machine a run may only have skimmed the queue. */
export const finish = (forwarder: Forwarder) =>
  expect.poll(() => forwarder.forward(signals), { timeout: 10_000 }).toBe('done');
/** The numbers from 1. */
export const seqs = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const isSeal = ({ message }: AuditEvent) => message.startsWith('{"eventType": "audit.sealed"');
/** What a sink has taken, without the records of seals. */
export const eventsOf = (sink: MemorySink) => sink.taken.filter((record) => !isSeal(record));
/** The numbers of the events that a sink has taken. */
export const takenBy = (sink: MemorySink) => eventsOf(sink).map(({ seq }) => seq);

/** A forwarder, and the sink it sends to. */
export interface Destination {
  readonly forwarder: Forwarder;
  readonly sink: MemorySink;
}

/** A new database for each test, and forwarders of its trail. */
export function useForwarders() {
  let database: TestDatabase;
  let pool: pg.Pool;

  beforeEach(async () => {
    database = await useFreshDatabase();
    pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
    onTestFinished(() => pool.end());
  });

  return {
    get database() {
      return database;
    },
    /** Of the worker's login. */
    get pool() {
      return pool;
    },
    makeTestForwarder: (options: Partial<ForwarderOptions> = {}): Destination => {
      const sink = makeMemorySink();
      const forwarder = makeForwarder({
        pool,
        sink,
        destination: 'memory',
        log: makeTestLog().log,
        batch: 10,
        ...options,
      });
      return { forwarder, sink };
    },
    /** Makes this many events: one a flag and one a schedule. */
    makeEvents: async (count: number): Promise<void> => {
      await withClient(database.ownerUrl, (client) =>
        insertDue(client, { count: count / 2, dueIn: '1 day' }),
      );
    },
    cursor: async (destination = 'memory'): Promise<number> => {
      const { rows } = await pool.query<{ seq: string }>(
        'select app_private.audit_cursor($1) as seq',
        [destination],
      );
      return Number(one(rows).seq);
    },
  };
}
