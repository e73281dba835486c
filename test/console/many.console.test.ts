import { performance } from 'node:perf_hooks';
import { expect, test } from 'vitest';
import { isFull } from '../support/chaos/form.ts';
import { describeConsole } from '../support/console.ts';
import { withClient } from '../support/database.ts';

const FLAGS = 2_000;
const SCHEDULES = 10_000;

/** Milliseconds of each frame while it scrolls, in the page: the tests have no types of the DOM. */
const SCROLL = `new Promise((resolve) => {
  const frames = [];
  let last = performance.now();
  const step = (at) => {
    frames.push(at - last);
    last = at;
    if (frames.length > 60) resolve(frames.slice(1));
    else { scrollBy(0, 400); requestAnimationFrame(step); }
  };
  requestAnimationFrame(step);
})`;

// Seconds of processor time: in the long form.
describeConsole('many flags', (site) => {
  test.skipIf(!isFull())(
    '2,000 flags and 10,000 schedules are shown in a small document',
    async () => {
      await withClient(site.database.ownerUrl, (client) =>
        client.query(`
        with flag as (
          insert into app_public.feature_flags (flag_key, enabled)
          select 'flag-' || lpad(n::text, 4, '0'), n % 2 = 0 from generate_series(1, ${FLAGS}) n
          returning id
        )
        insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
        select id, now() + n * interval '3 hours' + random() * interval '3 hours',
          jsonb_build_object('rollout_percentage', n * 10)
        from flag, generate_series(1, ${SCHEDULES / FLAGS}) n`),
      );
      const page = await site.open('/console/help');
      await page.getByText('Live', { exact: true }).waitFor();
      const since = performance.now();
      await page.keyboard.press('g');
      await page.keyboard.press('t');
      // Some come behind the end of the day in view.
      await page.locator('caption', { hasText: /1[12]\d{3} changes in view/ }).waitFor();
      const shown = performance.now() - since;
      const nodes = await page.evaluate<number>('document.querySelectorAll("*").length');
      const frames = await page.evaluate<number[]>(SCROLL);
      process.stdout.write(
        `console: ${FLAGS} flags with ${SCHEDULES} schedules showed after ${Math.round(shown)} ms, in ${nodes} elements; of ${frames.length} frames of a scroll ${frames.filter((ms) => ms > 50).length} took more than 50 ms\n`,
      );
      expect(nodes).toBeLessThan(3_000);
      expect(page.faults).toEqual([]);
    },
  );
});
