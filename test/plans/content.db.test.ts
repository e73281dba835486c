import { describe, expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { asAdmin, changeOf, createPlan, stepsOf } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

/** With which SQLSTATE, and which sentence, an admin's request for a plan is refused. */
async function refusal(
  steps: string | null,
  { title = 'Release', startsAt = '2030-01-01T00:00:00Z', reason = '' } = {},
): Promise<unknown[]> {
  return withActors(database, async (client) => {
    await insertFlag(client, { flag_key: 'search' });
    let sentence = '';
    const state = await asAdmin(client, () =>
      sqlStateOf(client, () =>
        client
          .query('select app_public.create_plan($1, $2, $3, $4)', [title, steps, startsAt, reason])
          .catch((error: unknown) => {
            sentence = error instanceof Error ? error.message : '';
            throw error;
          }),
      ),
    );
    expect(await value(client, 'select count(*)::int from app_public.plans')).toBe(0);
    return [state, sentence];
  });
}

const ON = { flag_key: 'search', environment: 'production', updates: { enabled: true } };
const change = (overrides: object) => stepsOf({ ...ON, ...overrides });

describe('steps that no plan can have', () => {
  test.for<[string, string | null, string]>([
    ['none', null, 'steps must be an array of one step.'],
    ['text', '"x"', 'steps must be an array of one step.'],
    ['no step', '[]', 'steps must be an array of one step.'],
    [
      'two steps',
      JSON.stringify([{ changes: [ON] }, { changes: [ON] }]),
      'steps must be an array of one step.',
    ],
    ['a step that is text', '["x"]', 'a step must be an object with changes only.'],
    [
      'a step with a time',
      JSON.stringify([{ changes: [ON], at: 'noon' }]),
      'a step must be an object with changes only.',
    ],
    ['no change', stepsOf(), 'changes must be an array of 1 to 200 changes.'],
    [
      'too many changes',
      stepsOf(...Array.from({ length: 201 }, () => ON)),
      'changes must be an array of 1 to 200 changes.',
    ],
    ['a change that is text', '[{"changes": ["x"]}]', 'a change must be an object.'],
    [
      'an unknown key',
      change({ colour: 'red' }),
      'A change may have only: flag_key, environment, updates, expects, on_conflict.',
    ],
    [
      'an id of its own',
      change({ flagId: '00000000-0000-4000-8000-000000000000' }),
      'A change may have only: flag_key, environment, updates, expects, on_conflict.',
    ],
    [
      'no environment',
      '[{"changes": [{"flag_key": "search", "updates": {"enabled": true}}]}]',
      'a change must name its flag by flag_key and environment.',
    ],
    [
      'no updates',
      '[{"changes": [{"flag_key": "search", "environment": "production"}]}]',
      'search of production: updates must be an object.',
    ],
    [
      'another field',
      change({ updates: { colour: 1 } }),
      'search of production: updates may have only: enabled, rollout_percentage.',
    ],
    [
      'a share beyond 100',
      change({ updates: { rollout_percentage: 101 } }),
      'search of production: rollout_percentage must be a whole number from 0 to 100.',
    ],
    [
      'expects nothing',
      change({ expects: {} }),
      'search of production: expects must have at least one of: enabled, rollout_percentage.',
    ],
    [
      'an unknown way',
      change({ on_conflict: 'hope', expects: { enabled: true } }),
      'search of production: on_conflict must be overwrite, keep or suspend.',
    ],
    [
      'a guard without what it expects',
      change({ on_conflict: 'suspend' }),
      'search of production: on_conflict suspend needs expects: what the change expects to find.',
    ],
    [
      'a flag twice',
      stepsOf(ON, { ...ON, updates: { rollout_percentage: 1 } }),
      'search of production is changed twice: put both into one change.',
    ],
  ])('%s', async ([, steps, sentence]) => {
    expect(await refusal(steps)).toEqual(['ZF028', sentence]);
  });
});

test.for<[string, string, object, string, string]>([
  ['a flag that isn’t there', 'other', {}, 'ZF001', "There is no flag 'other' in production."],
  [
    'a time that has passed',
    'search',
    { startsAt: '2001-01-01' },
    'ZF005',
    'starts_at must be in the future.',
  ],
  [
    'a time that never comes',
    'search',
    { startsAt: 'infinity' },
    'ZF006',
    'starts_at must be before the year 10000.',
  ],
  [
    'no title',
    'search',
    { title: ' ' },
    'ZF028',
    'title must be text of 1 to 200 characters, without control characters.',
  ],
  [
    'a title of two lines',
    'search',
    { title: 'a\nb' },
    'ZF028',
    'title must be text of 1 to 200 characters, without control characters.',
  ],
  [
    'a title that is too long',
    'search',
    { title: 'x'.repeat(201) },
    'ZF028',
    'title must be text of 1 to 200 characters, without control characters.',
  ],
])('%s is refused', async ([, flagKey, options, state, sentence]) => {
  expect(await refusal(change({ flag_key: flagKey }), options)).toEqual([state, sentence]);
});

test('an environment that isn’t there is refused with those that are', async () => {
  expect(await refusal(change({ environment: 'moon' }))).toEqual([
    'ZF014',
    expect.stringMatching(/^There is no environment 'moon'\. You may see: .*production/),
  ]);
});

test('a plan’s steps come back as they were given', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const other = await insertFlag(client, { environment: 'staging' });
    const changes = [
      changeOf(other, { expects: { enabled: false }, on_conflict: 'keep' }),
      changeOf(flag),
    ];
    const plan = await asAdmin(client, () => createPlan(client, changes));
    expect(
      await value(
        client,
        'select app_private.plan_steps(content) from app_public.plans where id = $1',
        [plan.id],
      ),
    ).toEqual([{ changes }]);
    expect(plan.content.steps[0]?.changes).toMatchObject([
      { flagId: other.id, flagKey: other.flag_key, environment: 'staging', onConflict: 'keep' },
      { flagId: flag.id, flagKey: flag.flag_key, environment: 'production' },
    ]);
  });
});

test('the hash is that of the stored text, and one for the same content', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const make = (steps: string) =>
      asAdmin(client, () =>
        value<string>(
          client,
          `select encode(content_hash, 'hex') from app_public.create_plan('Any', $1, '2030-01-01')`,
          [steps],
        ),
      );
    const hash = await make(stepsOf(changeOf(flag)));
    const { flag_key, environment } = flag;
    expect(
      await make(
        JSON.stringify([{ changes: [{ updates: { enabled: true }, environment, flag_key }] }]),
      ),
    ).toBe(hash);
    expect(await make(stepsOf(changeOf(flag, { updates: { enabled: false } })))).not.toBe(hash);
    expect(
      await value(
        client,
        `select bool_and(content_hash = sha256(convert_to(content::text, 'UTF8'))) from app_public.plans`,
      ),
    ).toBe(true);
  });
});

test.for<[string, string]>([
  ['a list', '[]'],
  ['another key', `{"steps": [], "startsAt": null, "colour": 1}`],
  ['a time of another form', `{"steps": [], "startsAt": "2030-01-01"}`],
])('no content is %s, past the trigger either', async ([, content]) => {
  await withActors(database, async (client) => {
    expect(await value(client, 'select app_private.plan_problem($1)', [content])).toMatch(
      /must be/,
    );
  });
});
