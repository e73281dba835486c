import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { parseProof } from '../../../src/audit/seals/proof.ts';
import { value } from '../../support/actors.ts';
import { useApi } from '../../support/api.ts';
import { apply } from '../../support/apply_due.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { useGraphql } from '../../support/graphql.ts';
import { planWith, usePlans } from '../../support/plans_by_rest.ts';
import { startProcess } from '../../support/processes.ts';
import { sealAll, triggersOfEvents, type SearchedEvent } from '../../support/sealed_trail.ts';
import { adminToken, auditorToken, viewerToken } from '../../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);
const rest = useApi(database);
const plans = usePlans(database, rest);
const KEY = 'searched';
const STAGING = { environments: ['staging'] };
const asRoot = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.rootUrl, work);

async function search(condition: object, token = adminToken(), fields = 'id eventType requestId') {
  const query = `query ($condition: AuditEventCondition) {
    auditEvents(condition: $condition, orderBy: [OCCURRED_AT_ASC], first: 100) { nodes { ${fields} } }
  }`;
  const { auditEvents } = await api().data<{ auditEvents: { nodes: SearchedEvent[] } }>(
    query,
    { condition },
    token,
  );
  return auditEvents.nodes;
}

const typesBy = async (condition: object, token?: string) =>
  (await search({ flagKey: KEY, ...condition }, token)).map(({ eventType }) => eventType);

// A flag made in SQL, changed by alice, and by a schedule of the database's.
beforeAll(async () => {
  const { id } = await withClient(database.ownerUrl, (client) =>
    insertFlag(client, { flag_key: KEY }),
  );
  await api().data(
    `mutation { updateFeatureFlag(input: { id: "${id}", patch: { enabled: true } }) { clientMutationId } }`,
  );
  await withClient(database.ownerUrl, (client) =>
    insertSchedule(client, id, { dueIn: '-1 second', updates: { enabled: false } }),
  );
  await withClient(database.workerUrl, (client) => apply(client));
  await asRoot((client) => sealAll(client));
});

describe('a search of the trail', () => {
  it('finds events by the beginning of their type', async () => {
    expect(await typesBy({ eventTypePattern: 'flag_schedule.*' })).toEqual([
      'flag_schedule.created',
      'flag_schedule.applied',
    ]);
    expect(await typesBy({ eventTypePattern: 'feature_flag.up*' })).toHaveLength(2);
    expect(await typesBy({ eventTypePattern: 'feature_flag.created' })).toHaveLength(1);
    expect(await typesBy({ eventTypePattern: '*' })).toHaveLength(5);
  });

  it('finds events by who acted: an e-mail address, a user id, or a kind of actor', async () => {
    const changed = ['feature_flag.updated'];
    expect(await typesBy({ adminEmail: 'alice@example.com' })).toEqual(changed);
    expect(await typesBy({ adminUserId: 'alice' })).toEqual(changed);
    expect(await typesBy({ actorKind: 'admin' })).toEqual(changed);
    expect(await typesBy({ adminEmail: 'bob@example.com' })).toEqual([]);
    for (const actorKind of ['system', 'worker'])
      expect((await typesBy({ actorKind })).toSorted()).toEqual([
        'feature_flag.updated',
        'flag_schedule.applied',
      ]);
    expect(await typesBy({ actorKind: 'database' })).toEqual([
      'feature_flag.created',
      'flag_schedule.created',
    ]);
  });

  it('finds the events of a request', async () => {
    const [event] = await search({ flagKey: KEY, actorKind: 'admin' });
    expect(event?.requestId).toEqual(expect.any(String));
    expect(await search({ requestId: event?.requestId })).toEqual([event]);
  });

  it('finds the events of a plan: its own, of its schedules, and of their flags', async () => {
    const { id: planId } = await plans.create(planWith(await plans.newChange()));
    const types = (await search({ planId })).map(({ eventType }) => eventType);
    expect(types.toSorted()).toEqual(['flag_plan.created', 'flag_schedule.created']);
    expect(await search({ planId }, auditorToken(STAGING))).toEqual([]);
    const query = `query ($id: UUID) { auditEvents(condition: { planId: $id }) { nodes { id } } }`;
    for (const id of ['one', null]) expect(await api().codeOf(query, { id })).toBe('invalid_value');
  });

  it('finds the event with a number, for those who may read it', async () => {
    const [event] = await search({ flagKey: KEY, actorKind: 'admin' });
    const seq = await asRoot((client) =>
      value(client, 'select seq from audit.ledger where event_id = $1', [event?.id]),
    );
    for (const token of [adminToken(), auditorToken()])
      expect(await search({ seq }, token)).toEqual([event]);
    expect(await search({ seq: '1000000' })).toEqual([]);
    for (const token of [adminToken(STAGING), auditorToken(STAGING)])
      expect(await search({ seq }, token)).toEqual([]);
    const query = `query ($seq: BigInt) { auditEvents(condition: { seq: $seq }) { nodes { id } } }`;
    for (const wrong of ['one', '', '99999999999999999999', null])
      expect(await api().codeOf(query, { seq: wrong }), String(wrong)).toBe('invalid_value');
  });
});

const PLACES = 'id eventType seq seal { number head sealedAt anchored problem }';

/** Makes an event that no worker seals. */
async function unsealed(): Promise<string> {
  const { flag_key } = await withClient(database.ownerUrl, (client) => insertFlag(client));
  const [event] = await search({ flagKey: flag_key });
  return event?.id ?? '';
}

describe('the place of an event in the trail', () => {
  it('is its number and its seal, for admins and auditors, limited ones too', async () => {
    const sealed = await asRoot(async (client) => {
      const { rows } = await client.query<{ number: string; head: string; at: Date }>(
        `select seal_no::text as number, encode(head, 'hex') as head, sealed_at as at from audit.seals order by seal_no desc limit 1`,
      );
      return rows[0];
    });
    const production = { environments: ['production'] };
    for (const token of [adminToken(), auditorToken(), adminToken(production)]) {
      const events = await search({ flagKey: KEY }, token, PLACES);
      const last = await asRoot((client) => value(client, 'select max(seq) from audit.ledger'));
      expect(events.map(({ seq }) => seq)).toContain(last);
      for (const { seal } of events) {
        expect(seal).toMatchObject({
          number: sealed?.number,
          head: sealed?.head,
          anchored: false,
        });
        expect(Date.parse(seal?.sealedAt ?? '')).toBe(sealed?.at.getTime());
      }
    }
  });

  it('is none while the event isn’t sealed', async () => {
    const id = await unsealed();
    expect(await search({ id }, adminToken(), PLACES)).toMatchObject([{ seq: null, seal: null }]);
  });

  it('is anchored once a destination has confirmed the seal', async () => {
    const last = await asRoot((client) => value(client, 'select max(last_seq) from audit.seals'));
    const confirm = (seq: unknown) =>
      asRoot((client) =>
        client.query(
          `insert into audit.cursors (destination, last_seq) values ('copy', $1)
           on conflict (destination) do update set last_seq = excluded.last_seq`,
          [seq],
        ),
      );
    const isAnchored = async () =>
      (await search({ seq: last }, adminToken(), PLACES))[0]?.seal?.anchored;
    await confirm(Number(last) - 1);
    expect(await isAnchored()).toBe(false);
    await confirm(last);
    expect(await isAnchored()).toBe(true);
  });

  it('says of an event that was changed since what audit verify calls it', async () => {
    const problems = async () =>
      (await search({ flagKey: KEY }, adminToken(), 'seal { problem }')).map(
        ({ seal }) => seal?.problem,
      );
    const [first, second] = await search({ flagKey: KEY });
    const tamper = (set: string, id: string | undefined) =>
      asRoot(async (client) => {
        await client.query(triggersOfEvents('disable'));
        await client.query(`update audit.events set ${set} where id = $1`, [id]);
        await client.query(triggersOfEvents('enable always'));
      });
    expect(await problems()).toEqual([null, null, null, null, null]);
    await tamper(`payload = replace(payload, '"level"', '"Level"')`, first?.id);
    await tamper(`admin_email = 'mallory@example.com'`, second?.id);
    expect(await problems()).toEqual(['event_altered', 'column_differs', null, null, null]);
    await tamper(`payload = replace(payload, '"Level"', '"level"')`, first?.id);
    await tamper(`admin_email = metadata ->> 'adminEmail'`, second?.id);
    expect(await problems()).toEqual([null, null, null, null, null]);
  });

  it('takes no statement for each event', async () => {
    const ask = vi.spyOn(pg.Client.prototype, 'query');
    onTestFinished(() => ask.mockRestore());
    const statementsFor = async (first: number) => {
      const before = ask.mock.calls.length;
      const { auditEvents } = await api().data<{ auditEvents: { nodes: SearchedEvent[] } }>(
        `{ auditEvents(first: ${first}) { nodes { ${PLACES} } } }`,
      );
      expect(auditEvents.nodes).toHaveLength(first);
      return ask.mock.calls.length - before;
    };
    const one = await statementsFor(1);
    expect(one).toBeGreaterThan(0);
    expect(await statementsFor(5)).toBe(one);
  });
});

describe('the proof of an event', () => {
  const PROOF = 'query ($id: UUID!) { auditProof(eventId: $id) }';
  const proofOf = async (id: string, token = auditorToken()) =>
    (await api().data<{ auditProof: string | null }>(PROOF, { id }, token)).auditProof;

  it('is what audit verify-proof accepts, to the byte the same by GraphQL, REST and audit prove', async () => {
    const [event] = await search({ flagKey: KEY, actorKind: 'admin' });
    const id = event?.id ?? '';
    const text = (await proofOf(id)) ?? '';
    expect(await proofOf(id, adminToken())).toBe(text);
    const { seq } = parseProof(text);
    for (const token of [adminToken(), auditorToken()]) {
      const answer = await rest.call(`GET /api/admin/audit/events/${id}/proof`, { token });
      expect([answer.status, answer.text]).toEqual([200, text]);
      expect(answer.headers.get('content-disposition')).toBe(
        `attachment; filename="halyard-proof-${seq}.json"`,
      );
    }
    const folder = await mkdtemp(join(tmpdir(), 'halyard-proof-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, 'proof.json');
    await writeFile(file, text);
    const audit = async (...args: string[]) => {
      const running = startProcess(process.execPath, ['src/main.ts', 'audit', ...args], {
        env: { NODE_ENV: 'production', AUTH_DATABASE_URL: database.authenticatorUrl },
      });
      onTestFinished(async () => {
        await running.end('SIGKILL');
      });
      return { code: await running.exited, out: running.stdout() };
    };
    const [verified, proved] = await Promise.all([audit('verify-proof', file), audit('prove', id)]);
    expect(verified.code, verified.out).toBe(0);
    expect(proved).toEqual({ code: 0, out: text });
  });

  it('is null, or 404, while the event isn’t sealed, or where there is none', async () => {
    for (const id of [await unsealed(), '00000000-0000-4000-8000-000000000000']) {
      expect(await proofOf(id)).toBeNull();
      const answer = await rest.call(`GET /api/admin/audit/events/${id}/proof`, {
        token: auditorToken(),
      });
      expect([answer.status, answer.body.code]).toEqual([404, 'event_not_found']);
    }
    const answer = await rest.call('GET /api/admin/audit/events/7/proof', {
      token: auditorToken(),
    });
    expect([answer.status, answer.body.code]).toEqual([400, 'invalid_request']);
  });

  it('is forbidden to viewers, and to tokens that are limited to environments', async () => {
    const [event] = await search({ flagKey: KEY, actorKind: 'admin' });
    const production = { environments: ['production'] };
    for (const token of [viewerToken(), adminToken(production), auditorToken(production)]) {
      expect(await api().codeOf(PROOF, { id: event?.id }, token)).toBe('forbidden');
      const answer = await rest.call(`GET /api/admin/audit/events/${event?.id}/proof`, { token });
      expect([answer.status, answer.body.code]).toEqual([403, 'forbidden']);
    }
  });
});

describe('the state of the trail', () => {
  const STATUS =
    '{ trailStatus { lastSeq sealedSeq sealNo sealedAt anchoredSealNo anchoredAt problems } }';

  it('says how far it reaches, is sealed and is confirmed, to admins and auditors, limited ones too', async () => {
    const { seq, no } = await asRoot(async (client) => {
      await client.query('delete from audit.cursors');
      await sealAll(client);
      const { rows } = await client.query<{ seq: string; no: string }>(
        'select last_seq as seq, seal_no as no from audit.seals order by seal_no desc limit 1',
      );
      return rows[0] ?? { seq: '', no: '' };
    });
    const reached = { lastSeq: seq, sealedSeq: seq, sealNo: no, problems: [] };
    const nothing = { anchoredSealNo: null, anchoredAt: null };
    for (const token of [adminToken(), auditorToken(), adminToken(STAGING)]) {
      const { trailStatus } = await api().data<{ trailStatus: object }>(STATUS, {}, token);
      const sealedAt: unknown = expect.stringMatching(/^\d{4}-.*(Z|[+-]\d\d:\d\d)$/);
      expect(trailStatus).toEqual({ ...reached, ...nothing, sealedAt });
    }
    const confirm = `insert into audit.cursors (destination, last_seq) values ('copy', $1)`;
    await asRoot((client) => client.query(confirm, [seq]));
    expect(await api().data(STATUS)).toMatchObject({
      trailStatus: { ...reached, anchoredSealNo: no, anchoredAt: expect.any(String) as unknown },
    });
  });

  it('is forbidden to viewers', async () => {
    expect(await api().codeOf(STATUS, {}, viewerToken())).toBe('forbidden');
  });
});
