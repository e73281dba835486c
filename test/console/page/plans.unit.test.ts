import { afterAll, describe, expect, test, vi } from 'vitest';
import { readConflicts, readDryRun } from '../../../console/src/plans/dry_run.ts';
import {
  formProblems,
  isOutdated,
  missingOf,
  newPlan,
  newRow,
  readPlan,
  textOf,
  type PlanText,
} from '../../../console/src/plans/form_model.ts';
import {
  countText,
  differences,
  revertsText,
  stateOf,
  valueText,
} from '../../../console/src/plans/model.ts';
import {
  changeRequest,
  createRequest,
  dryRunRequest,
  editRequest,
} from '../../../console/src/plans/requests.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const at = (time: string): number => Date.parse(`2026-11-26T${time}Z`);
const NOW = at('14:00:00');

describe('a plan’s state', () => {
  const plan = {
    status: 'active',
    suspendedFor: null,
    nextAt: '2026-11-26T18:00:00Z',
    appliedCount: 0,
  };
  test.each([
    [plan, 'pending', 'Next'],
    [{ ...plan, nextAt: '2026-11-26T13:00:00Z' }, 'pending', 'Due'],
    [{ ...plan, suspendedFor: 'conflict' }, 'conflict', 'Suspended'],
    [{ ...plan, suspendedFor: 'stop' }, 'uncertain', 'Stopped'],
    [{ ...plan, status: 'paused' }, 'failed', 'Paused'],
    [{ ...plan, status: 'completed', appliedCount: 1 }, 'applied', 'Applied'],
    [{ ...plan, status: 'completed' }, 'cancelled', 'Skipped'],
    [{ ...plan, status: 'cancelled' }, 'cancelled', 'Cancelled'],
  ])('%j is %s, %s', (one, status, word) => {
    expect(stateOf(one, NOW)).toEqual({ status, word });
  });
});

test('values and counts in words', () => {
  expect([valueText('enabled', false), valueText('rolloutPercentage', 25)]).toEqual(['off', '25%']);
  expect([valueText('owner', 'web'), valueText('owner', null)]).toEqual(['"web"', 'nothing']);
  expect([countText(1, 'flag'), countText(1_200, 'flag')]).toEqual(['1 flag', '1,200 flags']);
  expect(revertsText({ environment: 'staging', from: 'a', to: 'b' }, (text) => text)).toBe(
    'what changed in staging from a to b',
  );
  expect([revertsText({ planId: 'x' }, String), revertsText(null, String)]).toEqual(['a plan', '']);
});

test('only fields that differ are shown, also new ones', () => {
  expect(
    differences(
      { enabled: true, rollout_percentage: 25 },
      { enabled: true, rollout_percentage: 50 },
    ),
  ).toEqual([{ field: 'rollout_percentage', from: 25, to: 50 }]);
  expect(differences(null, { owner: 'web' })).toEqual([{ field: 'owner', to: 'web' }]);
});

describe('the form', () => {
  const OFF = { enabled: false, rolloutPercentage: 100, pending: [] };
  const row = { ...newRow('staging'), flagKey: 'checkout' };
  const text: PlanText = {
    ...newPlan('staging', 'UTC', NOW),
    ...{ title: ' Black Friday ', time: '18:00', changes: [row], reason: ' OPS-1 ' },
  };

  test('begins with guards, today, at no time yet', () => {
    expect(newPlan('staging', 'UTC', NOW)).toMatchObject({
      ...{ date: '2026-11-26', time: '', isNow: false, revision: 0 },
      changes: [{ environment: 'staging', rule: 'suspend', kind: 'on' }],
    });
  });

  test('sends what it shows, and expects what it shows', () => {
    const { asked } = readPlan(text, [OFF], null, NOW);
    const changes = [
      {
        ...{ flag_key: 'checkout', environment: 'staging', updates: { enabled: true } },
        ...{ expects: { enabled: false }, on_conflict: 'suspend' },
      },
    ];
    expect(asked).toEqual({
      ...{ title: 'Black Friday', at: at('18:00:00'), reason: ' OPS-1 ', changes },
    });
    if (asked === null) return;
    const body = {
      ...{ title: 'Black Friday', starts_at: '2026-11-26T18:00:00Z', reason: 'OPS-1' },
      steps: [{ changes }],
    };
    expect(createRequest(asked)).toEqual({ method: 'POST', path: '/api/admin/plans', body });
    expect(dryRunRequest({ ...asked, title: '' }).body).toEqual({ ...body, title: 'New plan' });
    expect(editRequest({ id: 'p1', revision: 3 }, asked)).toEqual({
      ...{ method: 'PATCH', path: '/api/admin/plans/p1', body: { ...body, expected_revision: 3 } },
    });
    expect(changeRequest(asked)).toEqual({
      ...{ method: 'POST', path: '/api/admin/changes', body: { changes, reason: 'OPS-1' } },
    });
  });

  test('expects what other pending changes will have made of the flag by then, and not the plan’s own', () => {
    const pending = (planId: string | null) => ({
      ...{ id: 'a', scheduledAt: '2026-11-26T17:00:00Z', planId },
      updates: { enabled: true, rolloutPercentage: 10 },
    });
    const share = { ...text, changes: [{ ...row, kind: 'share' as const, share: '50' }] };
    const expects = (planId: string | null) =>
      readPlan(share, [{ ...OFF, pending: [pending(planId)] }], 'p1', NOW).rows[0]?.change;
    expect(expects(null)).toMatchObject({
      ...{ updates: { rollout_percentage: 50 }, expects: { rollout_percentage: 10 } },
    });
    expect(expects('p1')).toMatchObject({
      updates: { enabled: true, rollout_percentage: 50 },
      expects: { enabled: false, rollout_percentage: 100 },
    });
  });

  test('of what is overwritten nothing is expected', () => {
    const { rows } = readPlan(
      { ...text, changes: [{ ...row, rule: 'overwrite' }] },
      [OFF],
      null,
      NOW,
    );
    expect(rows[0]?.change).toEqual({
      ...{ flag_key: 'checkout', environment: 'staging', updates: { enabled: true } },
      on_conflict: 'overwrite',
    });
  });

  test('leaves a change of the plan as it was until somebody touches it', () => {
    const given = {
      ...{ flag_key: 'checkout', environment: 'staging', on_conflict: 'keep' },
      ...{ updates: { enabled: false, rollout_percentage: 5 }, expects: { enabled: true } },
    };
    const edited = textOf(
      {
        ...{ title: 'T', reason: null, startsAt: '2026-11-26T18:00:00Z', revision: 4 },
        nextAt: '2026-11-26T18:00:00Z',
      },
      [given],
      'UTC',
    );
    expect(edited).toMatchObject({ time: '18:00:00', revision: 4, reason: '' });
    expect(edited.changes[0]).toMatchObject({ kind: 'off', rule: 'keep' });
    const read = readPlan(edited, [OFF], 'p1', NOW);
    expect(read.asked?.changes).toEqual([given]);
    const [first] = edited.changes;
    const [known] = read.rows;
    if (first === undefined || known === undefined) throw new Error('no row');
    // The flag is off now, and the plan expects it to be on.
    expect(isOutdated(first, known)).toBe(true);
    const touched = { ...edited, changes: [{ ...first, given: null }] };
    expect(readPlan(touched, [OFF], 'p1', NOW).rows[0]?.change).toEqual({
      ...{ flag_key: 'checkout', environment: 'staging', on_conflict: 'keep' },
      ...{ updates: { enabled: false }, expects: { enabled: false } },
    });
    const guarded = { ...edited, changes: [{ ...first, rule: 'suspend' as const }] };
    expect(readPlan(guarded, [OFF], 'p1', NOW).rows[0]?.change).toEqual({
      ...given,
      on_conflict: 'suspend',
    });
  });

  test('says what is missing', () => {
    const bad = {
      ...{ ...text, title: ' ', time: '' },
      changes: [newRow('staging'), { ...row, kind: 'share' as const }, row],
    };
    const read = readPlan(bad, [null, OFF, null], null, NOW);
    expect(read.asked).toBeNull();
    expect(missingOf(bad, read).map(({ path }) => path)).toEqual([
      ...['title', 'scheduled_at', 'changes.0.flag_key', 'changes.1.updates', 'changes.2.flag_key'],
    ]);
    const asksNow = { ...text, isNow: true, title: '', time: '' };
    const whole = readPlan(asksNow, [OFF], null, NOW);
    expect(missingOf(asksNow, whole)).toEqual([]);
    expect(whole.asked).toMatchObject({ at: null });
  });

  test('finds its fields in the server’s paths', () => {
    const paths = [
      'steps[0].changes[2].updates.rollout_percentage',
      'steps.0.changes.1',
      'starts_at',
    ];
    expect(
      formProblems(paths.map((path) => ({ path, message: '' }))).map(({ path }) => path),
    ).toEqual(['changes.2.updates.rollout_percentage', 'changes.1', 'scheduled_at']);
  });
});

test('a dry run is read as it is written, and from nonsense nothing comes', () => {
  const conflict = {
    ...{ flag_key: 'checkout', environment: 'staging', field: 'enabled', kind: 'same_instant' },
    ...{ expected: null, found: true, at: '2026-11-26T18:00:00Z', schedule_id: 's', plan_id: null },
  };
  expect(
    readDryRun({
      changes: [
        { flag_key: 'checkout', environment: 'staging', before: { a: 1 }, after: { a: 2 } },
      ],
      events: [{}, {}],
      conflicts: [conflict],
    }),
  ).toEqual({
    changes: [{ flagKey: 'checkout', environment: 'staging', before: { a: 1 }, after: { a: 2 } }],
    events: 2,
    conflicts: [
      {
        ...{ flagKey: 'checkout', environment: 'staging', field: 'enabled', kind: 'same_instant' },
        ...{ expected: null, found: true, at: '2026-11-26T18:00:00Z' },
        ...{ scheduleId: 's', planId: null },
      },
    ],
  });
  expect(readDryRun(null)).toEqual({ changes: [], events: 0, conflicts: [] });
  expect(readConflicts('x')).toEqual([]);
});
