import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type pg from 'pg';
import { ASKER, loginSettings } from '../postgres/request_settings.ts';
import { queryAs } from '../postgres/transaction.ts';
import { sha256, type Secrets } from './secrets.ts';

/** Characters of a session's tokens: with what is around them, as many as its row takes. */
const MAX_TOKENS = 16_000;

const ID_BYTES = 32;
/** Seconds since 1970, as far as the year 8 million. */
const TIME_BYTES = 6;

/** A person's sign-in: the token, which never leaves the server. */
export interface Session {
  readonly token: string;
  /** The identity provider's, by which it knows whom to sign out; '' where that isn't kept, null for a session that it didn't begin. */
  readonly idToken: string | null;
  readonly expiresAt: Date;
}

/** What a cookie stands for: its session; or the time at which it ended, or would have. */
export type Found =
  | { readonly session: Session; readonly expiresAt: Date }
  | { readonly session: null; readonly expiresAt: Date };

const NO_CLAIMS = Object.freeze({
  ...{ userId: null, email: null, role: null, environments: null, expiresAt: null },
});

export type Sessions = ReturnType<typeof makeSessions>;

/**
 * The sessions of the console: rows under the hash of a random id, which the browser has in a cookie. A cookie is signed, so that one
 * that was made up costs no query, and has its session's end, so that it can be said while the database is away. Nothing is cached:
 * a request costs one indexed read, and a session that ends here ends for all APIs at once; its WebSockets at
 * other APIs stay until its time is over.
 *
 * @param pool the API's
 */
export function makeSessions(pool: pg.Pool, secrets: Secrets) {
  const settings = loginSettings(NO_CLAIMS, { requestId: '' });
  /** Each session has its own share of the connections: its user is known only afterwards, and keeps no other user waiting. */
  function query<R extends pg.QueryResultRow>(
    name: string,
    call: string,
    [idHash, ...values]: [Buffer, ...unknown[]],
  ) {
    const user = `session:${idHash.toString('base64')}`;
    const statement = {
      name,
      text: `select * from app_private.${call}`,
      values: [idHash, ...values],
    };
    return queryAs<R>(pool, { ...settings, [ASKER]: { user, isLimited: true } }, statement);
  }

  function read(cookie: string): { idHash: Buffer; expiresAt: Date } | null {
    const data = secrets.verify('cookie', cookie);
    if (data?.length !== ID_BYTES + TIME_BYTES) return null;
    const expiresAt = new Date(data.readUIntBE(ID_BYTES, TIME_BYTES) * 1_000);
    return { idHash: sha256(data.subarray(0, ID_BYTES)), expiresAt };
  }

  /** What hears of the end of a session here, by the hash of its id. */
  const dropped = new EventEmitter().setMaxListeners(0);

  return {
    /** Whether a session has room for these tokens. */
    hasRoom: (...tokens: readonly string[]) => Buffer.byteLength(tokens.join('')) <= MAX_TOKENS,
    /** Keeps a session. @returns its cookie's value */
    async create({ expiresAt, ...content }: Session): Promise<string> {
      const data = Buffer.alloc(ID_BYTES + TIME_BYTES);
      randomBytes(ID_BYTES).copy(data);
      data.writeUIntBE(Math.floor(expiresAt.getTime() / 1_000), ID_BYTES, TIME_BYTES);
      const idHash = sha256(data.subarray(0, ID_BYTES));
      const sealed = secrets.encrypt('token', JSON.stringify(content), idHash);
      const put = 'put_console_session';
      await query(put, `${put}($1, $2, $3)`, [idHash, sealed, expiresAt]);
      return secrets.sign('cookie', data);
    },
    /** When the session of a cookie ends, without a query; null for a cookie that isn't one of these. */
    endOf: (cookie: string): Date | null => read(cookie)?.expiresAt ?? null,
    /** The session of a cookie; null for a cookie that isn't one of these. */
    async find(cookie: string): Promise<Found | null> {
      const known = read(cookie);
      if (known === null) return null;
      const { idHash, expiresAt } = known;
      const ended = { session: null, expiresAt };
      if (expiresAt.getTime() <= Date.now()) return ended;
      const { rows } = await query<{ token: Buffer }>('console_session', 'console_session($1)', [
        idHash,
      ]);
      const sealed = rows[0]?.token;
      const text = sealed === undefined ? null : secrets.decrypt('token', sealed, idHash);
      if (text === null) return ended;
      const content = JSON.parse(text) as Omit<Session, 'expiresAt'>;
      return { session: { ...content, expiresAt }, expiresAt };
    },
    /** Ends the session of a cookie. */
    async drop(cookie: string): Promise<void> {
      const known = read(cookie);
      if (known === null) return;
      await query('drop_console_session', 'drop_console_session($1)', [known.idHash]);
      dropped.emit(known.idHash.toString('base64'));
    },
    /** Calls when this process drops the session of a cookie. @returns a function that forgets that */
    onDrop(cookie: string, listener: () => void): () => void {
      const event = read(cookie)?.idHash.toString('base64');
      if (event === undefined) return () => undefined;
      dropped.once(event, listener);
      return () => dropped.off(event, listener);
    },
  };
}
