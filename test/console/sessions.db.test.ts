import { createHash, randomBytes } from 'node:crypto';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

/** The hash of a new session's id. */
const newHash = () => createHash('sha256').update(randomBytes(32)).digest();

async function put(client: pg.ClientBase, hash: Buffer, token: Buffer, seconds = 60) {
  await client.query(
    `select app_private.put_console_session($1, $2, clock_timestamp() + $3 * interval '1 second')`,
    [hash, token, seconds],
  );
}

async function tokenOf(client: pg.ClientBase, hash: Buffer): Promise<Buffer | undefined> {
  const { rows } = await client.query<{ token: Buffer; expires_at: Date }>(
    'select * from app_private.console_session($1)',
    [hash],
  );
  return rows[0]?.token;
}

const count = (seconds: number) =>
  withClient(database.ownerUrl, (client) =>
    value<number>(
      client,
      `select count(*)::int from app_private.console_sessions where expires_at < clock_timestamp() - $1 * interval '1 second'`,
      [seconds],
    ),
  );

test('a session is there until it is dropped, and no other is', async () => {
  await withClient(database.authenticatorUrl, async (client) => {
    const [hash, other] = [newHash(), newHash()];
    await put(client, hash, Buffer.from('encrypted'));
    await put(client, other, Buffer.from('another'));
    expect(await tokenOf(client, hash)).toEqual(Buffer.from('encrypted'));
    expect(await tokenOf(client, newHash())).toBeUndefined();

    await client.query('select app_private.drop_console_session($1)', [hash]);
    await client.query('select app_private.drop_console_session($1)', [hash]);
    expect(await tokenOf(client, hash)).toBeUndefined();
    expect(await tokenOf(client, other)).toEqual(Buffer.from('another'));
  });
});

test('one that has expired is not found, and new ones delete such, a hundred at a time', async () => {
  await withClient(database.authenticatorUrl, async (client) => {
    const expired = newHash();
    await put(client, expired, Buffer.from('over'), 0);
    expect(await tokenOf(client, expired)).toBeUndefined();
    await withClient(database.ownerUrl, (owner) =>
      owner.query(
        `insert into app_private.console_sessions (id_hash, token, expires_at)
         select sha256(n::text::bytea), 'x', clock_timestamp() - n * interval '1 hour' from generate_series(1, 120) as n`,
      ),
    );
    const live = newHash();
    await put(client, live, Buffer.from('live'));
    // The oldest go first; with the one at the top, 21 are left.
    expect([await count(0), await count(21 * 3600)]).toEqual([21, 0]);
    await put(client, newHash(), Buffer.from('live'));
    expect(await count(0)).toBe(0);
    expect(await tokenOf(client, live)).toEqual(Buffer.from('live'));
  });
});

test('a session takes the place of no other, and what is no session is refused', async () => {
  await withClient(database.authenticatorUrl, async (client) => {
    await client.query('begin');
    const hash = newHash();
    await put(client, hash, Buffer.from('mine'));
    const endless = `select app_private.put_console_session($1, 'x', 'infinity')`;
    const refused = [
      await sqlStateOf(client, () => put(client, hash, Buffer.from('theirs'))),
      await sqlStateOf(client, () => put(client, Buffer.from('short'), Buffer.from('x'))),
      await sqlStateOf(client, () => put(client, newHash(), Buffer.alloc(0))),
      await sqlStateOf(client, () => put(client, newHash(), Buffer.alloc(16_385))),
      await sqlStateOf(client, () => client.query(endless, [newHash()])),
    ];
    expect(refused).toEqual(['23505', '23514', '23514', '23514', '23514']);
    expect(await tokenOf(client, hash)).toEqual(Buffer.from('mine'));
    await client.query('rollback');
  });
});
