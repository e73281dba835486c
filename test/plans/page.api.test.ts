import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { callApi, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { useGraphql } from '../support/graphql.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { sealAll } from '../support/sealed_trail.ts';
import { adminToken } from '../support/tokens.ts';

const PAGE = await readFile(new URL('../../docs/plans.md', import.meta.url), 'utf8');

/** A request of the page, with the answer that stands behind it, if one does. */
const REQUESTS = [...PAGE.matchAll(/```http\n(.*?)```(?:\s+```json\n(.*?)```)?/gs)].map(
  ([, request = '', answer]) => {
    const [target = '', body] = request.trim().split('\n\n');
    return { target, body, answer };
  },
);
const ASKED = [...PAGE.matchAll(/```graphql\n([^`]*)```/g)].map(([, query = '']) => query);

const database = useDatabase();
const api = useApi(database);
const graphql = useGraphql(database);
const token = adminToken();

/** What stands for what the page can't know. */
const known = new Map<string, string>();
const fill = (text: string) =>
  text.replaceAll(/\b(PLAN_ID|SCHEDULE_ID|FROM|TO)\b/g, (name) => known.get(name) ?? name);

const send = (target: string, json: object) => api.call(target, { token, json });

/** A schedule that has turned the banner on, once a worker has looked. */
async function turnBannerOn(): Promise<string> {
  return withClient(database.ownerUrl, (client) =>
    value<string>(
      client,
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select f.id, clock_timestamp() - interval '1 ms', '{"enabled": true}' from app_public.feature_flags f
       where (f.flag_key, f.environment) = ('promo-banner', 'production')
       returning id`,
    ),
  );
}

const apply = () =>
  withClient(database.workerUrl, (client) => client.query('select app_private.apply_due()'));

/** What happens between two examples. */
async function prepare(target: string): Promise<void> {
  if (target.includes('SCHEDULE_ID')) {
    known.set('SCHEDULE_ID', await turnBannerOn());
    await apply();
  } else if (target.endsWith('environments/production/revert')) {
    known.set('FROM', new Date().toISOString());
    await send('PATCH /api/admin/flags/checkout-v2', { rollout_percentage: 60 });
    known.set('TO', new Date(Date.now() + 1).toISOString());
  } else if (target.endsWith('resume/dry-run')) {
    await turnBannerOn();
    await apply();
  }
}

beforeAll(async () => {
  await send('POST /api/admin/environments', { name: 'staging' });
  for (const environment of ['production', 'staging']) {
    await send('POST /api/admin/flags', {
      ...{ flag_key: 'checkout-v2', environment, rollout_percentage: 10 },
    });
    await send('POST /api/admin/flags', { flag_key: 'promo-banner', environment });
  }
});

describe('docs/plans.md', () => {
  test('has an example for each thing that plans can do', () => {
    expect(REQUESTS.length).toBeGreaterThanOrEqual(13);
    expect(ASKED).toHaveLength(1);
  });

  test.each(REQUESTS)('$target', async ({ target, body, answer }) => {
    await prepare(target);
    const got = await callApi(api.url, fill(target), {
      token,
      ...(body !== undefined && { json: JSON.parse(fill(body)) as object }),
    });
    expect(got.status, got.text).toBeLessThan(300);
    if (answer !== undefined) expect(got.body).toMatchObject(JSON.parse(fill(answer)) as object);
    const { id, plan_id: plan } = got.body as { id?: string; plan_id?: string };
    const made = plan ?? (target.endsWith('/plans') ? id : undefined);
    if (made !== undefined) known.set('PLAN_ID', made);
  });

  test.each(ASKED)('%s', async (query) => {
    expect(Object.values(await graphql().data<object>(query))).not.toContain(null);
  });
});

describe('what the examples did', () => {
  interface Exported {
    readonly event_type: string;
    readonly id: string;
    readonly environment: string | null;
    readonly metadata: { readonly planId?: string; readonly environments?: readonly string[] };
  }
  const read = async (as: string, query = '') =>
    (await api.call(`GET /api/admin/audit/events?limit=1000${query}`, { token: as }))
      .body as unknown as readonly Exported[];
  const isPlans = ({ event_type: type }: Exported) => type.startsWith('flag_plan.');

  test('is sealed and verified, with its plans, and each event has a proof', async () => {
    await withClient(database.rootUrl, async (client) => {
      await sealAll(client);
      expect(await briefRowProblems(client)).toEqual([]);
      expect(
        await value(client, `select count(*)::int from audit.verify() where status <> 'ok'`),
      ).toBe(0);
    });
    const completed = (await read(token)).find(
      ({ event_type: type }) => type === 'flag_plan.completed',
    );
    const proof = await api.call(`GET /api/admin/audit/events/${completed?.id}/proof`, {
      token,
    });
    expect([proof.status, proof.text]).toEqual([
      200,
      expect.stringContaining(completed?.metadata.planId ?? 'none'),
    ]);
  });

  test('is exported as JSON and CSV, what schedules of plans did with the plan', async () => {
    const events = await read(token);
    const types = new Set(events.filter(isPlans).map(({ event_type: type }) => type));
    expect([...types].toSorted()).toEqual(
      ['cancelled', 'completed', 'created', 'updated'].map((type) => `flag_plan.${type}`),
    );
    const applied = events.filter(({ event_type: type }) => type === 'flag_schedule.applied');
    expect(applied.filter(({ metadata }) => metadata.planId !== undefined)).not.toEqual([]);
    const csv = await fetch(`${api.url}/api/admin/audit/events?limit=1000`, {
      headers: { authorization: `Bearer ${token}`, accept: 'text/csv' },
    });
    expect((await csv.text()).match(/flag_plan\.created/g)).toHaveLength(
      events.filter(({ event_type: type }) => type === 'flag_plan.created').length,
    );
  });

  test('is hidden from a token that doesn’t reach all environments of a plan', async () => {
    const seen = (await read(adminToken({ environments: ['production'] }))).filter(isPlans);
    const all = (await read(token)).filter(isPlans);
    expect(new Set(seen.map(({ environment }) => environment))).toEqual(new Set(['production']));
    expect(all.filter(({ environment }) => environment === null)).toMatchObject([
      { metadata: { environments: ['production', 'staging'] } },
    ]);
    expect(seen).toHaveLength(all.length - 1);
  });
});
