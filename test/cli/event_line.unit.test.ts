import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { AuditEvent, Sink } from '../../src/audit/delivery/sink.ts';
import { eventLine } from '../../src/cli/event_line.ts';
import { withView } from '../../src/cli/trail_view.ts';
import { makeEvent } from '../support/audit_events.ts';

const never = new AbortController().signal;
/** Now, so that a time of today is shown without its date. */
const now = new Date();
const clock = now.toTimeString().slice(0, 8);

function line(eventType: string, metadata: object, fields: object = {}): string | null {
  const event = { eventType, timestamp: now, environment: 'production', actorKind: 'admin' };
  return eventLine(JSON.stringify({ ...event, metadata, ...fields }));
}

describe('an event as a line', () => {
  const flagKey = 'wishlist-gallery';
  const alice = { flagKey, adminUserId: 'alice', adminEmail: 'alice@example.com' };
  const worker = { actorKind: 'system' };
  const plan = { title: 'Launch', adminUserId: 'alice', environments: ['production', 'staging'] };
  const contentOf = (percentage: number) => ({
    steps: [{ changes: [{ updates: { rollout_percentage: percentage } }, {}] }],
  });
  const state = (enabled: boolean) => ({ enabled, description: null, rolloutPercentage: 100 });

  test.for<[string, object, object, string]>([
    ['feature_flag.created', alice, {}, 'flag created          wishlist-gallery          by alice'],
    [
      'feature_flag.updated',
      { ...alice, before: state(false), after: state(true) },
      { environment: 'staging' },
      'flag updated          wishlist-gallery (staging)  by alice  enabled: true',
    ],
    [
      'feature_flag.updated',
      { flagKey, requestedBy: 'alice', before: state(false), after: state(true) },
      worker,
      'flag updated          wishlist-gallery          by Halyard for alice  enabled: true',
    ],
    [
      'flag_schedule.created',
      { ...alice, updates: { enabled: true }, scheduledAt: now },
      {},
      `schedule created      wishlist-gallery          by alice  enabled: true, at ${clock}`,
    ],
    [
      'environment.stopped',
      { adminUserId: 'alice', name: 'production', reason: 'errors', before: {}, after: { a: 1 } },
      {},
      'environment stopped   production                by alice  “errors”',
    ],
    [
      'flag_schedule.cancelled',
      { ...alice, reason: 'not today' },
      {},
      'schedule cancelled    wishlist-gallery          by alice  “not today”',
    ],
    [
      'flag_schedule.applied',
      { flagKey, updates: { enabled: true }, scheduledAt: now, latenessMs: 22 },
      worker,
      'schedule applied      wishlist-gallery          by Halyard  22 ms late',
    ],
    [
      'flag_schedule.failed',
      { flagKey, errorMessage: 'there is no room' },
      worker,
      'schedule failed       wishlist-gallery          by Halyard  there is no room',
    ],
    [
      'flag_schedule.created',
      { flagKey },
      { actorKind: 'database', databaseUser: 'dana' },
      'schedule created      wishlist-gallery          by dana, in SQL',
    ],
    ['access.denied', {}, {}, `${'access denied'.padEnd(48)}by someone without a name`],
    [
      'flag_plan.created',
      { ...plan, content: contentOf(30), firstAt: now, reason: 'OPS-874' },
      { environment: null },
      `plan created          “Launch” (production, staging)  by alice  2 changes, at ${clock}, “OPS-874”`,
    ],
    [
      'flag_plan.updated',
      {
        ...plan,
        before: { title: 'Launch', content: contentOf(30), nextAt: now, status: 'paused' },
        after: { title: 'Start', content: contentOf(40), nextAt: now, status: 'active' },
      },
      {},
      'plan updated          “Launch” (production, staging)  by alice  title: "Start", status: "active", 2 changes',
    ],
    [
      'flag_plan.deleted',
      { before: { title: 'Launch', content: contentOf(30) } },
      worker,
      'plan deleted          “Launch”                  by Halyard',
    ],
    [
      'flag_plan.completed',
      { title: 'Launch', applied: 0, skipped: 1 },
      worker,
      'plan completed        “Launch”                  by Halyard  skipped',
    ],
    [
      'flag_schedule.suspended',
      {
        flagKey,
        for: 'conflict',
        details: { found: { enabled: true }, expected: { enabled: false } },
      },
      worker,
      'schedule suspended    wishlist-gallery          by Halyard  found enabled: true, expected enabled: false',
    ],
    [
      'flag_schedule.suspended',
      { flagKey, for: 'stop', details: { environment: 'production' } },
      worker,
      'schedule suspended    wishlist-gallery          by Halyard  production is stopped',
    ],
    [
      'flag_schedule.applied',
      { flagKey, kept: ['enabled'], latenessMs: 22 },
      worker,
      'schedule applied      wishlist-gallery          by Halyard  left as found: enabled, 22 ms late',
    ],
    [
      'flag_schedule.retried',
      {
        ...{ ...alice, reason: 'mended', before: { status: 'failed', attempts: 5 } },
        after: { status: 'pending', attempts: 0, scheduledAt: now, errorMessage: null },
      },
      {},
      `schedule retried      wishlist-gallery          by alice  at ${clock}, “mended”`,
    ],
    [
      'environment.stopped',
      {
        ...{ name: 'production', adminUserId: 'alice', reason: 'errors' },
        ...{ before: {}, after: { stoppedBy: 'alice', stopReason: 'errors' } },
      },
      {},
      'environment stopped   production                by alice  “errors”',
    ],
    [
      'environment.resumed',
      {
        ...{ name: 'production', adminUserId: 'alice', reason: 'mended' },
        ...{ missed: 'apply', applied: 2, skipped: 1, stoppedForMs: 300_000 },
        ...{ before: { stoppedBy: 'alice' }, after: { lastResume: { by: 'alice' } } },
      },
      {},
      'environment resumed   production                by alice  2 to apply, 1 skipped, stopped for 5 min, “mended”',
    ],
  ])('%s %j %j', ([type, metadata, fields, expected]) => {
    expect(line(type, metadata, fields)).toBe(`${clock}  ${expected}`);
  });

  test.for<[number, string]>([
    [999, '999 ms late'],
    [1_200, '1.2 s late'],
    [300_000, '5 min late'],
    [86_400_000, '24 h late'],
  ])('a lateness of %i ms is %s', ([latenessMs, expected]) => {
    expect(line('flag_schedule.applied', { latenessMs }, worker)).toMatch(expected);
  });

  test('nothing moves the cursor of a terminal, and nothing is too long for one', () => {
    const reason = `\u001b[2J\r\n\u202e\u2028${'x'.repeat(10_000)}`;
    const shown = line('flag_schedule.cancelled', { ...alice, reason }) ?? '';
    expect(shown).not.toMatch(/[\p{C}\u2028]/u);
    expect(shown.length).toBeLessThan(400);
  });

  test('a seal, and what is no event, has none', () => {
    expect(line('audit.sealed', {})).toBeNull();
    expect(eventLine('nonsense')).toBeNull();
    expect(eventLine('null')).toBeNull();
  });
});

describe('a sink whose events are shown', () => {
  /** A sink that confirms one event and fails at the third. */
  const sink: Sink = {
    send(events: readonly AuditEvent[], _signal, confirmed) {
      confirmed?.(1);
      return events.length > 2 ? Promise.reject(new Error('full')) : Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
  const shown = (out: PassThrough) => (out.read() as Buffer | null)?.toString() ?? '';

  test('shows what the destination has, once, and nothing else', async () => {
    const out = new PassThrough();
    const view = withView(sink, out, 'json');
    const events = [1, 2, 3].map((seq) => makeEvent(seq));
    await expect(view.send(events, never)).rejects.toThrow('full');
    await view.send(events.slice(1), never);
    expect(shown(out)).toBe(events.map(({ message }) => `${message}\n`).join(''));
  });

  test('as text leaves out what happened before', async () => {
    const out = new PassThrough();
    const view = withView(sink, out, 'text', new Date(1_000));
    await view.send([makeEvent(1, { at: 999 }), makeEvent(2, { at: 1_000 })], never);
    expect(shown(out).split('\n')).toHaveLength(2);
  });

  test('goes on beside an output that takes nothing, and keeps a megabyte for it at most', async () => {
    const out = new PassThrough({ highWaterMark: 1 });
    const view = withView(sink, out, 'json');
    const large = makeEvent(1, { message: 'x'.repeat(400_000) });
    for (let n = 0; n < 10; n++) await view.send([large], never);
    expect(out.writableLength).toBeLessThan(2_000_000);
    out.destroy();
    await view.send([large], never);
  });
});
