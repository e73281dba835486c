import type pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkAnchors } from '../../../src/audit/verification/anchors.ts';
import { parseProof, proofProblems } from '../../../src/audit/seals/proof.ts';
import { verifyTrail } from '../../../src/audit/verification/verify.ts';
import { actAs, value, withActors } from '../../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../../support/database.ts';
import { confirmNext } from '../../support/confirm.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { sealFlags } from '../../support/sealed_trail.ts';
import { ALL, copyOf, poolOf, sealedDatabase } from '../../support/sealed_database.ts';

const database = useDatabase();

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
    expect(await verdict(true)).toEqual(['42501', 'ZF015']);
  });

  test.for([
    ['viewer', undefined, ['42501', '42501']],
    ['admin', undefined, ['42501', 'P0002']],
    ['admin', ['production'], ['42501', 'ZF015']],
    ['admin', [], ['42501', 'ZF015']],
  ] as const)('a token of the role %s, limited to %s, gets %s', async ([role, limits, states]) => {
    await withActors(database, async (client) => {
      for (const [i, statement] of STATEMENTS.entries()) {
        await become(client, role, limits === undefined ? {} : { environments: limits });
        expect(await sqlStateOf(client, () => client.query(statement))).toBe(states[i]);
      }
    });
  });

  test('an admin’s role proves nothing without a token', async () => {
    await withActors(database, async (client) => {
      await client.query('set local role postgres');
      await client.query(
        'create role halyard_test_prover; grant halyard_admin to halyard_test_prover',
      );
      await client.query('set local session authorization halyard_test_prover');
      await client.query('set local role halyard_admin');
      const prove = () => client.query('select audit.prove(gen_random_uuid())');
      expect(await sqlStateOf(client, prove)).toBe('ZF015');
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
