import { expect, test } from 'vitest';
import { describe } from '../../src/cli/restore.ts';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { startProcess } from '../support/processes.ts';
import { insertDue } from '../support/worker.ts';

const database = useDatabase();

async function restore(args: string[], url: string | null = database.ownerUrl) {
  const running = startProcess('node', ['src/main.ts', 'restore', ...args], {
    env: { NODE_ENV: 'production', ...(url === null ? {} : { DATABASE_URL: url }) },
  });
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

const owner = (sql: string) =>
  withClient(database.ownerUrl, (client) => value<unknown>(client, sql));

/** As a worker records it: a destination with seal 9 of the trail, sealed now. */
const DIVERGE = `select obstacle from app_private.delivery_state('stdout', jsonb_build_object(
  'trail', (select trail from audit.incarnations), 'seals', jsonb_build_array(jsonb_build_object(
    'incarnation', gen_random_uuid(), 'seal', 9, 'lastSeq', 70, 'head', repeat('ab', 32), 'sealedAt', now()))))`;

test('status says what is ahead; a dry run changes nothing; accepting says what it did', async () => {
  const whole = await restore(['status']);
  expect(whole).toMatchObject({ code: 0, err: '' });
  expect(whole.out).toContain('up to seal 0, event 0.\nNo destination is known to be ahead.\n');

  await withClient(database.ownerUrl, (client) =>
    insertDue(client, { count: 2, dueIn: '-1 minute' }),
  );
  expect(await owner(DIVERGE)).toBe('ahead');
  const ahead = await restore(['status']);
  expect(ahead.code).toBe(1);
  expect(ahead.out).toMatch(/^Ahead since .*: stdout has seals up to 9, event 70, of /m);
  expect(ahead.out).toContain('Schedules that --overdue decides about: 2.\n');

  const arguments_ = ['accept', '--overdue', 'skip', '--reason', 'a disk was lost'];
  const dry = await restore([...arguments_, '--dry-run']);
  expect(dry).toMatchObject({ code: 0, err: '' });
  expect(dry.out).toContain('Nothing is changed.');
  expect(dry.out).toContain('Overdue schedules that are cancelled: 2.');
  expect(await owner('select count(*)::int from audit.incarnations')).toBe(1);

  const done = await restore(arguments_);
  expect(done).toMatchObject({ code: 0, err: '' });
  expect(done.out.split('\n')).toEqual([
    expect.stringMatching(/^Incarnation .* begins behind seal 0, event 0\.$/),
    expect.stringMatching(/^Lost: stdout has seals up to 9, event 70, of /),
    'Overdue schedules that are cancelled: 2.',
    'Events that get another id: 4.',
    '',
  ]);
  expect((await restore(['status'])).code).toBe(0);
  expect(
    await owner(`select application_name from audit.events where event_type = 'audit.restored'`),
  ).toBe('halyard restore');
});

test.for<[string[], string]>([
  [['accept', '--reason', 'why'], 'apply or skip'],
  [['accept', '--overdue', 'apply'], '--reason'],
  [['accept', '--overdue', 'apply', '--reason', ' '], 'Give a reason of 1 to 500 characters.'],
  [['accept', '--overdue', 'ignore', '--reason', 'why'], 'apply, skip'],
  [['accept', '--overdue', 'skip', '--as-copy', '--reason', 'why'], 'cannot be used with'],
])('%j is refused with status 2, and changes nothing', async ([args, sentence]) => {
  const before = await owner('select count(*)::int from audit.incarnations');
  const refused = await restore(args);
  expect(refused).toMatchObject({ code: 2, out: '' });
  expect(refused.err).toContain(sentence);
  expect(await owner('select count(*)::int from audit.incarnations')).toBe(before);
});

test('without the owner’s rights or its address it fails', async () => {
  const args = ['accept', '--overdue', 'apply', '--reason', 'why'];
  expect(await restore(args, database.workerUrl)).toMatchObject({ code: 1, out: '' });
  const nowhere = await restore(args, null);
  expect(nowhere).toMatchObject({ code: 1, out: '' });
  expect(nowhere.err).toContain('Set DATABASE_URL');
  expect(await restore(['status'], database.workerUrl)).toMatchObject({ code: 3, out: '' });
});

test('what was done is said, with what a destination isn’t sent, and what a copy can’t know', () => {
  const report = {
    ...({ incarnation: 'i', trail: 't', overdue: 'skip', lastSeal: 2, lastSeq: 12 } as const),
    ...{ skipped: 0, held: 0, queued: 0, refused: [] },
  };
  const ahead = { destination: 'cloudwatch:g', lastSeq: 13, sealedAt: 'then' };
  const destinations = [{ ...ahead, event: 'e', notSentFrom: 7 }];
  const said = describe({ ...report, asCopy: false, destinations });
  expect(said).toContain('Lost: cloudwatch:g has events without their seal, up to 13, of then.');
  expect(said).toContain(
    "Events 7 to 12 aren't sent to cloudwatch:g: it has these numbers already",
  );
  expect(said).not.toContain('Warning');
  const copied = describe({ ...report, asCopy: true, destinations: [] });
  expect(copied).toContain(
    'Warning: this copy knows of no place that its original has delivered to',
  );
  const refusing = describe({
    ...report,
    asCopy: true,
    destinations: [],
    refused: ['cloudwatch:g'],
  });
  expect(refusing).not.toContain('Warning');
});
