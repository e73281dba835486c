import type pg from 'pg';
import type { Logger } from '../log.ts';
import type { AuditEvent, Sink } from './sink.ts';

/**
 * How a run ended. done: everything that was in the trail is delivered; busy: another forwarder is at work;
 * overtaken: the cursor was moved by somebody else meanwhile; stopped: asked to, more may be left.
 */
export type Outcome = 'done' | 'busy' | 'overtaken' | 'stopped';

export interface Forwarder {
  /**
   * Delivers what the destination hasn't confirmed. What was in flight when it throws, or the process dies, is sent again.
   *
   * @param signals.stopping ends it after the batch in hand
   * @param signals.abort gives up the batch in hand as well
   * @throws the sink's or the database's error
   */
  forward(signals: { stopping: AbortSignal; abort: AbortSignal }): Promise<Outcome>;
  /** The last seq that the destination confirmed, and whether numbered events wait behind it. */
  position(): Promise<{ cursor: number; behind: boolean }>;
}

export interface ForwarderOptions {
  readonly pool: pg.Pool;
  readonly sink: Sink;
  /** The cursor's name. */
  readonly destination: string;
  readonly log: Logger;
  /** Events at a time; 1,000 by default. */
  readonly batch?: number;
}

/**
 * A forwarder that is frozen keeps its connection, and so its lock, for ever. The server ends a session that has asked
 * nothing for this long, above what a sink takes for its worst batch, and another forwarder can take over.
 */
const LEASE = '10min';

const LOCK_KEY = `hashtextextended('halyard.forward.' || $1, 0)`;

interface Row {
  readonly from_seq: string;
  readonly seq: string | null;
  readonly event_id: string;
  readonly occurred_at: Date;
  readonly message: string;
}

/** Copies the trail to one destination: number the events, send them, move the cursor. At least once, in order of seq. */
export function makeForwarder(options: ForwarderOptions): Forwarder {
  const { pool, sink, destination, log, batch = 1_000 } = options;

  /** One at a time for a destination, among all processes; a second one leaves at once. */
  async function forward(signals: { stopping: AbortSignal; abort: AbortSignal }): Promise<Outcome> {
    const client = await pool.connect();
    try {
      if (!(await tryLock(client, destination))) {
        client.release();
        return 'busy';
      }
      const outcome = await drain(client, signals);
      await unlock(client, destination);
      client.release();
      return outcome;
    } catch (error) {
      // At once if that can be; if not, closing the connection gives the lock back a moment later.
      const unlocked = await unlock(client, destination).then(
        () => true,
        () => false,
      );
      client.release(!unlocked);
      throw error;
    }
  }

  async function drain(
    client: pg.PoolClient,
    { stopping, abort }: { stopping: AbortSignal; abort: AbortSignal },
  ): Promise<Outcome> {
    while (!stopping.aborted) {
      const sequenced = await sequence(client, batch);
      const { from, events } = await readBatch(client, destination, batch);
      const last = events.at(-1);
      if (last === undefined && sequenced < batch) return 'done';
      if (last === undefined) continue;
      await sink.send(events, abort);
      if (!(await advance(client, destination, from, last.seq))) {
        log.warn(
          { destination, from, to: last.seq },
          'another forwarder has moved the cursor meanwhile; these events were sent twice',
        );
        return 'overtaken';
      }
      log.debug({ destination, from, to: last.seq }, 'audit events were delivered');
    }
    return 'stopped';
  }

  return {
    forward,
    async position() {
      const { from, events } = await readBatch(pool, destination, 1);
      return { cursor: from, behind: events.length > 0 };
    },
  };
}

async function tryLock(client: pg.PoolClient, destination: string): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    `select locked, case when locked then set_config('idle_session_timeout', $2, false) end
     from (select pg_try_advisory_lock(${LOCK_KEY}) as locked offset 0) as try`,
    [destination, LEASE],
  );
  return rows[0]?.locked === true;
}

async function unlock(client: pg.PoolClient, destination: string): Promise<void> {
  await client.query(
    `select pg_advisory_unlock(${LOCK_KEY}), set_config('idle_session_timeout', '0', false)`,
    [destination],
  );
}

/** Numbers new events; how many. */
async function sequence(client: pg.PoolClient, batch: number): Promise<number> {
  const { rows } = await client.query<{ sequenced: number }>(
    'select app_private.sequence_audit_events($1) as sequenced',
    [batch],
  );
  return rows[0]?.sequenced ?? 0;
}

/** The cursor and what is behind it, in one statement, so that they fit each other. */
async function readBatch(
  client: pg.Pool | pg.PoolClient,
  destination: string,
  batch: number,
): Promise<{ from: number; events: AuditEvent[] }> {
  const { rows } = await client.query<Row>(
    `select c.from_seq, e.seq, e.event_id, e.occurred_at, e.message
     from (select app_private.audit_cursor($1) as from_seq) as c
     left join app_private.undelivered_audit_events($1, $2) as e on true
     order by e.seq`,
    [destination, batch],
  );
  return {
    from: Number(rows[0]?.from_seq ?? 0),
    events: rows.flatMap((row) => (row.seq === null ? [] : [toEvent(row, row.seq)])),
  };
}

function toEvent(row: Row, seq: string): AuditEvent {
  return {
    seq: Number(seq),
    eventId: row.event_id,
    occurredAt: row.occurred_at,
    message: row.message,
  };
}

async function advance(
  client: pg.PoolClient,
  destination: string,
  from: number,
  to: number,
): Promise<boolean> {
  const { rows } = await client.query<{ moved: boolean }>(
    'select app_private.advance_audit_cursor($1, $2, $3) as moved',
    [destination, from, to],
  );
  return rows[0]?.moved === true;
}
