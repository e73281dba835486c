import { expect, test } from 'vitest';
import { byForm } from '../support/chaos/form.ts';
import { describeConsole, type WatchedPage } from '../support/console.ts';
import type { Flag, Schedule } from '../../src/schemas.ts';

const COUNT = byForm({ short: 50, full: 300 });
const FLAGS = 8;
/** Milliseconds from the first request to the first change: the first that is long enough for all requests on this machine. */
const AHEAD_MS = byForm({ short: [4_000, 12_000, 40_000], full: [20_000, 60_000] });
const SPREAD_MS = byForm({ short: 3_000, full: 10_000 });

const pick = <T>(list: readonly T[]): T => {
  const found = list[Math.floor(Math.random() * list.length)];
  if (found === undefined) throw new Error('The list is empty.');
  return found;
};

const UPDATES = [
  ...[{ enabled: true }, { enabled: false }],
  ...[0, 10, 25, 50, 100].map((rollout_percentage) => ({ rollout_percentage })),
  { enabled: true, rollout_percentage: 75 },
];

/** Runs in the page: the tests have no types of the DOM. */
const READ_ROWS = `[...document.querySelectorAll('#table tbody tr')].map((row) => ({
  flag: row.cells[2].textContent, change: row.cells[4].textContent
}))`;

/** What the table says that each change does, by flag and in their order. */
async function drawn(page: WatchedPage): Promise<Record<string, string[]>> {
  const more = page.getByRole('button', { name: 'Show more' });
  while (await more.isVisible()) await more.click();
  const found: Record<string, string[]> = {};
  for (const { flag, change } of await page.evaluate<{ flag: string; change: string }[]>(READ_ROWS))
    (found[flag] ??= []).push(change);
  return found;
}

describeConsole('the drawn future', (site) => {
  /** Plans changes, and reads what is drawn of them; null if they came before that. */
  async function plan(round: number, aheadMs: number) {
    const keys = Array.from({ length: FLAGS }, (_, i) => `flag-${round}-${i}`);
    for (const key of keys) await site.call('POST /api/admin/flags', { json: { flag_key: key } });
    const begin = Date.now() + aheadMs;
    // Some at one instant, where one of them wins.
    const instants = Array.from({ length: COUNT / 2 }, () =>
      Math.round(begin + Math.random() * SPREAD_MS),
    );
    await Promise.all(
      Array.from({ length: COUNT }, (_, i) =>
        site.call(`POST /api/admin/flags/${keys[i % FLAGS] ?? ''}/schedule`, {
          json: { scheduled_at: new Date(pick(instants)).toISOString(), updates: pick(UPDATES) },
        }),
      ),
    );
    if (Date.now() > begin) return null;
    // What is made before it is out of view, so that the page shows these schedules alone.
    const from = new Date(begin - 500).toISOString();
    const page = await site.open(`/console/timeline?span=10m&from=${from}`);
    await page.locator('caption', { hasText: `${COUNT} changes in view` }).waitFor();
    const planned = await drawn(page);
    return Date.now() > begin ? null : { page, planned };
  }

  test(`is what happens then, for ${COUNT} random schedules`, { timeout: 180_000 }, async () => {
    let found: Awaited<ReturnType<typeof plan>> = null;
    for (const [round, aheadMs] of AHEAD_MS.entries()) found ??= await plan(round, aheadMs);
    if (found === null) throw new Error('This machine is too slow: the changes came first.');
    const { page, planned } = found;

    const pending = async () => {
      const { body } = await site.call('GET /api/admin/schedules?status=pending');
      return (body as unknown as Schedule[]).length;
    };
    await expect.poll(pending, { timeout: 60_000 }).toBe(0);
    const applied = () => page.getByRole('row', { name: / Applied / }).count();
    await expect.poll(applied, { timeout: 20_000 }).toBe(COUNT);
    // What is applied and what it changed are answers of two queries: one may come first.
    await expect.poll(() => drawn(page), { timeout: 20_000 }).toEqual(planned);

    // The state beside each row is the flag's.
    const { body } = await site.call('GET /api/admin/flags?environment=production&limit=100');
    const flags = body as unknown as Flag[];
    for (const { flag_key: key, enabled, rollout_percentage: rollout } of flags) {
      if (planned[key] === undefined) continue;
      const share = rollout === 100 ? 'On' : `On for ${rollout}%`;
      const lane = page.locator('.lane', { hasText: key }).first();
      expect(await lane.innerText()).toContain(enabled ? share : 'Off');
    }
  });
});
