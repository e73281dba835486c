import { performance } from 'node:perf_hooks';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Schedule } from '../../src/schemas.ts';
import { inMinutes } from '../support/api.ts';
import { describeConsole, type Site, type WatchedPage } from '../support/console.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';

/** Prints what took how long: the machine is too busy at times to hold more than the deadline. */
const say = (what: string, since: number): void => {
  process.stdout.write(`console: ${what} after ${Math.round(performance.now() - since)} ms\n`);
};

/** The schedules of the table beneath the chart, as `flag status`, in its order. */
async function shownIn(page: WatchedPage): Promise<string[]> {
  const rows = await page.getByRole('table').locator('tbody tr').all();
  const texts = await Promise.all(rows.map((row) => row.locator('td').allInnerTexts()));
  return texts
    .map(([, status = '', flag = '']) => `${flag} ${status.trim().toLowerCase()}`)
    .filter((text) => !text.endsWith('changed at once'));
}

async function planned(site: Site): Promise<string[]> {
  const { body } = await site.call('GET /api/admin/schedules?environment=production&limit=100');
  return (body as unknown as Schedule[]).map((one) => `${one.flag_key} ${one.status}`);
}

const make = (site: Site, key: string) =>
  site.call('POST /api/admin/flags', { json: { flag_key: key } });

async function schedule(site: Site, key: string, minutes: number): Promise<string> {
  const { body } = await site.call(`POST /api/admin/flags/${key}/schedule`, {
    json: { scheduled_at: inMinutes(minutes), updates: { enabled: true } },
  });
  return body.id;
}

describeConsole('the console follows the server', (site) => {
  let page: WatchedPage;

  beforeAll(async () => {
    for (const key of ['checkout-v2', 'gift-cards']) await make(site, key);
    await schedule(site, 'gift-cards', 60);
    page = await site.open('/console/timeline');
    await page.getByText('Live', { exact: true }).waitFor();
  });

  test('what another client plans, moves and cancels appears', async () => {
    const since = performance.now();
    const id = await schedule(site, 'checkout-v2', 120);
    const mark = page.getByRole('link', { name: /^checkout-v2 in production: Pending, on, / });
    await mark.waitFor({ timeout: 10_000 });
    say('another client’s schedule showed', since);

    const before = await mark.getAttribute('aria-label');
    await site.call(`PATCH /api/admin/flags/checkout-v2/schedule/${id}`, {
      json: { scheduled_at: inMinutes(180) },
    });
    await expect.poll(() => mark.getAttribute('aria-label')).not.toBe(before);

    await site.call(`DELETE /api/admin/flags/checkout-v2/schedule/${id}`);
    await page
      .getByRole('link', { name: /^checkout-v2 in production: Cancelled, / })
      .waitFor({ timeout: 10_000 });
    expect(await shownIn(page)).toEqual(await planned(site));
  });

  test('what is applied turns from planned to applied, and says how late', async () => {
    const at = Date.now() + 1_500;
    await site.call('POST /api/admin/flags/checkout-v2/schedule', {
      json: { scheduled_at: new Date(at).toISOString(), updates: { rollout_percentage: 50 } },
    });
    const row = page.getByRole('row', { name: /Applied checkout-v2/ });
    await row.waitFor({ timeout: 20_000 });
    expect(await row.innerText()).toMatch(/rollout\s+100%.*50%.*late/s);
  });

  test('a change without a schedule appears', async () => {
    const since = performance.now();
    await site.call('PATCH /api/admin/flags/gift-cards', { json: { enabled: true } });
    await page
      .getByRole('row', { name: /Changed at once gift-cards production off → on/ })
      .waitFor({ timeout: 10_000 });
    say('another client’s change of a flag showed', since);
    expect(page.faults).toEqual([]);
  });

  describe('where the connection is lost', () => {
    test('says since when, keeps what it has, and equals the API again once it is back', async () => {
      const { port } = new URL(site.url);
      await using proxy = await startTcpProxy({ host: '127.0.0.1', port: Number(port) });
      const at = `http://127.0.0.1:${proxy.port}`;
      const far = await site.open('/console/timeline', { at });
      await far.getByText('Live', { exact: true }).waitFor();
      await expect.poll(() => shownIn(far)).toEqual(await planned(site));
      const before = await shownIn(far);

      proxy.refuse();
      await far
        .getByRole('status')
        .filter({ hasText: /^Not live since \d\d:\d\d$/ })
        .waitFor();
      await make(site, 'wishlist');
      const id = await schedule(site, 'wishlist', 30);
      await schedule(site, 'wishlist', 45);
      await site.call(`DELETE /api/admin/flags/wishlist/schedule/${id}`);
      expect(await shownIn(far)).toEqual(before);

      const since = performance.now();
      proxy.accept();
      await expect
        .poll(() => shownIn(far), { timeout: 10_000, interval: 50 })
        .toEqual(await planned(site));
      say('the page equalled the API again', since);
      await far.getByText('Live', { exact: true }).waitFor();
      await far.context().close();
    });
  });
});
