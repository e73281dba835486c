import { beforeEach, expect, test, vi } from 'vitest';
import { apply } from '../support/apply_due.ts';
import { refusalOf, SCHEDULES } from '../support/audit_subscription.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertDuePlan } from '../support/due_plans.ts';
import { insertFlag } from '../support/factory.ts';
import { useGraphql } from '../support/graphql.ts';
import { changeOf, stepsOf, type PlanChange } from '../support/plans.ts';
import { arrived, useSubscribers, type Subscription } from '../support/subscribers.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const graphql = useGraphql(database);
const subscribe = useSubscribers(graphql);

const PLANS = `subscription ($environment: String) {
  plansChanged(environment: $environment) { truncated plans { id status suspendedFor } }
}`;
const ENVIRONMENTS = 'subscription { environmentsChanged { environments { name stoppedAt } } }';
const STOP =
  'mutation ($name: String!) { stopEnvironment(input: { name: $name, reason: "r" }) { environment { name } } }';
const RESUME =
  'mutation ($name: String!) { resumeEnvironment(input: { name: $name, missed: "apply", reason: "r" }) { environment { name } } }';

const asOwner = <T>(work: Parameters<typeof withClient<T>>[1]) =>
  withClient(database.ownerUrl, work);
const asWorker = () => withClient(database.workerUrl, (client) => apply(client));

beforeEach(() => vi.waitFor(() => expect(graphql().graphql.healthy()).toBe(true), 5_000));

/** A plan of a new flag in each environment, due now unless `dueIn` says otherwise. */
const newPlan = (environments: readonly string[], dueIn = '-1 second') =>
  asOwner(async (client) => {
    const changes: PlanChange[] = [];
    for (const environment of environments)
      changes.push(changeOf(await insertFlag(client, { environment })));
    return insertDuePlan(client, changes, { dueIn });
  });

/** What a subscriber was sent of a plan, in order. */
const sentOf = ({ messages }: Subscription, id: string) =>
  messages.flatMap(({ data }) =>
    (data?.plansChanged?.plans ?? []).filter((plan) => plan.id === id),
  );

test('plans come as they are made, suspended, resumed and applied', async () => {
  const admin = await subscribe(adminToken(), PLANS);
  const auditor = await subscribe(auditorToken(), PLANS, { environment: 'staging' });
  const both = [admin, auditor];
  await graphql().data(STOP, { name: 'staging' });
  const { id } = await newPlan(['staging']);
  const active = { id, status: 'active', suspendedFor: null };
  for (const one of both) await expect.poll(() => sentOf(one, id).at(-1)).toEqual(active);
  // The plan's row stays as it is: its schedules alone are changed.
  await asWorker();
  const suspended = { ...active, suspendedFor: 'stop' };
  for (const one of both) await expect.poll(() => sentOf(one, id).at(-1)).toEqual(suspended);
  await graphql().data(RESUME, { name: 'staging' });
  for (const one of both) await expect.poll(() => sentOf(one, id).at(-1)).toEqual(active);
  await asWorker();
  const completed = { ...active, status: 'completed' };
  for (const one of both) await expect.poll(() => sentOf(one, id).at(-1)).toEqual(completed);
});

test('a plan comes to tokens that reach all of its environments, and to what it is asked for', async () => {
  const production = await subscribe(adminToken({ environments: ['production'] }), PLANS);
  const narrowed = await subscribe(adminToken(), PLANS, { environment: 'production' });
  const elsewhere = await subscribe(adminToken(), PLANS, { environment: 'development' });
  const both = await newPlan(['production', 'staging'], '1 hour');
  const one = await newPlan(['production'], '1 hour');
  await expect.poll(() => sentOf(narrowed, one.id).length).toBeGreaterThan(0);
  await expect.poll(() => sentOf(narrowed, both.id).length).toBeGreaterThan(0);
  await expect.poll(() => sentOf(production, one.id).length).toBeGreaterThan(0);
  expect(sentOf(production, both.id)).toEqual([]);
  expect(elsewhere.messages).toEqual([]);
});

test('viewers have no plans', async () => {
  expect(await refusalOf(subscribe, viewerToken(), PLANS)).toBe('forbidden');
});

test('more plans come than one notification has room for', async () => {
  const admin = await subscribe(adminToken(), PLANS);
  const came = () => {
    const plans = admin.messages.flatMap(({ data }) => data?.plansChanged?.plans ?? []);
    return new Set(plans.filter(({ status }) => status === 'cancelled').map(({ id }) => id)).size;
  };
  await asOwner(async (client) => {
    const steps = stepsOf(changeOf(await insertFlag(client)));
    await client.query(
      `select app_private.insert_plan('Many', app_private.plan_content($1, null), null) from generate_series(1, 70)`,
      [steps],
    );
    await client.query(
      `update app_public.plans set status = 'cancelled', occurrence_no = null, step_no = null, next_at = null where title = 'Many'`,
    );
  });
  await expect.poll(came, { timeout: 5_000 }).toBe(70);
});

test('the schedules of plans come with the others, suspended ones too', async () => {
  const viewer = await subscribe(viewerToken(), SCHEDULES, { environment: 'development' });
  await asOwner((client) =>
    client.query(
      `insert into app_public.environments (name) values ('development') on conflict do nothing`,
    ),
  );
  const statuses = () =>
    viewer.messages.flatMap(({ data }) =>
      (data?.flagSchedulesChanged?.schedules ?? []).map(({ status }) => status),
    );
  await graphql().data(STOP, { name: 'development' });
  await newPlan(['development']);
  await expect.poll(statuses).toEqual(['pending']);
  await asWorker();
  await expect.poll(statuses).toEqual(['pending', 'suspended']);
  await graphql().data(RESUME, { name: 'development' });
});

test('environments come to every role as they are stopped and resumed', async () => {
  const all = [
    await subscribe(adminToken(), ENVIRONMENTS),
    await subscribe(auditorToken(), ENVIRONMENTS),
    await subscribe(viewerToken({ environments: ['production'] }), ENVIRONMENTS),
  ];
  const elsewhere = await subscribe(viewerToken({ environments: ['staging'] }), ENVIRONMENTS);
  await graphql().data(STOP, { name: 'production' });
  for (const { messages } of all) await arrived(messages, 1);
  const [name, stoppedAt] = ['production', expect.any(String) as string];
  for (const { messages } of all)
    expect(messages[0]?.data?.environmentsChanged?.environments).toEqual([{ name, stoppedAt }]);
  await graphql().data(RESUME, { name: 'production' });
  for (const { messages } of all) await arrived(messages, 2);
  for (const { messages } of all)
    expect(messages[1]?.data?.environmentsChanged?.environments).toEqual([
      { name, stoppedAt: null },
    ]);
  expect(elsewhere.messages).toEqual([]);
});
