import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { RefusedError } from '../../src/postgres/error.ts';
import { setUp } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { startTestApi } from '../support/api.ts';
import { runAudit } from '../support/chaos/command.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import { asAdministrator, complaints, FORGED, HOSTILE } from '../support/hostile.ts';
import { startBoth, startHostileServer, type HostileServer } from '../support/hostile.ts';
import { makeTestLog, type LogLine } from '../support/log.ts';
import { loginUrl } from '../support/migrated.ts';
import { startProcess } from '../support/processes.ts';
import { adminToken, auditorToken } from '../support/tokens.ts';
import { parseShipped } from '../support/worker.ts';

let server: HostileServer;
let database: TestDatabase;

beforeAll(async () => {
  server = await startHostileServer();
  database = server.database;
});
afterAll(() => server.stop());

const token = adminToken();
const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1_000).toISOString();
const isFresh = (time: unknown) => Math.abs(Date.parse(String(time)) - Date.now()) < 120_000;

describe('a process names the setting that its role lacks', () => {
  const named = (lines: readonly LogLine[]) =>
    complaints(lines).map(({ role, setting, mend }) => ({ role, setting, mend }));

  test('that was reset, and that was set in the database, and works all the same', async () => {
    await asAdministrator(
      database,
      'alter role halyard_worker reset "DateStyle"',
      // Who may not become the role gets only a warning from the server.
      'grant halyard_auditor to halyard_worker',
      'alter role halyard_authenticator in database halyard set row_security = off',
      'alter role halyard_worker in database halyard set role = halyard_auditor',
      'alter role halyard_authenticator reset lock_timeout',
    );
    onTestFinished(() =>
      asAdministrator(
        database,
        `alter role halyard_worker set datestyle = 'ISO, MDY'`,
        'alter role halyard_authenticator in database halyard reset row_security',
        'alter role halyard_worker in database halyard reset role',
        'revoke halyard_auditor from halyard_worker',
        `alter role halyard_authenticator set lock_timeout = '4s'`,
      ),
    );
    const { api, worker } = await startBoth(database);
    expect((await api.call('GET /api/admin/flags', { token })).status).toBe(200);
    expect(named(api.lines)).toEqual([
      {
        role: 'halyard_authenticator',
        setting: 'lock_timeout',
        mend: `alter role halyard_authenticator set lock_timeout = '4s'`,
      },
      {
        role: 'halyard_authenticator',
        setting: 'row_security',
        mend: 'alter role halyard_authenticator in database halyard reset row_security',
      },
    ]);
    expect(named(worker.lines)).toEqual([
      {
        role: 'halyard_worker',
        setting: 'DateStyle',
        mend: `alter role halyard_worker set DateStyle = 'ISO, MDY'`,
      },
      {
        role: 'halyard_worker',
        setting: 'role',
        mend: 'alter role halyard_worker in database halyard reset role',
      },
    ]);
    expect(api.lines.find(({ setting }) => setting === 'row_security')?.msg).toMatch(
      /counts on 'on' \(this process sets it for its own sessions\): as an administrator, alter role/,
    );
    expect(worker.lines.find(({ setting }) => setting === 'DateStyle')?.msg).toBe(
      `halyard_worker begins its sessions with DateStyle = '${HOSTILE.DateStyle}', and Halyard counts on 'ISO, MDY' ` +
        '(this process sets it for its own sessions): run "npm run halyard -- setup" again or, as an administrator, ' +
        `alter role halyard_worker set DateStyle = 'ISO, MDY'`,
    );
  });

  test('and setup sets it again, and keeps a value that does as well', async () => {
    await asAdministrator(
      database,
      'alter role halyard_worker reset "DateStyle"',
      'alter role halyard_worker reset halyard.recording',
      `alter database halyard set halyard.recording = 'on'`,
      'alter role halyard_worker set synchronous_commit = remote_apply',
    );
    await setUp({ ...database, log: makeTestLog().log });
    await withClient(database.workerUrl, async (client) => {
      expect(await value(client, 'show datestyle')).toBe('ISO, MDY');
      expect(await value(client, 'show halyard.recording')).toBe('');
      expect(await value(client, 'show synchronous_commit')).toBe('remote_apply');
    });
    await asAdministrator(
      database,
      'alter role halyard_worker set synchronous_commit = on',
      'alter database halyard reset halyard.recording',
    );
  });

  test('however many: what a process may set for its sessions is right in them', async () => {
    const ROLES = ['halyard_owner', 'halyard_authenticator', 'halyard_worker'];
    const LEFT = /timeout|read_only|session_replication_role/;
    const settings = Object.entries({ ...HOSTILE, ...FORGED }).filter(([name]) => !LEFT.test(name));
    const each = (statement: (role: string, name: string, text: string) => string) =>
      ROLES.flatMap((role) => settings.map(([name, text]) => statement(role, name, text)));
    await asAdministrator(
      database,
      ...each(
        (role, name, text) => `alter role ${role} in database halyard set ${name} = '${text}'`,
      ),
    );
    onTestFinished(() =>
      asAdministrator(
        database,
        ...ROLES.map((role) => `alter role ${role} in database halyard reset all`),
      ),
    );
    const { log, lines } = makeTestLog();
    await migrate(database.ownerUrl, log);
    const { api, worker, sink } = await startBoth(database);
    const path = '/api/admin/flags';
    const made = await api.call(`POST ${path}`, { token, json: { flag_key: 'overridden' } });
    expect([made.status, isFresh(made.body.created_at)]).toEqual([201, true]);
    const json = { scheduled_at: inSeconds(1), updates: { rollout_percentage: 3 } };
    const scheduled = await api.call(`POST ${path}/overridden/schedule`, { token, json });
    expect([scheduled.status, scheduled.body.scheduled_at]).toEqual([201, json.scheduled_at]);
    const flag = async () => (await api.call(`GET ${path}/overridden`, { token })).body;
    await expect.poll(flag).toMatchObject({ rollout_percentage: 3 });
    await expect
      .poll(() => sink.taken.map(({ message }) => parseShipped(message).eventType))
      .toContain('flag_schedule.applied');
    expect((await runAudit(database, 'verify')).status).toBe(0);
    await withClient(database.rootUrl, async (root) => {
      const whose = `select distinct actor_kind, admin_user_id from audit.actor_events where flag_key = 'overridden'`;
      await root.query(`set row_security = on; set restrict_nonsystem_relation_kind = ''`);
      expect((await root.query(whose)).rows).toEqual([
        { actor_kind: 'admin', admin_user_id: 'alice' },
      ]);
    });
    for (const [found, role] of [
      [lines, 'halyard_owner'],
      [api.lines, 'halyard_authenticator'],
      [worker.lines, 'halyard_worker'],
    ] as const) {
      const warnings = named(found);
      expect(warnings.map(({ setting }) => setting)).toEqual(
        expect.arrayContaining(Object.keys(FORGED)),
      );
      expect(warnings.length).toBeGreaterThan(20);
      for (const warning of warnings)
        expect(warning).toMatchObject({
          role,
          mend: `alter role ${role} in database halyard reset ${String(warning.setting)}`,
        });
    }
  });

  test('that no process may set, and isn’t ready', async () => {
    await asAdministrator(
      database,
      'alter role halyard_authenticator in database halyard set session_replication_role = replica',
    );
    onTestFinished(() =>
      asAdministrator(
        database,
        'alter role halyard_authenticator in database halyard reset session_replication_role',
      ),
    );
    const api = await startTestApi(database.authenticatorUrl);
    onTestFinished(api.close);
    const ready = await api.call('GET /readyz');
    expect([ready.status, ready.body]).toEqual([
      503,
      expect.objectContaining({
        checks: expect.objectContaining({ settings: 'failed' }) as object,
      }),
    ]);
  });

  test('that holds all changes, and isn’t ready', async () => {
    await asAdministrator(
      database,
      'alter role halyard_authenticator in database halyard set default_transaction_read_only = on',
    );
    onTestFinished(() =>
      asAdministrator(
        database,
        'alter role halyard_authenticator in database halyard reset default_transaction_read_only',
      ),
    );
    const api = await startTestApi(database.authenticatorUrl);
    onTestFinished(api.close);
    const ready = await api.call('GET /readyz');
    expect([ready.status, ready.body]).toEqual([
      503,
      expect.objectContaining({
        checks: expect.objectContaining({ writable: 'failed' }) as object,
      }),
    ]);
    expect(named(api.lines).filter(({ setting }) => setting !== undefined)).toEqual([
      {
        role: 'halyard_authenticator',
        setting: 'default_transaction_read_only',
        mend: 'alter role halyard_authenticator in database halyard reset default_transaction_read_only',
      },
    ]);
    expect((await api.call('GET /api/admin/flags', { token })).status).toBe(200);
    // It would be an event.
    const exported = await api.call('GET /api/admin/audit/events', { token: auditorToken() });
    expect([exported.status, exported.body.code]).toEqual([503, 'database_unavailable']);

    // Probes alone keep a connection in use.
    expect((await api.call('GET /readyz')).status).toBe(503);
    await asAdministrator(
      database,
      'alter role halyard_authenticator in database halyard reset default_transaction_read_only',
    );
    await expect.poll(async () => (await api.call('GET /readyz')).status).toBe(200);
  });
});

describe('a server that isn’t prepared is named in a sentence, and stays as it was', () => {
  const log = makeTestLog().log;
  const migrating = () => migrate(database.ownerUrl, log);
  const ownerOf = (owner: string) => `alter database halyard owner to ${owner}`;

  test.each<[string, string, string, RegExp]>([
    [
      'a membership',
      'revoke halyard_worker from halyard_owner',
      'grant halyard_worker to halyard_owner',
      /may not become halyard_worker.*run setup/,
    ],
    [
      'a role',
      'alter role halyard_auditor rename to another',
      'alter role another rename to halyard_auditor',
      /lacks the roles halyard_auditor\..*run setup/,
    ],
    [
      'the database',
      ownerOf('postgres'),
      ownerOf('halyard_owner'),
      /may not create schemas in this database, which belongs to postgres.*run setup/,
    ],
  ])('migrate that lacks %s', async (_what, take, give, sentence) => {
    await asAdministrator(database, take);
    onTestFinished(() => asAdministrator(database, give));
    const error: unknown = await migrating().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RefusedError);
    expect((error as Error).message.replace(/"npm run halyard -- setup"/, 'setup')).toMatch(
      new RegExp(sentence, 'i'),
    );
  });

  test('migrate by another login, or on what belongs to another', async () => {
    await expect(migrate(database.rootUrl, log)).rejects.toThrow(/must log in as halyard_owner/);
    const schema = 'alter schema graphile_migrate owner to';
    await asAdministrator(database, `${schema} postgres`);
    onTestFinished(() => asAdministrator(database, `${schema} halyard_owner`));
    const running = startProcess(process.execPath, ['src/main.ts', 'migrate'], {
      env: { NODE_ENV: 'production', DATABASE_URL: database.ownerUrl },
    });
    expect(await running.exited).toBe(1);
    const said = running
      .stderr()
      .split('\n')
      .filter((line) => !/^({.*)?$/.test(line));
    expect(said).toEqual([
      expect.stringMatching(
        /^What Halyard makes must belong to halyard_owner, .* graphile_migrate /,
      ),
    ]);
  });

  test('setup by a login that is no administrator', async () => {
    await asAdministrator(database, `create role plain login password 'hostile'`);
    const rootUrl = loginUrl(database.rootUrl, 'plain', 'hostile', 'postgres');
    await asAdministrator(database, 'comment on role halyard_viewer is null');
    await expect(setUp({ ...database, rootUrl, log })).rejects.toThrow(
      /^The database refuses: permission denied.* must be a superuser, or have CREATEROLE/,
    );
    await asAdministrator(database, 'alter role halyard_owner createrole');
    onTestFinished(() => asAdministrator(database, 'alter role halyard_owner nocreaterole'));
    await expect(setUp({ ...database, log })).rejects.toThrow(
      /^The database refuses: Role halyard_owner has rights/,
    );
  });
});
