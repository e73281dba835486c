import { once } from 'node:events';
import { connect } from 'node:net';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { TestApi } from '../../support/api.ts';
import { cloneDatabase, withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { addMany, linesOf, number } from '../../support/export.ts';
import { auditorToken, nowInSeconds } from '../../support/tokens.ts';
import { PATH, WAIT, startSite, flagsOf } from '../../support/export_site.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

describe('a stream', () => {
  // Longer than everything that lies between the database and a client holds.
  const count = 25_000;
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
    // The rows alone of all pages would be 20 MB.
    let lines = 0;
    let before: number | undefined;
    for await (const chunk of response) {
      lines += String(chunk).split('\n').length - 1;
      if (lines > 5_000) before ??= heap();
    }
    expect(lines).toBe(count);
    expect(heap() - Number(before)).toBeLessThan(10_000_000);
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
