import { beforeAll, describe, expect, it } from 'vitest';
import { apply } from '../../support/apply_due.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { useGraphql } from '../../support/graphql.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { adminToken, auditorToken } from '../../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);
const KEY = 'searched';

/** An event, as far as these tests ask for it. */
interface Event {
  readonly id: string;
  readonly eventType: string;
  readonly requestId: string | null;
}

async function search(condition: object, token = adminToken(), fields = 'id eventType requestId') {
  const query = `query ($condition: AuditEventCondition) {
    auditEvents(condition: $condition, orderBy: [OCCURRED_AT_ASC], first: 100) { nodes { ${fields} } }
  }`;
  const { auditEvents } = await api().data<{ auditEvents: { nodes: Event[] } }>(
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
  await withClient(database.rootUrl, (client) => sealAll(client));
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

  it('finds the event with a number, for those who may read it', async () => {
    const [event] = await search({ flagKey: KEY, actorKind: 'admin' });
    const seq = await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ seq: string }>(
        'select seq from audit.ledger where event_id = $1',
        [event?.id],
      );
      return rows[0]?.seq;
    });
    for (const token of [adminToken(), auditorToken()])
      expect(await search({ seq }, token)).toEqual([event]);
    expect(await search({ seq: '1000000' })).toEqual([]);
    const staging = { environments: ['staging'] };
    for (const token of [adminToken(staging), auditorToken(staging)])
      expect(await search({ seq }, token)).toEqual([]);
    const query = `query ($seq: BigInt) { auditEvents(condition: { seq: $seq }) { nodes { id } } }`;
    for (const wrong of ['one', '', '99999999999999999999', null])
      expect(await api().codeOf(query, { seq: wrong }), String(wrong)).toBe('invalid_value');
  });
});
