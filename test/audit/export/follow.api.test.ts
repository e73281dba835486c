import { describe, expect, test, vi } from 'vitest';
import type { TestApi } from '../../support/api.ts';
import { withClient } from '../../support/database.ts';
import { linesOf } from '../../support/export.ts';
import { adminToken, auditorToken, nowInSeconds } from '../../support/tokens.ts';
import { PATH, WAIT, startSite, flagsOf } from '../../support/export_site.ts';

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
