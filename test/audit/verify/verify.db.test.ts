import type pg from 'pg';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { checkAnchors, NoAnchorsError } from '../../../src/audit/verification/anchors.ts';
import { parseProof, proofProblems } from '../../../src/audit/seals/proof.ts';
import { verifyTrail } from '../../../src/audit/verification/verify.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { actAs, value, withActors } from '../../support/actors.ts';
import {
  cloneDatabase,
  useDatabase,
  withClient,
  type TestDatabase,
} from '../../support/database.ts';
import { confirmNext } from '../../support/confirm.ts';
import { makeTestLog } from '../../support/log.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { sealFlags, tamper } from '../../support/sealed_trail.ts';

const database = useDatabase();
const ALL = { from: 1, to: null };

/** What has been shipped to a new destination: the copy outside. */
async function copyOf({ rootUrl }: TestDatabase): Promise<string[]> {
  return withClient(rootUrl, async (client) => {
    const { rows } = await client.query<{ message: string }>(
      `select message from app_private.undelivered_audit_events('copy', 100000)`,
    );
    return rows.map(({ message }) => message);
  });
}

function poolOf({ rootUrl }: TestDatabase) {
  const pool = makePool(rootUrl, { name: 'halyard test', max: 2, log: makeTestLog().log });
  onTestFinished(() => pool.end());
  return pool;
}

/** A database with 25 events in three seals, for one test. */
async function sealedDatabase(): Promise<TestDatabase> {
  const own = await cloneDatabase();
  onTestFinished(() => own.drop());
  await withClient(own.rootUrl, (client) => sealFlags(client, 25));
  return own;
}

async function tamperWith({ rootUrl }: TestDatabase, ...statements: string[]): Promise<void> {
  await withClient(rootUrl, async (client) => {
    await client.query('begin');
    await tamper(client, ...statements);
    await client.query('commit');
  });
}

describe('who may', () => {
  const STATEMENTS = ['select * from audit.verify()', 'select audit.prove(gen_random_uuid())'];
  const verdict = (limited: boolean) =>
    withActors(database, async (client) => {
      await sealFlags(client, 1);
      await become(client, 'auditor', limited ? { environments: ['production'] } : {});
      const states: (string | null)[] = [];
      for (const sql of STATEMENTS) states.push(await sqlStateOf(client, () => client.query(sql)));
      return states;
    });

  test('nobody verifies from nowhere on, which would find nothing wrong', async () => {
    await withActors(database, async (client) => {
      const sql = 'select * from audit.verify(null)';
      expect(await sqlStateOf(client, () => client.query(sql))).toBe('22004');
    });
  });

  test('an auditor without limits verifies and proves', async () => {
    // There is no such event to prove, which only who may ask is told.
    expect(await verdict(false)).toEqual([null, 'P0002']);
  });

  test('an auditor who is limited to environments does not', async () => {
    expect(await verdict(true)).toEqual(['42501', '42501']);
  });

  test.for(['admin', 'viewer'] as const)('a token of the role %s does not', async (role) => {
    await withActors(database, async (client) => {
      for (const statement of STATEMENTS) {
        await become(client, role);
        expect(await sqlStateOf(client, () => client.query(statement))).toBe('42501');
      }
    });
  });

  test('a DBA without token does, as halyard_auditor', async () => {
    await withActors(database, async (client) => {
      await actAs(client, 'halyard_auditor');
      expect(await value(client, 'select count(*)::int from audit.verify()')).toBe(0);
    });
  });
});

describe('a proof', () => {
  test('of every event holds, and holds no longer when anything in it is changed', async () => {
    const own = await sealedDatabase();
    const proofs = await withClient(own.rootUrl, async (client) => {
      const { rows } = await client.query<{ proof: unknown }>(
        'select audit.prove(event_id) as proof from audit.ledger order by seq',
      );
      return rows.map(({ proof }) => parseProof(JSON.stringify(proof)));
    });
    expect(proofs.map(({ seq }) => seq)).toEqual(Array.from({ length: 25 }, (_, i) => i + 1));
    for (const proof of proofs) expect(proofProblems(proof, proof.message ?? '')).toEqual([]);
    const proof = proofs[12];
    if (proof?.message === undefined || proof.message === null) throw new Error('no proof');
    const other = 'ab'.repeat(32);
    const { seal, message } = proof;
    const wrong = [
      proofProblems(proof, message.replace('production', 'staging')),
      proofProblems({ ...proof, seq: 14 }, message),
      proofProblems({ ...proof, leafIndex: 3 }, message),
      proofProblems({ ...proof, eventId: '00000000-0000-4000-8000-000000000000' }, message),
      proofProblems({ ...proof, path: [...proof.path.slice(1), other] }, message),
      ...(['seal', 'firstSeq', 'lastSeq'] as const).map((key) =>
        proofProblems({ ...proof, seal: { ...seal, [key]: seal[key] + 1 } }, message),
      ),
      ...(['root', 'previousHead', 'head'] as const).map((key) =>
        proofProblems({ ...proof, seal: { ...seal, [key]: other } }, message),
      ),
    ];
    expect(wrong.filter((problems) => problems.length === 0)).toEqual([]);
  });

  test.for(['', 'hello', '{}', '{"version": 2}', '[]'])('is not %j', (text) => {
    expect(() => parseProof(text)).toThrow(/^This is no/);
  });
});

describe('a verification', () => {
  test('of many seals looks at each of them once, and says how far it is', async () => {
    const own = await cloneDatabase();
    onTestFinished(() => own.drop());
    await withClient(own.rootUrl, (client) => sealFlags(client, 240, 2));
    const told: number[][] = [];
    const pool = poolOf(own);
    const found = await verifyTrail(pool, ALL, (...at) => told.push(at));
    expect(found).toEqual({
      ...{ seals: 120, events: 240, firstSeq: 1, lastSeq: 240, purged: 0, problems: [] },
    });
    expect(told).toEqual([
      [100, 240],
      [200, 240],
    ]);
    const part = await verifyTrail(pool, { from: 51, to: 60 });
    expect(part).toMatchObject({ seals: 5, events: 10, firstSeq: 51, lastSeq: 60 });
  });

  test('of a trail that is written, sealed and delivered meanwhile raises no alarm', async () => {
    const own = await sealedDatabase();
    const pool = poolOf(own);
    let writing = true;
    const repeat = (url: string, step: (client: pg.Client) => Promise<unknown>) =>
      withClient(url, async (client) => {
        while (writing) await step(client);
      });
    const background = [
      repeat(own.ownerUrl, (client) =>
        client.query(
          `insert into app_public.feature_flags (flag_key) select gen_random_uuid()::text from generate_series(1, 3)`,
        ),
      ),
      repeat(own.workerUrl, async (client) => {
        await client.query('select from app_private.seal_batch(5, 0)');
        await confirmNext(client, 'live', 100);
      }),
    ];
    try {
      let last = 0;
      // Until something was sealed meanwhile, which takes a busy machine more rounds.
      for (let round = 0; round < 5 || last <= 25; round++) {
        const found = await verifyTrail(pool, ALL);
        expect(found.problems).toEqual([]);
        last = found.lastSeq ?? 0;
      }
      expect((await checkAnchors(pool, await copyOf(own))).problems).toEqual([]);
    } finally {
      writing = false;
      await Promise.all(background);
    }
  });
});

test('events that a purge is taking away are looked for twice', async () => {
  const own = await sealedDatabase();
  // As a purge in the same moment does: the first look sees the tables gone, and not yet what accounts for that.
  await withClient(own.rootUrl, (client) =>
    client.query(
      `alter function audit.verify(bigint, bigint) rename to verify_again;
       create sequence audit.looks;
       grant usage on audit.looks to halyard_auditor;
       create function audit.verify(from_seq bigint, to_seq bigint) returns table (
         seal_no bigint, first_seq bigint, last_seq bigint, status text, seqs bigint[], detail text)
       language sql volatile as $$
         select 1, 1, 10, 'event_missing', array[1::bigint], 'gone' where nextval('audit.looks') = 1
         union all
         select v.seal_no, v.first_seq, v.last_seq, v.status, v.seqs, v.detail from audit.verify_again(from_seq, to_seq) v
       $$`,
    ),
  );
  expect((await verifyTrail(poolOf(own), ALL)).problems).toEqual([]);
});

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
