import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';

import { startTestApi } from '../../support/api.ts';
import type { TestApi } from '../../support/api.ts';
import { cloneDatabase, withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { addEvents, addMany, linesOf, number, openStream } from '../../support/export.ts';
import type { Stream } from '../../support/export.ts';
import { adminToken, auditorToken, nowInSeconds } from '../../support/tokens.ts';

const PATH = '/api/admin/audit/events';
const WAIT = { timeout: 10_000, interval: 20 };

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Site {
  readonly database: TestDatabase;
  readonly api: TestApi;
  readonly open: (
    query: string,
    options?: { token?: string; accept?: string; paused?: boolean },
  ) => Promise<Stream>;
  readonly add: (...events: Parameters<typeof addEvents>[1]) => Promise<void>;
}

/** A database, a clone of that one, and an API of one test's own: what is tested here ends them, or breaks them. */
async function startSite(
  template?: TestDatabase,
  env: Readonly<Record<string, string>> = {},
): Promise<Site> {
  const database = await cloneDatabase(template?.name);
  onTestFinished(() => database.drop());
  const api = await startTestApi(database.authenticatorUrl, { drainMs: 3_000, env });
  onTestFinished(() => api.close());
  return {
    database,
    api,
    async open(query, { token = auditorToken(), ...options } = {}) {
      const stream = await openStream(`${api.url}${PATH}?${query}`, token, options);
      onTestFinished(() => stream.destroy());
      return stream;
    },
    add: (...events) => withClient(database.ownerUrl, (client) => addEvents(client, events)),
  };
}

const flagsOf = (stream: Stream) => linesOf(stream.text()).map(({ flag_key }) => flag_key);

describe('a follower', () => {
  test('gets what is there, and what is written later, in order and once', async () => {
    const { add, open } = await startSite();
    await add({ flag: 'a' }, { flag: 'other', environment: 'staging' });
    const all = await open('follow=true');
    const some = await open('follow=true&environment=production&flag=b');
    const limited = await open('follow=true', {
      token: adminToken({ environments: ['production'] }),
    });
    await vi.waitFor(() => expect(flagsOf(all)).toEqual(['a', 'other']), WAIT);
    await add({ flag: 'b' });
    await add({ flag: 'c' }, { flag: 'b', environment: 'staging' });
    const ofFlags = () => flagsOf(all).filter((flag) => flag !== null);
    await vi.waitFor(() => expect(ofFlags()).toEqual(['a', 'other', 'b', 'c', 'b']), WAIT);
    await vi.waitFor(() => expect(flagsOf(limited)).toEqual(['a', 'b', 'c']), WAIT);
    await vi.waitFor(() => expect(flagsOf(some)).toEqual(['b']), WAIT);
    const seqs = linesOf(all.text()).map(({ seq }) => seq);
    expect(seqs).toEqual(seqs.map((_, i) => i + 1));
  });

  test('gets the head of the answer at once, also without any event, and CSV as well', async () => {
    const { add, open } = await startSite();
    const ndjson = await open('follow=true&flag=x');
    const csv = await open('follow=true&flag=x', { accept: 'text/csv' });
    await vi.waitFor(() => expect(csv.text()).toMatch(/^seq,.*\r\n$/), WAIT);
    expect(ndjson.response.statusCode).toBe(200);
    await add({ flag: 'x' });
    await vi.waitFor(() => expect(csv.text().split('\r\n')).toHaveLength(3), WAIT);
  });

  test('goes on behind the seq that it has', async () => {
    const { add, open } = await startSite();
    await add({ flag: 'a' }, { flag: 'b' });
    const stream = await open('follow=true&after=1&flag=b');
    await vi.waitFor(() => expect(flagsOf(stream)).toEqual(['b']), WAIT);
    const ahead = await open('follow=true&after=3&actor=nobody');
    await add({ flag: 'c', userId: 'nobody' });
    await add(...['d', 'e', 'f'].map((flag) => ({ flag, userId: 'nobody' })));
    await vi.waitFor(() => expect(flagsOf(ahead).at(-1)).toBe('f'), WAIT);
    const seqs = linesOf(ahead.text()).map(({ seq }) => Number(seq));
    expect(Math.min(...seqs)).toBeGreaterThan(3);
  });

  test('ends with all that was asked for when there is a limit', async () => {
    const { add, open } = await startSite();
    const stream = await open('follow=true&limit=2&flag=a');
    await add({ flag: 'a' }, { flag: 'b' }, { flag: 'a' }, { flag: 'a' });
    expect(await stream.ended).toBe(true);
    expect(flagsOf(stream)).toEqual(['a', 'a']);
  });

  test('ends, whole, when its token expires', async () => {
    const { open } = await startSite();
    const expires = nowInSeconds() + 2;
    const stream = await open('follow=true', { token: auditorToken({ exp: expires }) });
    expect(await stream.ended).toBe(true);
    expect(Date.now() / 1_000).toBeGreaterThanOrEqual(expires);
  });

  test('ends, whole and at once, when the server stops', async () => {
    const { api, add, open } = await startSite();
    await add({ flag: 'a' });
    const stream = await open('follow=true');
    await vi.waitFor(() => expect(flagsOf(stream)).toEqual(['a']), WAIT);
    const begun = performance.now();
    await api.close();
    expect(await stream.ended).toBe(true);
    expect(performance.now() - begun).toBeLessThan(1_500);
    expect(api.lines.filter(({ msg }) => msg === 'requests did not finish in time')).toEqual([]);
  });
});

describe('a place', () => {
  const headers = { accept: 'application/x-ndjson' };
  const refusalOf = async (api: TestApi, query: string, user: string) => {
    const token = auditorToken({ userId: user });
    const refused = await api.call(`GET ${PATH}?${query}`, { token, headers });
    expect(refused.headers.get('retry-after')).toBe('1');
    return [refused.status, refused.body.code];
  };

  test('is had by so many of a user, and so many of all, follower or not, until they end', async () => {
    const { api, open } = await startSite(undefined, { STREAMS: '3', STREAMS_PER_USER: '2' });
    const streams = [await open('follow=true'), await open('follow=true')];
    for (const query of ['follow=true', 'flag=x'])
      expect(await refusalOf(api, query, 'olga')).toEqual([429, 'too_many_streams']);
    streams.push(await open('follow=true', { token: auditorToken({ userId: 'bob' }) }));
    for (const query of ['follow=true', 'flag=x'])
      expect(await refusalOf(api, query, 'carol')).toEqual([503, 'too_many_streams']);
    // A page of JSON is no stream, and what asks for no rows takes no place.
    expect((await api.call(`GET ${PATH}`, { token: auditorToken() })).status).toBe(200);
    expect((await api.call(`HEAD ${PATH}`, { token: auditorToken(), headers })).status).toBe(200);
    streams[0]?.destroy();
    await vi.waitFor(async () => {
      const stream = await open('flag=x', { token: auditorToken({ userId: 'carol' }) });
      expect(stream.response.statusCode).toBe(200);
      expect(await stream.ended).toBe(true);
    }, WAIT);
  });

  test('is given back by a stream that fails before it begins', async () => {
    const { api, database, open } = await startSite(undefined, {
      STREAMS: '1',
      STREAMS_PER_USER: '1',
    });
    const grants = (sql: string) => withClient(database.ownerUrl, (client) => client.query(sql));
    await grants('revoke select on audit.ledger from halyard_auditor');
    const { status } = await api.call(`GET ${PATH}`, { token: auditorToken(), headers });
    // An empty trail isn't looked into.
    expect([200, 500]).toContain(status);
    await grants('grant select on audit.ledger to halyard_auditor');
    expect((await open('')).response.statusCode).toBe(200);
  });
});

describe('a stream', () => {
  // Longer than everything that lies between the database and a client holds.
  const count = 40_000;
  let long: TestDatabase;
  beforeAll(async () => {
    long = await cloneDatabase();
    await withClient(long.ownerUrl, (client) => addMany(client, count));
  });
  afterAll(() => long.drop());

  test('has every event once, over many pages, though they have one time', async () => {
    const { database, open } = await startSite();
    await withClient(database.ownerUrl, (client) => addMany(client, 5_500));
    for (const query of ['', 'flag=many', 'environment=production']) {
      const stream = await open(query);
      expect(await stream.ended).toBe(true);
      const seqs = linesOf(stream.text()).map(({ seq }) => seq);
      expect(seqs).toEqual(Array.from({ length: 5_500 }, (_, i) => i + 1));
    }
  });

  test('ends at the end that the trail had when it began', async () => {
    const { database, add, open } = await startSite();
    await withClient(database.ownerUrl, (client) => addMany(client, 15_000));
    const stream = await open('', { paused: true });
    await add({ flag: 'later' });
    stream.response.resume();
    let text = '';
    stream.response.on('data', (chunk: string) => (text += chunk));
    expect(await stream.ended).toBe(true);
    expect(linesOf(text)).toHaveLength(15_000);
  });

  test('reads no further ahead of a slow reader than buffers go, and holds no transaction', async () => {
    const { database, open } = await startSite(long);
    const stream = await open('', { paused: true });
    await withClient(database.rootUrl, (client) =>
      vi.waitFor(async () => {
        const { rows } = await client.query<{ state: string; resting: boolean }>(
          `select state, state_change < clock_timestamp() - interval '1.5 seconds' as resting
           from pg_stat_activity where application_name = 'halyard-api' and datname = current_database()`,
        );
        expect(rows.length).toBeGreaterThan(0);
        for (const row of rows) expect(row).toEqual({ state: 'idle', resting: true });
      }, WAIT),
    );
    // Had it all been read by now, it would all arrive.
    await withClient(database.ownerUrl, (client) =>
      client.query('revoke select on audit.ledger from halyard_auditor'),
    );
    let lines = 0;
    stream.response.on('data', (chunk: string) => (lines += chunk.split('\n').length - 1));
    expect(await stream.ended).toBe(false);
    expect(lines).toBeGreaterThan(0);
    expect(lines).toBeLessThan(count);
  });

  test('keeps nothing of what has gone out, however long it is', async () => {
    const { open } = await startSite(long);
    const stream = await open('', { paused: true });
    const { response } = stream;
    const heap = () => {
      collectGarbage();
      return getHeapStatistics().used_heap_size;
    };
    // The rows alone of all pages would be 30 MB.
    let lines = 0;
    let before: number | undefined;
    for await (const chunk of response) {
      lines += String(chunk).split('\n').length - 1;
      if (lines > 5_000) before ??= heap();
    }
    expect(lines).toBe(count);
    expect(heap() - Number(before)).toBeLessThan(15_000_000);
    expect(response.complete).toBe(true);
  });

  const cutOffs = (api: TestApi) =>
    api.lines
      .filter(({ msg }) => msg === 'an export was cut off')
      .map(({ level, reason }) => [level, reason]);

  test('of which nothing is read is cut off, and never looks whole', async () => {
    const { api, open } = await startSite(long, { STREAM_WRITE_TIMEOUT: '1', STREAMS: '1' });
    const stream = await open('', { paused: true });
    await vi.waitFor(() => expect(cutOffs(api)).toHaveLength(1), WAIT);
    expect(cutOffs(api)).toEqual([['warn', 'Its client read nothing for 1000 ms.']]);
    stream.response.resume();
    expect(await stream.ended).toBe(false);
    // Its place is free.
    expect((await open('limit=1')).response.statusCode).toBe(200);
  });

  test('is no other answer: a page of JSON is cut off, too', async () => {
    const { database, api } = await startSite(undefined, { STREAM_WRITE_TIMEOUT: '1' });
    const { hostname, port } = new URL(api.url);
    const socket = connect(Number(port), hostname).on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    await withClient(database.ownerUrl, (client) => addMany(client, 700));
    const page = `GET ${PATH}?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${auditorToken()}\r\n\r\n`;
    // More pages than all buffers on the way have room for.
    socket.write(page.repeat(30));
    const cut = () => api.lines.filter(({ msg }) => msg === 'an answer was cut off');
    await vi.waitFor(() => expect(cut()).toHaveLength(1), WAIT);
    expect(cut()[0]).toMatchObject({ level: 'warn' });
  });

  test('that is read slowly, but goes on, is not cut off', async () => {
    const { api, open } = await startSite(long, { STREAM_WRITE_TIMEOUT: '2' });
    const { response, ended } = await open('limit=20000', { paused: true });
    const begun = performance.now();
    let lines = 0;
    for await (const chunk of response) {
      lines += String(chunk).split('\n').length - 1;
      if (performance.now() - begun < 3_000) await once(stopwatch(20), 'abort');
    }
    expect(lines).toBe(20_000);
    expect(await ended).toBe(true);
    expect(cutOffs(api)).toEqual([]);
  });

  test('ends as no whole one when its token expires, and nothing is sent after that', async () => {
    const { api, open } = await startSite(long);
    const exp = nowInSeconds() + 2;
    const stream = await open('', { token: auditorToken({ exp }), paused: true });
    await vi.waitFor(() => expect(cutOffs(api)).toHaveLength(1), WAIT);
    expect(Date.now() / 1_000).toBeGreaterThanOrEqual(exp);
    expect(cutOffs(api)).toEqual([['warn', 'Its token expired.']]);
    stream.response.resume();
    expect(await stream.ended).toBe(false);
    // Within the tolerance of clocks the token still counts, and its exports are over.
    for (const accept of ['application/x-ndjson', 'text/csv']) {
      const call = { token: auditorToken({ exp }), headers: { accept } };
      const { status, body } = await api.call(`GET ${PATH}`, call);
      expect([status, body.code]).toEqual([401, 'token_expired']);
    }
  });

  test('stops reading when the client goes', async () => {
    const { api, open } = await startSite(long);
    const stream = await open('', { paused: true });
    stream.destroy();
    const gone = () => api.lines.some(({ msg }) => msg === 'the client went away');
    await vi.waitFor(() => expect(gone()).toBe(true), WAIT);
    expect(api.lines.filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });

  test('that fails half-way is broken off, and never looks whole', async () => {
    const { database, api, open } = await startSite(long);
    const stream = await open('', { paused: true });
    await withClient(database.ownerUrl, (client) =>
      client.query('revoke select on audit.ledger from halyard_auditor'),
    );
    stream.response.resume();
    expect(await stream.ended).toBe(false);
    expect(api.lines.filter(({ msg }) => msg === 'request')).toMatchObject([{ status: null }]);
  });

  test('that can’t begin is a problem, as anywhere', async () => {
    const { database, api, add } = await startSite();
    await add({ flag: 'a' });
    await withClient(database.ownerUrl, (client) =>
      client.query('revoke select on audit.ledger from halyard_auditor'),
    );
    const headers = { accept: 'text/csv' };
    const answer = await api.call(`GET ${PATH}`, { token: auditorToken(), headers });
    expect([answer.status, answer.body.code]).toEqual([500, 'internal_error']);
    expect(answer.headers.get('content-type')).toMatch('application/problem+json');
    expect(answer.headers.get('content-disposition')).toBeNull();
  });
});

/** A signal that is raised after so many milliseconds: for a client that takes its time. */
const stopwatch = (ms: number) => AbortSignal.timeout(ms);

describe('events of megabytes', () => {
  const texts = ['"quoted" € \\ 😀\n', 'plain '].map((text) =>
    text.repeat(1_200_000 / text.length),
  );
  let large: TestDatabase;
  beforeAll(async () => {
    large = await cloneDatabase();
    await withClient(large.ownerUrl, (client) =>
      addEvents(client, [
        { flag: 'small' },
        ...texts.map((text) => ({ flag: 'large', metadata: { text } })),
        { flag: 'small', metadata: { text: 'x'.repeat(300_000) } },
        { flag: 'small', metadata: { text: 'y'.repeat(300_000) } },
        { flag: 'small', metadata: { text: 'z'.repeat(300_000) } },
      ]),
    );
  });
  afterAll(() => large.drop());

  /** The leaf of each event, as the ledger has it. */
  const leaves = () =>
    withClient(large.ownerUrl, async (client) => {
      const { rows } = await client.query<{ leaf: string }>(
        `select encode(leaf, 'hex') as leaf from audit.ledger order by seq`,
      );
      return rows.map(({ leaf }) => leaf);
    });
  const leafOf = ({ message }: Record<string, unknown>) =>
    createHash('sha256')
      .update(`\0${String(message)}`)
      .digest('hex');
  const textsOf = (events: readonly Record<string, unknown>[]) =>
    events.map(({ metadata }) => (metadata as { text?: string }).text?.length);
  const lengths = [undefined, ...texts.map(({ length }) => length), 300_000, 300_000, 300_000];

  test('arrive whole, in both orders and as CSV', async () => {
    const { open } = await startSite(large);
    const stream = await open('until=6');
    expect(await stream.ended).toBe(true);
    const events = linesOf(stream.text());
    expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(events.map(leafOf)).toEqual((await leaves()).slice(0, 6));
    expect(textsOf(events)).toEqual(lengths);
    const backwards = await open('until=6&order=desc');
    expect(await backwards.ended).toBe(true);
    expect(linesOf(backwards.text())).toEqual(events.toReversed());
    const csv = await open('after=1&until=3', { accept: 'text/csv' });
    expect(await csv.ended).toBe(true);
    const cells = csv.text().matchAll(/,false,"(\{(?:[^"]|"")*\})"\r\n/g);
    const metadata = Array.from(
      cells,
      ([, cell = '']) => JSON.parse(cell.replaceAll('""', '"')) as object,
    );
    expect(metadata).toEqual(texts.map((text) => ({ text })));
  });

  test('are a page of JSON each, and so are some that come to a megabyte together', async () => {
    const { api } = await startSite(large);
    const token = adminToken();
    const pages: unknown[][] = [];
    let next: string | undefined = `${PATH}?until=6`;
    while (next !== undefined) {
      const { headers, body } = await api.call(`GET ${next}`, { token });
      pages.push((body as unknown as Record<string, unknown>[]).map(({ seq }) => seq));
      next = /^<([^>]+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1];
    }
    expect(pages).toEqual([[1], [2], [3], [4, 5], [6]]);
  });

  test('are read in pieces, no further ahead than the client reads', async () => {
    const { api, open } = await startSite(large, { STREAM_WRITE_TIMEOUT: '1' });
    for (const accept of ['application/x-ndjson', 'application/json']) {
      const stream = await open('after=1', { accept, paused: true });
      stream.destroy();
      await vi.waitFor(
        () => expect(api.lines.filter(({ msg }) => msg === 'the client went away')).not.toEqual([]),
        WAIT,
      );
    }
    expect(api.lines.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

describe('when the trail can’t be written', () => {
  const breakTrail = (database: TestDatabase) =>
    withClient(database.ownerUrl, (client) =>
      client.query(
        `alter table audit.events add constraint broken check (event_type <> 'audit.exported')`,
      ),
    );

  test('the export is made, and its record is a dead letter', async () => {
    const { database, add, open } = await startSite();
    await add({ flag: 'a' });
    await breakTrail(database);
    const stream = await open('');
    expect(await stream.ended).toBe(true);
    expect(flagsOf(stream)).toEqual(['a']);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query(`select content ->> 'operation' as operation from audit.dead_letters`),
    );
    expect(rows).toEqual([{ operation: 'EXPORT' }]);
  });

  test('in strict mode nothing is handed out', async () => {
    const { database, api, add } = await startSite();
    await add({ flag: 'a' });
    await withClient(database.ownerUrl, (client) =>
      client.query(`select app_private.set_setting('audit_mode', 'strict')`),
    );
    await breakTrail(database);
    for (const accept of ['application/json', 'application/x-ndjson', 'text/csv']) {
      const answer = await api.call(`GET ${PATH}`, { token: auditorToken(), headers: { accept } });
      expect([answer.status, answer.body.code]).toEqual([503, 'audit_unavailable']);
    }
  });
});

test('the record is written before the first row goes out', async () => {
  const { database, open } = await startSite();
  await withClient(database.ownerUrl, (client) => addMany(client, 3_000));
  const stream = await open('', { paused: true });
  await once(stream.response, 'readable');
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query(
      `select 1 from audit.events where event_type = 'audit.exported'`,
    );
    expect(rows).toHaveLength(1);
    await number(client);
  });
  stream.destroy();
});
