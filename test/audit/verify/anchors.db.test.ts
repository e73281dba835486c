import { beforeAll, describe, expect, test } from 'vitest';
import { checkAnchors, NoAnchorsError } from '../../../src/audit/verification/anchors.ts';
import { verifyTrail } from '../../../src/audit/verification/verify.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../../support/database.ts';
import { sealFlags, tamper } from '../../support/sealed_trail.ts';
import { ALL, copyOf, poolOf, sealedDatabase } from '../../support/sealed_database.ts';

async function tamperWith({ rootUrl }: TestDatabase, ...statements: string[]): Promise<void> {
  await withClient(rootUrl, async (client) => {
    await client.query('begin');
    await tamper(client, ...statements);
    await client.query('commit');
  });
}

describe('anchors', () => {
  let own: TestDatabase;
  let copy: string[];
  beforeAll(async () => {
    own = await cloneDatabase();
    await withClient(own.rootUrl, (client) => sealFlags(client, 25));
    copy = await copyOf(own);
    return () => own.drop();
  });

  const brief = async (target: TestDatabase, lines: readonly string[]) =>
    (await checkAnchors(poolOf(target), lines)).problems.map(({ status, seal, seqs }) => [
      status,
      seal,
      seqs,
    ]);
  const sealLine = (seal: number) =>
    copy.find((line) => line.includes(`"metadata": {"seal": ${seal},`)) ?? '';

  test('that agree are counted, and how far they reach is told', async () => {
    expect(await checkAnchors(poolOf(own), [...copy, ...copy])).toEqual({
      ...{ anchored: 3, matching: 3, copies: 50, last: { seal: 3, seq: 25 } },
      ...{ behind: 0, unanchored: 0, lost: [], problems: [], sealsOnly: false },
      coverage: { first: 1, last: 25, missing: 0, gaps: [] },
    });
    const report = await checkAnchors(poolOf(own), ['noise', sealLine(2)]);
    expect(report).toMatchObject({ matching: 1, behind: 1, unanchored: 1, problems: [] });
    expect(report.last).toEqual({ seal: 2, seq: 20 });
  });

  test('are missed when there are none', async () => {
    await expect(checkAnchors(poolOf(own), ['noise', copy[0] ?? ''])).rejects.toThrow(
      NoAnchorsError,
    );
  });

  test('find an event of the copy whose text is not what was sealed', async () => {
    const lines = copy.map((line, i) => (i === 3 ? line.replace('production', 'staging') : line));
    expect(await brief(own, lines)).toEqual([['copy_differs', null, [4]]]);
  });

  test('that have gaps between their first event and their last are incomplete, in any order', async () => {
    const without = (...seqs: number[]) =>
      copy.filter((line) => !seqs.some((seq) => line.includes(`"seq": ${seq}, `)));
    // A copy begins when its destination was first used, and ends where it has come to.
    expect(await brief(own, without(1, 2, 3, 25))).toEqual([]);
    expect(await brief(own, without(7))).toEqual([['copy_incomplete', null, [7]]]);
    const torn = without(1, 5, 6, 20).toReversed();
    expect(await brief(own, torn)).toEqual([['copy_incomplete', null, [5, 6, 20]]]);
    // Several streams are one copy.
    expect(await brief(own, [...without(7), ...without(12), ...without(7, 12)])).toEqual([]);
  });

  test('count stubs, and what stands for events that were purged, as there', async () => {
    const placeholder = (of: string, extra: string) => {
      const { eventId, seq } = JSON.parse(of) as { eventId: string; seq: number };
      return `{"eventType": "x", "eventId": "${eventId}", "seq": ${seq}, ${extra}}`;
    };
    const seqOf = (line: string) => Number(/"seq": (\d+)/.exec(line)?.[1] ?? 0);
    const lines = copy.map((line) =>
      seqOf(line) === 4
        ? placeholder(line, '"truncated": true')
        : seqOf(line) === 5
          ? placeholder(line, '"purged": true')
          : line,
    );
    expect(await brief(own, lines)).toEqual([]);
    // Numbers that the ledger doesn't know make no gap.
    const beyond = placeholder('{"eventId": "x", "seq": 900000000000}', '"truncated": true');
    expect(await brief(own, [...lines, beyond])).toEqual([]);
  });

  test('of which a source gives the seals only are incomplete where a seal is missing between', async () => {
    const lines = [1, 3].map(sealLine);
    expect(await brief(own, lines), 'not every seal needs an anchor').toEqual([]);
    const options = { sealsOnly: true };
    const report = await checkAnchors(poolOf(own), lines, options);
    expect(report).toMatchObject({ coverage: null, problems: [{ status: 'copy_incomplete' }] });
    expect(report.problems[0]?.detail).toContain('lacks the seals 2, and');
    const later = await checkAnchors(poolOf(own), [2, 3].map(sealLine), options);
    expect(later.problems).toEqual([]);
  });

  test('that were changed themselves are told, and those of another trail', async () => {
    const forged = sealLine(2).replace(/"root": "../, '"root": "00');
    expect(await brief(own, [forged])).toEqual([['anchor_broken', 2, []]]);
    const other = await sealedDatabase();
    const foreign = (await copyOf(other)).filter((line) => line.includes('"seal": 1,'));
    expect(await brief(own, foreign)).toEqual([['seal_rewritten', 1, []]]);
    expect(await brief(own, [...foreign, ...copy])).toEqual([['anchors_disagree', 1, []]]);
  });

  test('find a seal that keeps its head and says something else', async () => {
    for (const change of [`root = sha256('')`, 'last_seq = 19', `sealed_at = '2026-01-01'`]) {
      const changed = await sealedDatabase();
      const before = await copyOf(changed);
      await tamperWith(changed, `update audit.seals set ${change} where seal_no = 2`);
      expect(await brief(changed, before), change).toEqual([['seal_rewritten', 2, []]]);
    }
  });

  test('find a trail that was rewritten throughout, and agrees with itself', async () => {
    const rewritten = await sealedDatabase();
    const before = await copyOf(rewritten);
    await tamperWith(
      rewritten,
      `update audit.events set environment = 'staging', payload = replace(payload, '"production"', '"staging"')
       where id = (select event_id from audit.ledger where seq = 12)`,
      `update audit.ledger l
       set leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq)), environment = e.environment
       from audit.events e where e.id = l.event_id`,
      'delete from audit.seals where seal_no >= 2',
      `select app_private.write_seal(s, 11, array(select leaf from audit.ledger where seq between 11 and 20 order by seq))
       from audit.seals s where seal_no = 1`,
      `select app_private.write_seal(s, 21, array(select leaf from audit.ledger where seq > 20 order by seq))
       from audit.seals s where seal_no = 2`,
    );
    expect((await verifyTrail(poolOf(rewritten), ALL)).problems).toEqual([]);
    expect(await brief(rewritten, before)).toEqual([
      ['seal_rewritten', 2, []],
      ['seal_rewritten', 3, []],
      ['copy_differs', null, [12]],
    ]);
  });

  test('find a tail that was cut, by seals or by events, and a seal that is gone', async () => {
    const cut = await sealedDatabase();
    const before = await copyOf(cut);
    await tamperWith(
      cut,
      'delete from audit.seals where seal_no = 3',
      'delete from audit.events where id in (select event_id from audit.ledger where seq > 20)',
      'delete from audit.ledger where seq > 20',
    );
    expect((await verifyTrail(poolOf(cut), ALL)).problems).toEqual([]);
    expect(await brief(cut, before)).toEqual([['tail_cut', null, []]]);
    const events = before.filter((line) => !line.includes('"seal": 3,'));
    expect(await brief(cut, events)).toEqual([['tail_cut', null, [21, 22, 23, 24, 25]]]);
    await tamperWith(cut, 'delete from audit.seals where seal_no = 1');
    const first = before.filter((line) => line.includes('"audit.sealed"')).slice(0, 2);
    expect(await brief(cut, first)).toEqual([['seal_missing', 1, []]]);
  });
});
