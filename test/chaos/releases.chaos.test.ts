import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { byForm } from '../support/chaos/form.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite } from '../support/chaos/site.ts';
import { withClient } from '../support/database.ts';
import { asRequest } from '../support/plan_requests.ts';
import { useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());
const RELEASES = 200;
const FLAGS = 5;
/** Until all releases are made. */
const LEAD_MS = 4_000;

/** As an admin makes them: each of five flags, all for one instant. */
const MAKE = `
  select p.id
  from generate_series(1, ${RELEASES}) as r (no)
  cross join lateral app_public.create_plan(
    'Release ' || r.no,
    jsonb_build_array(jsonb_build_object('changes', (
      select jsonb_agg(jsonb_build_object(
        'flag_key', format('r%s-%s', r.no, i), 'environment', 'production', 'updates', jsonb_build_object('rollout_percentage', 50)))
      from generate_series(1, ${FLAGS}) as i))),
    $1) as p`;

/** Of each release how many of its flags have changed, and what its plan says. */
const FOUND = `
  select array_agg(distinct concat_ws(' ', r.changed, r.applied, p.status, p.applied_count))
  from app_public.plans p
  cross join lateral (
    select count(*) filter (where f.rollout_percentage = 50) as changed, count(*) filter (where s.status = 'applied') as applied
    from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
    where s.plan_id = p.id) as r`;

test('releases that are due at one instant are applied whole, each once, while workers are killed', async () => {
  const database = await useFreshDatabase();
  const site = await openSite(database);
  await withClient(database.rootUrl, async (client) => {
    await client.query(
      `insert into app_public.feature_flags (flag_key, rollout_percentage)
       select format('r%s-%s', r, i), 10 from generate_series(1, ${RELEASES}) as r, generate_series(1, ${FLAGS}) as i`,
    );
    await Promise.all(Array.from({ length: 4 }, () => site.startWorker()));
    const instant = new Date(Date.now() + LEAD_MS);
    await asRequest(client, () => client.query(MAKE, [instant]));
    await pause(Math.max(0, instant.getTime() - Date.now()));

    const replacements: Promise<void>[] = [];
    const seen = new Set<string>();
    for (let kill = 0; kill < byForm({ short: 3, full: 40 }); kill++) {
      await pause(random.between(0, 120));
      const victim = site.workers[random.between(0, site.workers.length - 1)];
      if (victim !== undefined) replacements.push(site.replace(victim));
      for (const one of await value<string[]>(client, FOUND)) seen.add(one);
    }
    await Promise.all(replacements);
    await expect
      .poll(() => value<string[]>(client, FOUND), { timeout: 60_000 })
      .toEqual([`${FLAGS} ${FLAGS} completed 1`]);
    // At no moment was one half applied.
    expect([...seen].filter((one) => !/^(0 0 active 0|5 5 completed 1)$/.test(one))).toEqual([]);
    expect(
      await value(
        client,
        `select jsonb_agg(distinct c.count) from (
           select count(*) from audit.events where event_type = 'flag_plan.completed' group by metadata ->> 'planId') as c`,
      ),
    ).toEqual([1]);
  });
  await site.check();
});
