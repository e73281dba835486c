import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { cloneDatabase, withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { addEvents, linesOf } from '../../support/export.ts';
import { adminToken } from '../../support/tokens.ts';
import { PATH, WAIT, startSite } from '../../support/export_site.ts';

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
