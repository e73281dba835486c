import { readFile } from 'node:fs/promises';
import { buildSchema, getNamedType } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { RIGHTS } from '../../src/auth/rights.ts';
import { contentsOf, startTestApi, type TestApi } from '../support/api.ts';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { useGraphql } from '../support/graphql.ts';
import { requestsFor, type TwoWays } from '../support/requests.ts';
import { adminToken, auditorToken, sign, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const graphql = useGraphql(database);
let api: TestApi;
let flag: { id: string; flag_key: string };
let schedule: string;

beforeAll(async () => {
  api = await startTestApi(database.authenticatorUrl);
  await withClient(database.ownerUrl, async (client) => {
    flag = await insertFlag(client);
    ({ id: schedule } = await insertSchedule(client, flag.id));
  });
});
afterAll(() => api.close());

const requests = requestsFor(
  () => flag.flag_key,
  () => schedule,
);
const { CREATE, SCHEDULE, CANCEL, LIST, LIST_SCHEDULES, READ_TRAIL, MAKE_ENVIRONMENT } = requests;
const { MAKE_PLAN, LIST_PLANS, STOP } = requests;

/** Runs SQL as the owner, `work`, and SQL that takes it back. */
async function whileBroken(breakIt: string, mendIt: string, work: () => Promise<void>) {
  const run = (sql: string) => withClient(database.ownerUrl, (client) => client.query(sql));
  await run(breakIt);
  try {
    await work();
  } finally {
    await run(mendIt);
  }
}

/** Asks by REST and by GraphQL, expects one code of both, and no change. */
async function expectBoth(request: TwoWays, token: string, status: number, code: string) {
  const before = await contentsOf(database);
  const [target, json] = request.rest();
  const answer = await api.call(target, { token, json });
  expect([answer.status, answer.body.code]).toEqual([status, code]);
  expect(await graphql().codeOf(request.graphql(), {}, token)).toBe(code);
  expect(await contentsOf(database)).toBe(before);
}

const alarms = () => [...api.lines, ...graphql().lines].filter(({ level }) => level === 'error');

describe('what the role is meant to do, and the database denies, is the server’s fault', () => {
  const cases: [string, TwoWays, string, string, string][] = [
    [
      'a grant on a table is lost',
      LIST,
      adminToken(),
      'revoke select on app_public.feature_flags from halyard_admin',
      'grant select on app_public.feature_flags to halyard_admin',
    ],
    [
      'a viewer’s grant is lost',
      LIST_SCHEDULES,
      viewerToken(),
      'revoke select on app_public.feature_flag_schedules from halyard_viewer',
      'grant select on app_public.feature_flag_schedules to halyard_viewer',
    ],
    [
      'an auditor’s grant is lost',
      READ_TRAIL,
      auditorToken(),
      'revoke select on audit.events from halyard_auditor; revoke execute on function audit.last_seq() from halyard_auditor',
      'grant select on audit.events to halyard_auditor; grant execute on function audit.last_seq() to halyard_auditor',
    ],
    [
      'a grant on a column is lost',
      CREATE,
      adminToken(),
      'revoke insert (flag_key) on app_public.feature_flags from halyard_admin',
      'grant insert (flag_key) on app_public.feature_flags to halyard_admin',
    ],
    [
      'the right to call a function is lost',
      CANCEL,
      adminToken(),
      'revoke execute on function app_public.cancel_flag_schedule(uuid, text) from halyard_admin',
      'grant execute on function app_public.cancel_flag_schedule(uuid, text) to halyard_admin',
    ],
    [
      'a grant on plans is lost',
      LIST_PLANS,
      auditorToken(),
      'revoke select on app_public.plans from halyard_auditor',
      'grant select on app_public.plans to halyard_auditor',
    ],
    [
      'a function that a policy calls may not be called',
      CREATE,
      adminToken(),
      'revoke execute on function app_private.claim_environments() from halyard_admin',
      'grant execute on function app_private.claim_environments() to halyard_admin',
    ],
    [
      'the owner of a function lost a right',
      CANCEL,
      adminToken(),
      'revoke update on app_public.feature_flag_schedules from halyard_owner',
      'grant update on app_public.feature_flag_schedules to halyard_owner',
    ],
    [
      'row_security is off',
      CREATE,
      adminToken(),
      `create function app_private.tg_test__look() returns trigger language plpgsql set row_security to off as
       $$ begin perform from app_public.feature_flags; return new; end $$;
       create trigger _050_look before insert on app_public.feature_flags
       for each row execute function app_private.tg_test__look()`,
      'drop function app_private.tg_test__look() cascade',
    ],
    [
      'a trigger of a stranger’s denies it',
      CREATE,
      adminToken(),
      `create function app_private.tg_test__deny() returns trigger language plpgsql as
       $$ begin raise exception 'no' using errcode = 'insufficient_privilege'; end $$;
       create trigger _050_deny before insert on app_public.feature_flags
       for each row execute function app_private.tg_test__deny()`,
      'drop function app_private.tg_test__deny() cascade',
    ],
  ];

  test.each(cases)('%s', async (_name, request, token, breakIt, mendIt) => {
    const before = alarms().length;
    await whileBroken(breakIt, mendIt, () => expectBoth(request, token, 500, 'internal_error'));
    const added = alarms().slice(before);
    expect(added).toHaveLength(2);
    for (const { err } of added) expect(err).toMatchObject({ code: '42501' });
  });
});

/** The answer of REST and the first error of GraphQL: code and sentence. */
async function answersTo(request: TwoWays, token: string): Promise<[string, string][]> {
  const [target, json] = request.rest();
  const { body } = await api.call(target, { token, json });
  const { errors } = await graphql().post(request.graphql(), {}, { token });
  const [first] = errors ?? [];
  return [
    [body.code, body.detail],
    [first?.extensions.code ?? '', first?.message ?? ''],
  ];
}

describe('what a trigger of a DBA’s refuses', () => {
  const TEXT = 'Frozen until Monday: ask Dora.';
  const refuse = (table: string, text: string, options: string) => [
    `create schema ops; grant usage on schema ops to public;
     create function ops.tg_test__refuse() returns trigger language plpgsql as
     $$ begin raise exception '${text}' using detail = 'secret'${options}; end $$;
     create trigger _050_refuse before insert or update on app_public.${table}
     for each row execute function ops.tg_test__refuse()`,
    'drop schema ops cascade',
  ];

  const refusals: [string, TwoWays, string, string?, string?, string?][] = [
    ['a new flag', CREATE, 'feature_flags'],
    ['a new schedule', SCHEDULE, 'feature_flag_schedules'],
    ['a cancellation', CANCEL, 'feature_flag_schedules'],
    ['a new plan', MAKE_PLAN, 'plans'],
    ['a stop', STOP, 'environments'],
    ['with a code of its own', CREATE, 'feature_flags', ", errcode = 'OPS01'"],
    ['as a check does', CREATE, 'feature_flags', ", errcode = 'check_violation'"],
    [
      'in the name of a constraint of Halyard’s',
      CREATE,
      'feature_flags',
      ", constraint = 'feature_flags_flag_key_check'",
    ],
    ['without a text', CREATE, 'feature_flags', '', '', 'The database refuses this change.'],
  ];

  test.each(refusals)('is answered with its text: %s', async (_name, request, table, ...rest) => {
    const [options = '', text = TEXT, detail = text] = rest;
    const before = alarms().length;
    const [breakIt = '', mendIt = ''] = refuse(table, text, options);
    await whileBroken(breakIt, mendIt, async () => {
      await expectBoth(request, adminToken(), 409, 'change_refused');
      const answer = ['change_refused', detail];
      expect(await answersTo(request, adminToken())).toEqual([answer, answer]);
    });
    expect(alarms()).toHaveLength(before);
  });
});

test('a 403 names the roles that would do', async () => {
  for (const [request, caller, roles] of [
    [CREATE, viewerToken(), ['admin']],
    [CREATE, auditorToken(), ['admin']],
    [CREATE, adminToken({ environments: ['staging'] }), ['admin', 'environment']],
    [SCHEDULE, viewerToken(), ['admin']],
    [CANCEL, auditorToken(), ['admin']],
    [MAKE_ENVIRONMENT, viewerToken(), ['admin', 'environments']],
    [MAKE_ENVIRONMENT, adminToken({ environments: [] }), ['admin', 'environments']],
    [READ_TRAIL, viewerToken(), ['admin', 'auditor']],
    [LIST_PLANS, viewerToken(), ['admin', 'auditor']],
    [MAKE_PLAN, auditorToken(), ['admin', 'environments']],
    [STOP, viewerToken(), ['admin', 'environment']],
    [LIST, sign({ userId: 'nobody' }), ['admin', 'viewer', 'auditor']],
  ] as const)
    for (const [code, sentence] of await answersTo(request, caller)) {
      expect(['forbidden', 'role_missing']).toContain(code);
      for (const role of roles) expect(sentence).toContain(role);
    }
});

describe('what a policy or the role’s own limits deny is the caller’s', () => {
  test('a new flag in an environment that the token doesn’t reach', async () => {
    await expectBoth(CREATE, adminToken({ environments: ['staging'] }), 403, 'forbidden');
  });

  test('a policy that a DBA has added', async () => {
    await whileBroken(
      `create policy frozen on app_public.feature_flags as restrictive for insert to halyard_admin with check (false)`,
      'drop policy frozen on app_public.feature_flags',
      () => expectBoth(CREATE, adminToken(), 403, 'forbidden'),
    );
  });

  test.each([
    ['a viewer that creates', CREATE, viewerToken()],
    ['a viewer that schedules', SCHEDULE, viewerToken()],
    ['a viewer that cancels', CANCEL, viewerToken()],
    ['a viewer that reads the trail', READ_TRAIL, viewerToken()],
    ['a viewer that reads plans', LIST_PLANS, viewerToken()],
    ['a viewer that makes a plan', MAKE_PLAN, viewerToken()],
    ['a viewer that stops an environment', STOP, viewerToken()],
    ['an auditor that makes a plan', MAKE_PLAN, auditorToken()],
    ['an auditor that creates', CREATE, auditorToken()],
    ['an auditor that schedules', SCHEDULE, auditorToken()],
    ['an auditor that cancels', CANCEL, auditorToken()],
  ])('%s', async (_name, request, token) => {
    const before = alarms().length;
    await expectBoth(request, token, 403, 'forbidden');
    expect(alarms()).toHaveLength(before);
  });

  test('each field at the root of a query is judged by itself', async () => {
    const query = '{ featureFlags { nodes { id } } auditEvents { nodes { id } } }';
    const { data, errors } = await graphql().post(query, {}, { token: viewerToken() });
    expect(data).toMatchObject({
      featureFlags: { nodes: expect.any(Array) as [] },
      auditEvents: null,
    });
    expect(errors).toMatchObject([{ path: ['auditEvents'], extensions: { code: 'forbidden' } }]);
  });
});

test('of the fields at the root, those that read the trail are known by their names', async () => {
  const text = await readFile(new URL('../../schema/halyard.graphql', import.meta.url), 'utf8');
  const schema = buildSchema(text);
  const fields = [schema.getQueryType(), schema.getSubscriptionType()].flatMap((type) =>
    Object.values(type?.getFields() ?? {}),
  );
  expect(fields.length).toBeGreaterThan(5);
  for (const { name, type } of fields)
    expect([name, name.startsWith('auditEvent')]).toEqual([
      name,
      getNamedType(type).name.startsWith('AuditEvent'),
    ]);
});

test('the roles that are meant to do something are those that the database lets do it', async () => {
  const tables = {
    read_flags: ['app_public.feature_flags', 'app_public.feature_flag_schedules'],
    read_plans: ['app_public.plans'],
    read_trail: ['audit.events'],
  };
  await withClient(database.ownerUrl, async (client) => {
    for (const role of ['admin', 'auditor', 'viewer'] as const) {
      const has = (sql: string) => value<boolean>(client, `select ${sql}`, [`halyard_${role}`]);
      for (const action of ['read_flags', 'read_plans', 'read_trail'] as const)
        for (const table of tables[action])
          expect([role, table, await has(`has_table_privilege($1, '${table}', 'select')`)]).toEqual(
            [role, table, RIGHTS[action].roles.includes(role)],
          );
      expect(
        await has(`has_any_column_privilege($1, 'app_public.feature_flags', 'insert, update')`),
      ).toBe(RIGHTS.change_flags.roles.includes(role));
      expect(
        await has(`has_function_privilege($1, 'app_public.cancel_plan(uuid, text)', 'execute')`),
      ).toBe(RIGHTS.change_plans.roles.includes(role));
    }
  });
});
