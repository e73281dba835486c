import pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describe as describeList } from '../../src/cli/plans/list.ts';
import { describe as describePlan } from '../../src/cli/plans/show.ts';
import type { PlanRow } from '../../src/plans/rows.ts';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { requestPlan } from '../support/plan_requests.ts';
import { changeOf } from '../support/plans.ts';
import { startProcess } from '../support/processes.ts';

const database = useDatabase();
type Flag = Awaited<ReturnType<typeof insertFlag>>;
let banner: Flag;
let search: Flag;
let release: string;
let due: string;
let oneShot: string;

const start = (args: string[], url: string | null = database.ownerUrl) =>
  startProcess('node', ['src/main.ts', ...args], {
    env: { NODE_ENV: 'production', ...(url === null ? {} : { DATABASE_URL: url }) },
  });

async function halyard(args: string[], url?: string | null) {
  const running = start(args, url);
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

const owner = <T>(sql: string, values: unknown[] = []) =>
  withClient(database.ownerUrl, (client) => value<T>(client, sql, values));
const apply = () =>
  withClient(database.workerUrl, (client) => client.query('select app_private.apply_due()'));
const statuses = () =>
  owner<Record<string, string>>(
    `select jsonb_object_agg(f.flag_key, s.status)
     from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
     where s.scheduled_at < now()`,
  );

beforeAll(async () => {
  await withClient(database.rootUrl, async (client) => {
    const checkout = await insertFlag(client, { flag_key: 'checkout' });
    const staging = await insertFlag(client, { flag_key: 'checkout', environment: 'staging' });
    banner = await insertFlag(client, { flag_key: 'banner' });
    search = await insertFlag(client, { flag_key: 'search' });
    const share = (rollout_percentage: number) => ({ rollout_percentage });
    const guard = { updates: share(50), expects: share(10), on_conflict: 'suspend' } as const;
    release = await requestPlan(client, [changeOf(checkout, guard), changeOf(staging)], {
      ...{ title: 'Black Friday', reason: 'OPS-874' },
    });
    await insertSchedule(client, banner.id, { dueIn: '2 hours' });
  });
});

test('an environment is stopped once, and what comes due is suspended', async () => {
  // As a request that doesn't end: the command names it, and goes on when it is gone.
  const holder = new pg.Client({ connectionString: database.ownerUrl, application_name: 'holder' });
  await holder.connect();
  await holder.query(
    `begin; select from app_public.environments where name = 'production' for update`,
  );
  const running = start(['stop', 'production', '--reason', 'errors in checkout']);
  await running.waitFor(/Waiting for process \d+ \(halyard_owner, holder, /);
  await holder.end();
  const stopped = { code: await running.exited, out: running.stdout() };
  expect(stopped.code).toBe(0);
  expect(stopped.out).toMatch(/^production is stopped since \S+Z: no schedule changes its flags/);
  expect(stopped.out).toContain('Schedules that are pending: 2, the first of them for ');
  expect(
    await owner(
      `select concat_ws(' ', application_name, actor_kind, metadata ->> 'reason') from audit.events
       where event_type = 'environment.stopped'`,
    ),
  ).toBe('halyard stop database errors in checkout');

  const again = await halyard(['stop', 'production', '--reason', 'again']);
  expect(again).toMatchObject({ code: 1, out: '' });
  expect(again.err).toMatch(/^The environment production is .*stopped.*\n$/);

  await withClient(database.rootUrl, async (client) => {
    due = await requestPlan(client, [changeOf(banner)], { title: 'Banner now', dueIn: null });
    oneShot = (await insertSchedule(client, search.id, { dueIn: '-1 second' })).id;
  });
  await apply();
  expect(await statuses()).toEqual({ banner: 'suspended', search: 'suspended' });
});

test('plans are listed and shown, for people and for machines', async () => {
  const listed = await halyard(['plan', 'list', '--environment', 'production']);
  expect(listed).toMatchObject({ code: 0, err: '' });
  expect(listed.out.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['id', 'status', 'due or ended', 'flags', 'environments', 'made by', 'title'],
    [
      due,
      'active, suspended for a stop',
      expect.any(String),
      '1',
      'production',
      'alice',
      'Banner now',
    ],
    [release, 'active', expect.any(String), '2', 'production, staging', 'alice', 'Black Friday'],
    [''],
  ]);
  const one = ['plan', 'list', '--flag', 'checkout', '--status', 'active', '--json'];
  expect(JSON.parse((await halyard(one)).out)).toMatchObject([
    { id: release, title: 'Black Friday', starts_at: expect.any(String) as string },
  ]);
  const cut = await halyard(['plan', 'list', '--limit', '1']);
  expect(cut.err).toBe('There are more than 1: --limit takes a higher number.\n');

  const shown = await halyard(['plan', 'show', release]);
  expect(shown).toMatchObject({ code: 0, err: '' });
  expect(shown.out).toMatch(/^Black Friday\n {2}status {6}active\n/);
  expect(shown.out).toMatch(
    /^checkout {2}production {3}rollout_percentage: 50 {2}rollout_percentage: 10 {2}suspend {4}pending$/m,
  );
  expect(shown.out).toMatch(
    /^expectation {2}checkout {2}production {3}rollout_percentage {2}10 +100 /m,
  );
  const parsed = JSON.parse((await halyard(['plan', 'show', release, '--json'])).out) as object;
  expect(parsed).toMatchObject({
    ...{ id: release, reason: 'OPS-874', revision: 1 },
    conflicts: [{ flag_key: 'checkout', field: 'rollout_percentage', expected: 10, found: 100 }],
  });
});

test('a dry run of the resume changes nothing; the resume does what it said', async () => {
  const dueRow = await owner<string>(
    'select id from app_public.feature_flag_schedules where plan_id = $1',
    [due],
  );
  const args = [
    'resume',
    'production',
    '--missed',
    'skip',
    '--except',
    dueRow,
    '--reason',
    'mended',
  ];
  const dry = await halyard([...args, '--dry-run']);
  expect(dry).toMatchObject({ code: 0, err: '' });
  expect(dry.out).toMatch(/ search {2}production +enabled: true +\S+ {2}skip$/m);
  expect(dry.out).toMatch(/ banner {2}production +enabled: true {2}Banner now {2}\S+ {2}apply$/m);
  expect(dry.out).toContain(
    'Nothing is changed. production would be resumed: 1 to apply, 1 skipped',
  );
  expect(await statuses()).toEqual({ banner: 'suspended', search: 'suspended' });
  expect(
    await owner('select stopped_at is not null from app_public.environments where name = $1', [
      'production',
    ]),
  ).toBe(true);

  const done = await halyard([...args, '--json']);
  expect(done).toMatchObject({ code: 0, err: '' });
  expect(JSON.parse(done.out)).toMatchObject({
    ...{ name: 'production', dry_run: false },
    missed: expect.arrayContaining([
      expect.objectContaining({ schedule_id: dueRow, plan: 'Banner now', outcome: 'apply' }),
      expect.objectContaining({ schedule_id: oneShot, plan: null, outcome: 'skip' }),
    ]) as object[],
  });
  await apply();
  expect(await statuses()).toEqual({ banner: 'applied', search: 'skipped' });
  const again = await halyard(args);
  expect(again).toMatchObject({ code: 1, out: '' });
  expect(again.err).toMatch(/^The environment production isn't stopped.*\n$/);
});

test.for<[string[], number, string]>([
  [['stop', 'nowhere', '--reason', 'why'], 2, 'nowhere'],
  [['stop', 'staging', '--reason', ' '], 2, 'reason'],
  [['plan', 'show', '00000000-0000-4000-8000-000000000000'], 2, 'There is no plan'],
])('%j is refused with status %i, and changes nothing', async ([args, status, sentence]) => {
  const refused = await halyard(args);
  expect(refused).toMatchObject({ code: status, out: '' });
  expect(refused.err).toContain(sentence);
  expect(
    await owner('select count(*)::int from app_public.environments where stopped_at is not null'),
  ).toBe(0);
});

test('without the owner’s rights or its address nothing is stopped', async () => {
  const args = ['stop', 'staging', '--reason', 'why'];
  const worker = await halyard(args, database.workerUrl);
  expect(worker).toMatchObject({ code: 1, out: '' });
  expect(worker.err).toMatch(/^The database refuses: permission denied .*Set DATABASE_URL to/);
  expect((await halyard(args, null)).err).toContain('Set DATABASE_URL');
});

test('what others wrote can’t move the cursor of a terminal, and what failed is said', () => {
  const plan: PlanRow = {
    ...{
      id: 'i',
      title: '\u001b[2Jgone',
      status: 'paused',
      status_reason: 'a: no',
      suspended_for: null,
    },
    ...{ content: { steps: [], startsAt: null }, content_hash: 'ab', reason: null, revision: 3 },
    ...{ reverts: { planId: 'p' }, occurrence_no: 1, step_no: 1, next_at: null, ended_at: null },
    ...{ created_by: null, created_at: new Date(0), updated_at: new Date(0) },
  };
  expect(describeList([plan])).toContain('�[2Jgone');
  expect(describeList([])).toBe('There is no such plan.\n');
  const change = { flag_key: 'a', environment: 'production', updates: { enabled: true } };
  const rest = { expects: null, on_conflict: 'overwrite', schedule_id: 'i', kept: null };
  const said = describePlan(
    plan,
    [
      { ...change, ...rest, status: 'failed', error_message: 'no', suspended_details: null },
      {
        ...change,
        ...rest,
        status: null,
        schedule_id: null,
        error_message: null,
        suspended_details: null,
      },
      {
        ...change,
        ...rest,
        status: 'applied',
        kept: ['enabled'],
        error_message: null,
        suspended_details: null,
      },
    ],
    [],
  );
  expect(said).toContain('  why         a: no\n');
  expect(said).toContain('  takes back  {"planId":"p"}\n');
  expect(said).toMatch(/failed {3}no\n.*none\n.*left as found: enabled\n$/s);
});
