import type { Client } from 'graphql-ws';
import type pg from 'pg';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { apply } from '../support/apply_due.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import {
  arrived,
  useSubscribers,
  type Message,
  type Subscription,
} from '../support/subscribers.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';
import {
  EVENTS,
  FLAGS,
  FLOOD,
  floodWith,
  insertFlags,
  refusalOf,
  SCHEDULES,
} from '../support/audit_subscription.ts';

const database = useDatabase();
const api = useGraphql(database);
const subscribe = useSubscribers(api);
let count = 0;
let key: string;

beforeEach(async () => {
  count += 1;
  key = `subscribed-${count}`;
  await vi.waitFor(() => expect(api().graphql.healthy()).toBe(true), 5_000);
});

const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = (changes: object = {}) =>
  asOwner((client) => insertFlag(client, { flag_key: key, ...changes }));

const insertMany = (many: number) => asOwner((client) => insertFlags(client, key, many));
const flood = (payload: string) => asOwner((client) => floodWith(client, payload));

describe('auditEventsAdded', () => {
  it('brings what is added, to admins and auditors', async () => {
    const admin = await subscribe(adminToken(), EVENTS, { key });
    const auditor = await subscribe(auditorToken(), EVENTS, { key });
    await insert();
    for (const { messages } of [admin, auditor]) {
      await arrived(messages, 1);
      expect(messages[0]?.data?.auditEventsAdded).toMatchObject({
        truncated: false,
        events: [{ eventType: 'feature_flag.created', flagKey: key, metadata: { flagKey: key } }],
      });
    }
  });

  it('goes on for longer than a query may take', async () => {
    const hurried = await startGraphql(database, { executionMs: 1 });
    try {
      await vi.waitFor(() => expect(hurried.graphql.healthy()).toBe(true), 5_000);
      const { messages } = await subscribe(adminToken(), EVENTS, { key }, { to: hurried });
      await insert();
      await arrived(messages, 1);
      expect(messages[0]).toMatchObject({
        data: { auditEventsAdded: { events: [{ flagKey: key }] } },
      });
      expect(messages[0]).not.toHaveProperty('errors');
    } finally {
      await hurried.close();
    }
  });

  it('sends nothing of what the token’s environments, or the arguments, leave out', async () => {
    const production = await subscribe(adminToken({ environments: ['production'] }), EVENTS);
    const staging = await subscribe(adminToken({ environments: ['staging'] }), EVENTS);
    const none = await subscribe(auditorToken({ environments: [] }), EVENTS);
    const other = await subscribe(adminToken(), EVENTS, { key: 'another' });
    const narrowed = await subscribe(adminToken(), EVENTS, { environment: 'staging' });
    await insert();
    await insert({ environment: 'staging' });
    await arrived(production.messages, 1);
    await arrived(staging.messages, 1);
    await arrived(narrowed.messages, 1);
    for (const { messages } of [staging, narrowed])
      expect(messages[0]?.data?.auditEventsAdded?.events).toMatchObject([
        { environment: 'staging' },
      ]);
    expect(production.messages[0]?.data?.auditEventsAdded?.events).toMatchObject([
      { environment: 'production' },
    ]);
    expect([none.messages, other.messages]).toEqual([[], []]);
  });

  it('is forbidden to viewers, at once', async () => {
    expect(await refusalOf(subscribe, viewerToken(), EVENTS)).toBe('forbidden');
  });

  it('brings more than one notification has room for', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS);
    await insertMany(120);
    const added = () => messages.map(({ data }) => data?.auditEventsAdded);
    await expect.poll(() => added().flatMap((each) => each?.events)).toHaveLength(120);
    expect(added().filter((each) => each?.truncated)).toEqual([]);
  });

  it('says when there is more than it brings', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS);
    await insertMany(700);
    const last = () => messages.at(-1)?.data?.auditEventsAdded;
    await expect.poll(() => last()?.truncated).toBe(true);
    expect(last()?.events.length).toBeGreaterThan(400);
  });

  it('ends as soon as the listener loses the database, and works again after', async () => {
    const { messages, ended } = await subscribe(adminToken(), EVENTS, { key });
    await withClient(withDatabase(database.rootUrl, 'postgres'), async (root) => {
      await root.query(`alter database ${database.name} allow_connections false`);
      try {
        await root.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'halyard-api-listener' and datname = $1`,
          [database.name],
        );
        // In the midst of the outage: a client would take silence for no news.
        await ended;
        expect(messages.at(-1)?.errors?.[0]?.extensions?.code).toBe('database_unavailable');
        expect(await refusalOf(subscribe, adminToken(), EVENTS)).toBe('database_unavailable');
      } finally {
        await root.query(`alter database ${database.name} allow_connections true`);
      }
    });
    await vi.waitFor(() => expect(api().graphql.healthy()).toBe(true), 5_000);
    const again = await subscribe(adminToken(), EVENTS, { key });
    await insert();
    await arrived(again.messages, 1);
  });

  it('passes over notifications that are none, and counts them in one line of the log', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS, { key });
    const logged = api().lines.length;
    await flood(
      `(array['', 'null', '[]', '{"events": ["x"]}', '7', repeat('[', 7000)])[1 + g % 6] || g`,
    );
    await insert();
    await arrived(messages, 1);
    expect(await api().codeOf('{ nothing }')).toBe('invalid_query');
    const lines = api()
      .lines.slice(logged)
      .filter(({ level }) => level !== 'debug');
    expect(lines).toMatchObject([{ level: 'warn', channel: 'halyard_audit', count: 1 }]);
    await expect.poll(() => api().graphql.load.ignored).toBeGreaterThanOrEqual(FLOOD);
  });

  it('sends what was read of rows only, however many notifications are made up', async () => {
    const all = await subscribe(adminToken(), EVENTS);
    const one = await subscribe(adminToken(), EVENTS, { key });
    const schedules = await subscribe(viewerToken(), SCHEDULES);
    const logged = api().logText().length;
    await flood(`json_build_object('events', json_build_array(gen_random_uuid()),
      'schedules', json_build_array(gen_random_uuid()), 'truncated', true)::text`);
    const flag = await insert();
    await asOwner((client) => insertSchedule(client, flag.id));
    // In any order: what was too much for one hint is found by a look a second later.
    for (const { messages } of [all, one])
      await expect
        .poll(() =>
          messages
            .flatMap(({ data }) => data?.auditEventsAdded?.events ?? [])
            .map(({ eventType, flagKey }) => `${eventType} ${flagKey}`)
            .toSorted(),
        )
        .toEqual([`feature_flag.created ${key}`, `flag_schedule.created ${key}`]);
    await expect
      .poll(() => schedules.messages.flatMap(({ data }) => data?.flagSchedulesChanged?.schedules))
      .toMatchObject([{ flag: { flagKey: key } }]);
    const texts = [all, one, schedules].map(({ messages }) => JSON.stringify(messages));
    expect(texts.filter((text) => text.includes('"truncated":true'))).toEqual([]);
    expect(api().logText().length - logged).toBeLessThan(100_000);
  });
});

describe('flagSchedulesChanged', () => {
  it('brings schedules as they change, to admins and viewers, with both names', async () => {
    const admin = await subscribe(adminToken(), SCHEDULES, { key });
    const viewer = await subscribe(viewerToken(), SCHEDULES, { key, environment: 'production' });
    const flag = await insert();
    const { id } = await asOwner((client) => insertSchedule(client, flag.id));
    for (const { messages } of [admin, viewer]) await arrived(messages, 1);
    await api().data(
      `mutation { cancelFlagSchedule(input: { id: "${id}" }) { clientMutationId } }`,
    );
    for (const { messages } of [admin, viewer]) {
      await arrived(messages, 2);
      expect(messages.map(({ data }) => data?.flagSchedulesChanged?.schedules)).toMatchObject([
        [{ id, status: 'pending', cancelledBy: null, updates: { enabled: true } }],
        [
          {
            id,
            status: 'cancelled',
            createdBy: null,
            cancelledBy: 'alice',
            flag: { flagKey: key },
          },
        ],
      ]);
    }
  });

  it.each([
    'subscription { flagSchedulesChanged(environment: "prodction") { schedules { id } } }',
    'subscription { auditEventsAdded(environment: "prodction") { events { id } } }',
    'subscription { flagsChanged(environment: "prodction") { flags { id } } }',
  ])('refuses an environment that there isn’t: %s', async (query) => {
    expect(await refusalOf(subscribe, adminToken(), query)).toBe('environment_not_found');
  });

  it('sends nothing of other environments, and is for auditors too', async () => {
    const staging = await subscribe(viewerToken({ environments: ['staging'] }), SCHEDULES);
    const production = await subscribe(viewerToken(), SCHEDULES);
    const auditor = await subscribe(auditorToken(), SCHEDULES);
    const flag = await insert();
    await asOwner((client) => insertSchedule(client, flag.id));
    await arrived(production.messages, 1);
    await arrived(auditor.messages, 1);
    expect(staging.messages).toEqual([]);
  });
});

describe('flagsChanged', () => {
  /** Key and state of each flag that came, in order. */
  const cameTo = (messages: Message[]) =>
    messages
      .flatMap(({ data }) => data?.flagsChanged?.flags ?? [])
      .map(({ flagKey, enabled }) => `${flagKey} ${enabled ? 'on' : 'off'}`);

  it('brings flags that were created, and changed by an admin, a schedule or SQL, to every role', async () => {
    const all: Subscription[] = [];
    for (const token of [adminToken(), viewerToken(), auditorToken()])
      all.push(await subscribe(token, FLAGS, { key, environment: 'production' }));
    const came = async (...states: string[]) => {
      for (const { messages } of all)
        await expect.poll(() => cameTo(messages)).toEqual(states.map((state) => `${key} ${state}`));
    };
    const { id } = await insert();
    await came('off');
    await api().data(
      `mutation { updateFeatureFlag(input: { id: "${id}", patch: { enabled: true } }) { clientMutationId } }`,
    );
    await came('off', 'on');
    // The schedule itself is no change of the flag.
    await asOwner((client) =>
      insertSchedule(client, id, { dueIn: '-1 second', updates: { enabled: false } }),
    );
    await withClient(database.workerUrl, (client) => apply(client));
    await came('off', 'on', 'off');
    await asOwner((client) =>
      client.query('update app_public.feature_flags set enabled = true where id = $1', [id]),
    );
    await came('off', 'on', 'off', 'on');
  });

  it('sends nothing of what the token’s environments, or the arguments, leave out', async () => {
    const staging = await subscribe(viewerToken({ environments: ['staging'] }), FLAGS);
    const other = await subscribe(viewerToken(), FLAGS, { key: 'another' });
    await insert();
    await insert({ environment: 'staging' });
    await arrived(staging.messages, 1);
    expect(staging.messages[0]?.data?.flagsChanged?.flags).toEqual([
      { flagKey: key, environment: 'staging', enabled: false },
    ]);
    expect(other.messages).toEqual([]);
  });

  it('finds what one notification has no room for, and says when there is more than it brings', async () => {
    const { messages } = await subscribe(viewerToken(), FLAGS);
    await insertMany(120);
    await expect.poll(() => new Set(cameTo(messages)).size).toBe(120);
    expect(messages.filter(({ data }) => data?.flagsChanged?.truncated)).toEqual([]);
    await insertMany(700);
    await expect.poll(() => messages.at(-1)?.data?.flagsChanged?.truncated).toBe(true);
  });
});
