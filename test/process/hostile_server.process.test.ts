import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import type { TestApi } from '../support/api.ts';
import { runAudit } from '../support/chaos/command.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import {
  asAdministrator,
  complaints,
  startHostileServer,
  startServices,
  type HostileServer,
} from '../support/hostile.ts';
import { loginUrl } from '../support/migrated.ts';
import { startProcess } from '../support/processes.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';
import { parseShipped } from '../support/worker.ts';

let server: HostileServer;
let database: TestDatabase;
/** One API and one worker for all tests: to make a GraphQL schema takes as long as a test. */
let services: Awaited<ReturnType<typeof startServices>>;

beforeAll(async () => {
  server = await startHostileServer();
  database = server.database;
  await asAdministrator(
    database,
    `create role dana login password 'hostile' in role halyard_auditor`,
  );
  services = await startServices(database);
});
afterAll(async () => {
  await services.stop();
  await server.stop();
});

const token = adminToken();

/** A DBA's login, which has no settings of its own. */
const danaUrl = () => loginUrl(database.rootUrl, 'dana', 'hostile', database.name);

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}(Z|\+00:00)$/;
const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1_000).toISOString();
const isFresh = (time: unknown) => Math.abs(Date.parse(String(time)) - Date.now()) < 120_000;

async function graphql<T>(api: TestApi, query: string, variables: object): Promise<T> {
  const answer = await api.call('POST /graphql', { token, json: { query, variables } });
  const { data, errors } = JSON.parse(answer.text) as { data: T; errors?: unknown };
  expect(errors).toBeUndefined();
  return data;
}

describe('where every setting of server and database is hostile', () => {
  test('changes are made, applied, sealed and shipped, with the values that were given', async () => {
    const { api, sink, worker } = services;
    const made = await api.call('POST /api/admin/flags', {
      token,
      json: { flag_key: 'by-rest', description: String.raw`a \x00 'quoted' text` },
    });
    expect([made.status, made.body]).toEqual([
      201,
      expect.objectContaining({ description: String.raw`a \x00 'quoted' text` }),
    ]);
    expect(made.body.created_at).toMatch(ISO);
    expect(isFresh(made.body.created_at)).toBe(true);

    const at = inSeconds(1);
    const { scheduleFlagChange } = await graphql<{
      scheduleFlagChange: { featureFlagSchedule: { id: string; scheduledAt: string } };
    }>(
      api,
      `
        mutation ($at: Datetime!) {
          scheduleFlagChange(
            input: {
              flagKey: "by-rest"
              environment: "production"
              scheduledAt: $at
              updates: { enabled: true, rolloutPercentage: 37 }
            }
          ) {
            featureFlagSchedule {
              id
              scheduledAt
            }
          }
        }
      `,
      { at },
    );
    const { id, scheduledAt } = scheduleFlagChange.featureFlagSchedule;
    expect(scheduledAt).toMatch(ISO);
    expect(Date.parse(scheduledAt)).toBe(Date.parse(at));

    const later = await api.call('POST /api/admin/flags/by-rest/schedule', {
      token,
      json: { scheduled_at: '2031-02-03T04:05:06Z', updates: { enabled: false } },
    });
    expect([later.status, later.body.scheduled_at]).toEqual([201, '2031-02-03T04:05:06.000Z']);
    const path = '/api/admin/flags/by-rest/schedule';
    const cancelled = await api.call(`DELETE ${path}/${later.body.id}`, { token });
    expect(cancelled.status, cancelled.text).toBe(200);

    const schedule = async () => (await api.call(`GET ${path}/${id}`, { token })).body;
    await expect.poll(async () => (await schedule()).status).toBe('applied');
    expect((await schedule()).applied_at).toMatch(ISO);
    const flag = await api.call('GET /api/admin/flags/by-rest', { token: viewerToken() });
    expect(flag.body).toMatchObject({ enabled: true, rollout_percentage: 37 });

    const types = () => sink.taken.map(({ message }) => parseShipped(message).eventType);
    await expect.poll(types).toEqual(expect.arrayContaining(['flag_schedule.applied']));
    await expect.poll(() => types().at(-1)).toBe('audit.sealed');
    for (const { message } of sink.taken)
      expect(JSON.parse(message)).toMatchObject({
        timestamp: expect.stringMatching(/^20\d\d-\d\d-\d\dT[\d:]+\.\d{6}Z$/) as string,
      });
    expect(sink.taken.every(({ occurredAt }) => isFresh(occurredAt.toISOString()))).toBe(true);

    const events = await api.call('GET /api/admin/audit/events', { token: auditorToken() });
    expect(events.status, events.text).toBe(200);
    expect(complaints([...api.lines, ...worker.lines])).toEqual([]);
  });

  test('the commands work: reconcile what is lost, verify, export', async () => {
    await withClient(database.ownerUrl, async (client) => {
      await client.query('alter table app_public.feature_flags disable trigger _900_audit_update');
      await client.query(
        `update app_public.feature_flags set description = 'lost' where flag_key = 'by-rest'`,
      );
      await client.query(
        'alter table app_public.feature_flags enable always trigger _900_audit_update',
      );
    });
    const reconciled = await runAudit(database, 'reconcile', '--full');
    expect([reconciled.status, reconciled.stdout + reconciled.stderr]).toEqual([
      0,
      'Wrote 1 events: 0 from dead letters, 1 in place of lost ones.\n',
    ]);
    await expect
      .poll(() =>
        withClient(database.ownerUrl, (client) =>
          value(client, 'select count(*)::int from audit.queue'),
        ),
      )
      .toBe(0);
    const verified = await runAudit(database, 'verify');
    expect([verified.status, verified.stderr]).toEqual([0, '']);
    expect(verified.stdout).toContain('No problems.');
    const exporting = startProcess(
      process.execPath,
      ['src/main.ts', 'audit', 'export', '--type', 'feature_flag.reconciled'],
      { env: { NODE_ENV: 'production', AUDITOR_DATABASE_URL: danaUrl() } },
    );
    expect([await exporting.exited, exporting.stdout()]).toEqual([
      0,
      expect.stringContaining('"lost"') as string,
    ]);
  });

  test('a DBA whose own session is hostile changes, verifies, proves and reads', async () => {
    await withClient(database.rootUrl, async (client) => {
      await client.query(`begin isolation level serializable read write;
        insert into app_public.feature_flags (flag_key) values ('by-hand');
        insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
          select id, '2032-01-02 03:04:05.678901+00', '{"enabled": true}' from app_public.feature_flags where flag_key = 'by-hand';
        update app_public.feature_flag_schedules s set scheduled_at = '2032-02-03 04:05:06.789012+05:45'
          from app_public.feature_flags f where f.id = s.flag_id and f.flag_key = 'by-hand';
        select app_private.set_setting('pending_per_flag', '900');
        commit`);
    });
    const sealed = () =>
      withClient(database.ownerUrl, (client) =>
        value<number>(
          client,
          `select count(*)::int from audit.events e join audit.ledger l on l.event_id = e.id
           where e.actor_kind = 'database' or e.event_type = 'setting.changed'`,
        ),
      );
    await expect.poll(sealed).toBeGreaterThanOrEqual(4);

    await withClient(danaUrl(), async (dana) => {
      const problems = `select status, detail from audit.verify() where status <> 'ok'`;
      expect((await dana.query(problems)).rows).toEqual([]);
      await dana.query('set row_security = on');
      await dana.query(`set restrict_nonsystem_relation_kind = ''`);
      const { rows } = await dana.query<{ type: string; at: string; id: string; payload: string }>(
        `select event_type as type, metadata #>> '{after,scheduledAt}' as at, id, payload
         from audit.events where flag_key = 'by-hand' order by occurred_at, event_type desc`,
      );
      expect(rows.map(({ type }) => type).toSorted()).toEqual([
        'feature_flag.created',
        'flag_schedule.created',
        'flag_schedule.rescheduled',
      ]);
      const moved = rows.find(({ type }) => type === 'flag_schedule.rescheduled');
      expect(moved?.at).toBe('2032-02-02T22:20:06.789012Z');
      expect(await value(dana, `select audit.prove($1) ->> 'eventId'`, [moved?.id])).toBe(
        moved?.id,
      );
      for (const view of ['flag_events', 'actor_events', 'lateness_days', 'manual_changes'])
        expect((await dana.query(`select * from audit.${view}`)).rowCount, view).toBeGreaterThan(0);
      expect(await value(dana, 'select p99_ms >= 0 from audit.lateness_days limit 1')).toBe(true);
    });
  });

  test('so do the functions that an administrator reaches, and purging keeps what it must', async () => {
    await withClient(database.rootUrl, async (client) => {
      // Time-outs of 20 ms are for nobody; all else stays.
      await client.query(
        'set default_transaction_read_only = off; set lock_timeout = 0; set exit_on_error = off; set role halyard_owner',
      );
      const first = `date_trunc('month', now(), 'UTC') - interval '4 months'`;
      expect(await value(client, `select app_private.make_audit_partition(${first})`)).toBe(true);
      const retain = `select outcome, reason from audit.retain('2 months')`;
      await expect(client.query(retain)).rejects.toMatchObject({ code: '25000' });
      await client.query('set default_transaction_isolation = "read committed"');
      expect((await client.query(retain)).rows).toEqual([{ outcome: 'purged', reason: null }]);
      expect(
        await value(
          client,
          `select app_private.setting_problem('schedule_retention', 'applied=9,applied=8')`,
        ),
      ).toMatch(/^schedule_retention must be/);
      await client.query(
        `insert into audit.dead_letters (content, error_code, error_message)
         values ('{"events": [{"event_type": "feature_flag.updated", "flag_id": "of the letter"}]}', 'XX000', 'test')`,
      );
      const letters = await client.query('select row_id from app_private.dead_letter_rows()');
      expect(letters.rows).toEqual([{ row_id: 'of the letter' }]);
      await client.query('delete from audit.dead_letters');
    });
    expect((await runAudit(database, 'verify')).status).toBe(0);
  });
});
