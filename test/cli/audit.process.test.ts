import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CloudWatchLogsClient, PutLogEventsCommand } from '@aws-sdk/client-cloudwatch-logs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { value } from '../support/actors.ts';
import { makeCloudWatchServer, type CloudWatchServer } from '../support/cloudwatch_server.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { startProcess } from '../support/processes.ts';
import { pastTriggers } from '../support/row_problems.ts';
import { sealFlags, tamper } from '../support/sealed_trail.ts';

const GROUP = '/aws/lambda/lego-api-config-domain';

let database: TestDatabase;
let folder: string;
let copy: string[];
let eventId: string;

beforeAll(async () => {
  database = await cloneDatabase();
  folder = await mkdtemp(join(tmpdir(), 'halyard-audit-'));
  await withClient(database.rootUrl, async (client) => {
    await sealFlags(client, 25);
    const { rows } = await client.query<{ message: string }>(
      `select message from app_private.undelivered_audit_events('copy', 1000)`,
    );
    copy = rows.map(({ message }) => message);
    eventId = await value(client, 'select event_id from audit.ledger where seq = 12');
  });
  await writeFile(join(folder, 'copy.ndjson'), copy.join('\n'));
});
afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true });
});

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function audit(args: string[], env?: Record<string, string>): Promise<Outcome> {
  const running = startProcess(process.execPath, ['src/main.ts', 'audit', ...args], {
    env: {
      NODE_ENV: 'production',
      ...(env ?? { AUTH_DATABASE_URL: database.authenticatorUrl }),
    },
  });
  onTestFinished(async () => {
    await running.end('SIGKILL');
  });
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

/** Puts messages into a stream of the log group. */
async function store(server: CloudWatchServer, stream: string, messages: string[]): Promise<void> {
  server.createStream(GROUP, stream);
  const client = new CloudWatchLogsClient({
    endpoint: server.url,
    region: 'eu-central-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
  const timestamp = Date.now();
  await client.send(
    new PutLogEventsCommand({
      logGroupName: GROUP,
      logStreamName: stream,
      logEvents: messages.map((message) => ({ timestamp, message })),
    }),
  );
  client.destroy();
}

const inFolder = (name: string) => join(folder, name);

describe('audit verify', () => {
  test('says what it has looked at, with the login of the API', async () => {
    const { code, out } = await audit(['verify']);
    expect(out).toContain('Verified: 25 events (1 to 25) in 3 seals.');
    expect(out).toContain('No problems.');
    expect(code).toBe(0);
  });

  test('compares with a copy, and answers programs in JSON', async () => {
    const { code, out } = await audit(['verify', '--json', '--anchors', inFolder('copy.ndjson')]);
    expect(JSON.parse(out)).toMatchObject({
      ok: true,
      events: 25,
      problems: [],
      anchors: { matching: 3, copies: 25, behind: 0, last: { seal: 3, seq: 25 } },
    });
    expect(code).toBe(0);
  });

  test('reads the heads out of CloudWatch Logs, from every stream and page', async () => {
    const server = await makeCloudWatchServer({ scan: 2 });
    onTestFinished(() => server.close());
    await store(
      server,
      'one',
      copy.filter((_, i) => i % 2 === 0),
    );
    await store(
      server,
      'two',
      copy.filter((_, i) => i % 2 === 1),
    );
    const env = {
      AUTH_DATABASE_URL: database.authenticatorUrl,
      AWS_ENDPOINT_URL: server.url,
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    };
    const { code, out, err } = await audit(['verify', '--anchors', 'cloudwatch'], env);
    expect(err).toBe('');
    expect(out).toContain('Anchors: 3 of 3 seals agree.');
    expect(out).toContain('Only seals were read, not events.');
    expect(code).toBe(0);
    server.deleteGroup(GROUP);
    const gone = await audit(['verify', '--anchors', 'cloudwatch'], env);
    expect(gone.err).toContain('The specified log group does not exist.');
    expect(gone.code).toBe(3);
    // Without a region the client fails by itself.
    const unset = { AUTH_DATABASE_URL: database.authenticatorUrl, AWS_CONFIG_FILE: '/dev/null' };
    const nowhere = await audit(['verify', '--anchors', 'cloudwatch'], unset);
    expect(nowhere.err).toMatch(
      /^It could not be checked: CloudWatch Logs can't be read \(.*\)\.\n$/,
    );
    expect(nowhere.code).toBe(3);
  });

  test('names what is wrong, with status 1', async () => {
    const own = await cloneDatabase();
    onTestFinished(() => own.drop());
    await withClient(own.rootUrl, async (client) => {
      await sealFlags(client, 25);
      await client.query('begin');
      await tamper(
        client,
        `delete from audit.events where id in (select event_id from audit.ledger where seq in (3, 4, 5, 9))`,
      );
      await client.query('commit');
      await pastTriggers(
        client,
        `update app_public.feature_flags set enabled = true
         where id = (select e.flag_id from audit.ledger l join audit.events e on e.id = l.event_id where l.seq = 12)`,
      );
    });
    const env = { AUTH_DATABASE_URL: own.authenticatorUrl };
    const { code, out } = await audit(['verify', '--from', '1', '--to', '10'], env);
    expect(out).toContain('event_missing (seal 1, events 3 to 5, 9): These events are gone');
    expect(out).toContain('Verified: 10 events (1 to 10) in 1 seal.');
    expect(code).toBe(1);
    const other = await audit(['verify', '--json', '--anchors', inFolder('copy.ndjson')], env);
    const { ok, rowsChecked, problems } = JSON.parse(other.out) as {
      ok: boolean;
      rowsChecked: boolean;
      problems: { status: string; row?: unknown }[];
    };
    expect([ok, rowsChecked]).toEqual([false, true]);
    const ofTrail = ['event_missing', 'seal_rewritten', 'copy_differs'];
    expect(new Set(problems.map(({ status }) => status))).toEqual(
      new Set([...ofTrail, 'trigger_disabled', 'row_differs']),
    );
    expect(problems.find(({ status }) => status === 'row_differs')?.row).toMatchObject({
      table: 'feature_flags',
      environment: 'production',
      differs: [{ column: 'enabled', trail: false, row: true }],
    });
    const trailOnly = await audit(['verify', '--no-rows'], env);
    expect(trailOnly.out).toContain('Rows and triggers were not looked at.');
    expect(trailOnly.out).toContain('1 problem\n');
  });

  test('refuses a range upside down in one sentence, with status 2', async () => {
    const { code, err } = await audit(['verify', '--from', '9', '--to', '3']);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(2);
  });

  test.for<[string, string[], RegExp, Record<string, string>?]>([
    [
      'there is no database',
      [],
      /ECONNREFUSED/,
      { AUTH_DATABASE_URL: 'postgres://x@127.0.0.1:1/x' },
    ],
    ['none is named', [], /AUDITOR_DATABASE_URL or AUTH_DATABASE_URL/, {}],
    ['the anchors are not there', ['--anchors', '/nonexistent'], /\/nonexistent can't be read/],
    ['they hold no head', ['--anchors', 'package.json'], /no audit\.sealed record/],
    ['no event has these numbers', ['--from', '1000'], /no sealed events/],
  ])('says with status 3 that it could not check: %s', async ([, args, message, env]) => {
    const { code, err, out } = await audit(['verify', ...args], env);
    expect(err).toMatch(message);
    expect(err).not.toContain('    at ');
    expect(out).toBe('');
    expect(code).toBe(3);
  });
});

describe('a proof', () => {
  test('is made with a database and checked without one', async () => {
    const file = inFolder('proof.json');
    expect(await audit(['prove', eventId, '--out', file])).toMatchObject({ code: 0, out: '' });
    const { head } = (JSON.parse(await readFile(file, 'utf8')) as { seal: { head: string } }).seal;
    const alone = await audit(['verify-proof', file], {});
    expect(alone.out).toContain('event 12 is in seal 2');
    expect(alone.out).toContain(head);
    expect(alone.code).toBe(0);
    const anchored = await audit(['verify-proof', file, '--anchors', inFolder('copy.ndjson')], {});
    expect(anchored.out).toContain('has the same head');
    expect(anchored.code).toBe(0);
  });

  test('does not hold when its message, or the copy, says something else', async () => {
    const { out } = await audit(['prove', eventId]);
    await writeFile(inFolder('forged.json'), out.replace('production', 'staging'));
    const forged = await audit(['verify-proof', inFolder('forged.json')], {});
    expect(forged.out).toContain('The message does not hash to the leaf');
    expect(forged.code).toBe(1);
    await writeFile(inFolder('proof.json'), out);
    const head = (JSON.parse(out) as { seal: { head: string } }).seal.head;
    await writeFile(inFolder('other.ndjson'), copy.join('\n').replaceAll(head, 'ab'.repeat(32)));
    const other = ['verify-proof', inFolder('proof.json'), '--anchors', inFolder('other.ndjson')];
    expect(await audit(other, {})).toMatchObject({ code: 1 });
    // Nor when it has the right one as well: one of the two was made up.
    const both = `${copy.join('\n')}\n${await readFile(inFolder('other.ndjson'), 'utf8')}`;
    await writeFile(inFolder('both.ndjson'), both);
    const torn = ['verify-proof', inFolder('proof.json'), '--anchors', inFolder('both.ndjson')];
    const { code, out: told } = await audit(torn, {});
    expect(told).toContain('The copy has several heads of seal 2');
    expect(code).toBe(1);
  });

  test('of a purged event is checked with the copy’s line', async () => {
    const { out } = await audit(['prove', eventId]);
    const purged = { ...(JSON.parse(out) as object), message: null };
    await writeFile(inFolder('purged.json'), JSON.stringify(purged));
    const without = await audit(['verify-proof', inFolder('purged.json')], {});
    expect(without.err).toContain('--message');
    expect(without.code).toBe(3);
    const line = ['verify-proof', inFolder('purged.json'), '--message', inFolder('copy.ndjson')];
    expect(await audit(line, {})).toMatchObject({ code: 0 });
  });

  test.for<[string, string[], number]>([
    ['an event that is not there', ['prove', '00000000-0000-4000-8000-000000000000'], 3],
    ['standard input for two files', ['verify-proof', '-', '--anchors', '-'], 2],
    ['a file that is no proof', ['verify-proof', 'package.json'], 3],
  ])('is refused for %s', async ([, args, status]) => {
    const { code, err, out } = await audit(args);
    expect(err).not.toBe('');
    expect(out).toBe('');
    expect(code).toBe(status);
  });
});
