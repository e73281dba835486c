import type pg from 'pg';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { useGraphql } from '../support/graphql.ts';
import { arrived, useSubscribers } from '../support/subscribers.ts';
import type { Subscription } from '../support/subscribers.ts';
import { FLAGS } from '../support/audit_subscription.ts';
import { adminToken, auditorToken, nowInSeconds, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);
const subscribe = useSubscribers(api);

const EVENTS = `subscription ($key: String) {
  auditEventsAdded(flagKey: $key) { truncated events { flagKey metadata } }
}`;
const SCHEDULES = 'subscription { flagSchedulesChanged { schedules { id } } }';
const production = { environments: ['production'] };
let count = 0;
let key: string;

beforeEach(async () => {
  count += 1;
  key = `alike-${count}`;
  await vi.waitFor(() => expect(api().graphql.healthy()).toBe(true), 5_000);
});

const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = () => asOwner((client) => insertFlag(client, { flag_key: key }));
const bob = { userId: 'bob', email: 'bob@example.com' };

describe('subscribers with the same operation, variables and rights', () => {
  /** Hints at an event that can be looked up and not read, and counts the executions: each logs that it failed. */
  async function executionsOf(subscriptions: readonly Subscription[]): Promise<number> {
    await insert();
    for (const { messages } of subscriptions) await arrived(messages, 1);
    await asOwner((client) =>
      client.query('alter table audit.events rename column metadata to hidden'),
    );
    try {
      const before = api().lines.length;
      await asOwner((client) =>
        client.query(
          `select pg_notify('halyard_audit', json_build_object('events', array_agg(id))::text)
           from audit.events where flag_key = $1`,
          [key],
        ),
      );
      for (const { messages } of subscriptions) {
        await arrived(messages, 2);
        expect(messages[1]?.errors?.[0]?.extensions?.code).toBe('internal_error');
      }
      return api()
        .lines.slice(before)
        .filter(({ msg }) => msg === 'a GraphQL field failed').length;
    } finally {
      await asOwner((client) =>
        client.query('alter table audit.events rename column hidden to metadata'),
      );
    }
  }

  it('share one execution, whoever they are', async () => {
    const alike: Subscription[] = [];
    for (const who of [{}, bob, { userId: undefined, email: undefined }])
      for (const variables of [{ key }, { unknown: 7, key }])
        alike.push(await subscribe(adminToken(who), EVENTS, variables));
    expect(api().graphql.load.subscriptions).toBe(6);
    expect(await executionsOf(alike)).toBe(1);
  });

  it('do not share it with others', async () => {
    const all = [
      await subscribe(adminToken(), EVENTS, { key }),
      await subscribe(auditorToken(), EVENTS, { key }),
      await subscribe(adminToken(production), EVENTS, { key }),
      await subscribe(adminToken(), EVENTS),
      await subscribe(adminToken(), EVENTS, { key: null }),
      await subscribe(adminToken(), EVENTS.replace('truncated', ''), { key }),
    ];
    expect(await executionsOf(all)).toBe(all.length);
  });
});

it('each gets the operation that it named, with its own variables', async () => {
  const query = `
    subscription Short { auditEventsAdded { truncated } }
    subscription Keys { auditEventsAdded { events { flagKey } } }
    subscription Long ($with: Boolean!) { auditEventsAdded { events { eventType flagKey @include(if: $with) } } }`;
  const all = [
    await subscribe(adminToken(), query, {}, { operationName: 'Short' }),
    await subscribe(adminToken(), query, {}, { operationName: 'Keys' }),
    await subscribe(adminToken(), query, { with: true }, { operationName: 'Long' }),
    await subscribe(adminToken(), query, { with: false }, { operationName: 'Long' }),
  ];
  await insert();
  for (const { messages } of all) await arrived(messages, 1);
  const eventType = 'feature_flag.created';
  expect(all.map(({ messages }) => messages[0]?.data?.auditEventsAdded)).toEqual([
    { truncated: false },
    { events: [{ flagKey: key }] },
    { events: [{ eventType, flagKey: key }] },
    { events: [{ eventType }] },
  ]);
});

it('nobody gets rows of another’s environments or role by the same operation', async () => {
  const followers = [
    await subscribe(adminToken(), SCHEDULES),
    await subscribe(viewerToken(), SCHEDULES),
    await subscribe(viewerToken(production), SCHEDULES),
    await subscribe(viewerToken({ environments: [] }), SCHEDULES),
  ];
  const idsOf = ({ messages }: Subscription) =>
    messages.flatMap(({ data }) => data?.flagSchedulesChanged?.schedules ?? []).map(({ id }) => id);
  await asOwner(async (client) => {
    await client.query(`
      create policy hidden on app_public.feature_flag_schedules as restrictive for select to halyard_viewer
      using (max_attempts < 7)`);
    try {
      const ids: string[] = [];
      for (const environment of ['staging', 'production']) {
        const flag = await insertFlag(client, { flag_key: key, environment });
        for (const max_attempts of [7, 3])
          ids.push((await insertSchedule(client, flag.id, { max_attempts })).id);
      }
      const [, staging, , last] = ids;
      const expected = [ids, [staging, last], [last], []];
      await vi.waitFor(() => expect(followers.map(idsOf)).toEqual(expected), 5_000);
    } finally {
      await client.query('drop policy hidden on app_public.feature_flag_schedules');
    }
  });
});

it('the database is not told who follows, so that nothing shared can depend on it', async () => {
  await asOwner((client) =>
    client.query(`
      create policy of_nobody on audit.events as restrictive for select to halyard_admin
      using (app_private.claim_user_id() is null and app_private.claim_email() is null and app_private.request_id() is null)`),
  );
  try {
    const alice = await subscribe(adminToken(), EVENTS, { key });
    await insert();
    await arrived(alice.messages, 1);
    expect(alice.messages[0]?.data?.auditEventsAdded?.events).toHaveLength(1);
    const read = `{ auditEvents(condition: { flagKey: "${key}" }) { nodes { id } } }`;
    expect(await api().data(read)).toEqual({ auditEvents: { nodes: [] } });
  } finally {
    await asOwner((client) => client.query('drop policy of_nobody on audit.events'));
  }
});

it('who leaves, or whose token expires, takes nobody along', async () => {
  const stays = await subscribe(adminToken(), EVENTS, { key });
  const leaves = await subscribe(adminToken(bob), EVENTS, { key });
  const expires = await subscribe(adminToken({ exp: nowInSeconds() + 2 }), EVENTS, { key });
  leaves.leave();
  await leaves.ended;
  await expires.ended;
  await vi.waitFor(() => expect(api().graphql.load.subscriptions).toBe(1), 5_000);
  await insert();
  await arrived(stays.messages, 1);
  expect([leaves.messages, expires.messages]).toEqual([[], []]);
});

it('a client may call its subscription by any text', async () => {
  const id = '"\\\n}, "type": "complete';
  const client = api().socket(adminToken(), { generateID: () => id });
  const messages: unknown[] = [];
  client.subscribe(
    { query: EVENTS, variables: { key } },
    {
      next: (message) => messages.push(message),
      error: () => undefined,
      complete: () => undefined,
    },
  );
  await vi.waitFor(() => expect(api().graphql.load.subscriptions).toBe(1), 5_000);
  await insert();
  await vi.waitFor(() => expect(messages).toHaveLength(1), 5_000);
  await client.dispose();
});

it('variables that are nested more deeply than any input are refused', async () => {
  const query = `subscription ($id: UUID) {
    flagSchedulesChanged { schedules { flag { schedules(condition: { flagId: $id }) { nodes { id } } } } }
  }`;
  let deep: object = {};
  for (let depth = 0; depth < 20; depth += 1) deep = { deep };
  const { messages, ended } = await subscribe(adminToken(), query, { id: deep });
  await ended;
  expect(messages[0]?.errors?.[0]?.extensions?.code).toBe('invalid_value');
});

describe('a subscription', () => {
  it('brings what changes from its message on, though it waits to begin', async () => {
    const [name, token] = ['slow-to-find', adminToken()];
    await asOwner(async (client) => {
      await client.query('insert into app_public.environments (name) values ($1)', [name]);
      await client.query('begin; lock table app_public.environments');
      const beginning = subscribe(
        token,
        `subscription { flagsChanged(environment: "${name}") { flags { flagKey } } }`,
      );
      const waiting = `select exists (select from pg_locks where not granted and relation = 'app_public.environments'::regclass)`;
      await expect.poll(() => value<boolean>(client, waiting)).toBe(true);
      await insertFlag(client, { flag_key: key, environment: name });
      await client.query('commit');
      const { messages } = await beginning;
      await arrived(messages, 1);
      expect(messages[0]?.data?.flagsChanged?.flags).toEqual([{ flagKey: key }]);
    });
  });
});

describe('subscribers with limited rights', () => {
  it('finds what a limited token reaches behind many changes of other environments', async () => {
    const token = viewerToken({ environments: ['staging'] });
    const flags = await subscribe(token, FLAGS);
    const schedules = await subscribe(token, SCHEDULES);
    await asOwner(async (client) => {
      await client.query(
        `insert into app_public.feature_flags (flag_key, environment)
         select concat($1::text, '-', n), case when n > 900 then 'staging' else 'production' end from generate_series(1, 910) as n`,
        [key],
      );
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select id, now() + interval '1 day', '{"enabled": true}' from app_public.feature_flags
         where starts_with(flag_key, $1) order by environment`,
        [`${key}-`],
      );
    });
    const came = () => flags.messages.flatMap(({ data }) => data?.flagsChanged?.flags ?? []);
    await expect.poll(() => new Set(came().map(({ flagKey }) => flagKey)).size).toBe(10);
    const scheduled = () =>
      schedules.messages.flatMap(({ data }) => data?.flagSchedulesChanged?.schedules ?? []);
    await expect.poll(() => scheduled().length).toBe(10);
  });
});
