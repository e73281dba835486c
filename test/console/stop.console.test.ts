import { beforeAll, expect, test } from 'vitest';
import type { Flag } from '../../src/schemas.ts';
import { inMinutes } from '../support/api.ts';
import {
  accessibilityProblems,
  describeConsole,
  type Site,
  type WatchedPage,
} from '../support/console.ts';
import { adminToken } from '../support/tokens.ts';

/** Asks for something as early as the server takes it: on a busy machine a moment ahead may have passed. */
async function soon(ask: (at: string) => Promise<{ status: number }>): Promise<void> {
  let status = 0;
  for (let ms = 300; ms < 10_000 && status !== 201; ms *= 3)
    ({ status } = await ask(new Date(Date.now() + ms).toISOString()));
  expect(status).toBe(201);
}
const bob = { token: adminToken({ userId: 'bob', email: 'bob@example.com' }) };

interface Change {
  readonly flag_key: string;
  readonly updates: object;
  readonly expects?: object;
  readonly on_conflict?: string;
}

/** A plan of production. */
function plan(site: Site, title: string, at: string, changes: readonly Change[]) {
  const json = {
    ...{ title, starts_at: at },
    steps: [{ changes: changes.map((one) => ({ ...one, environment: 'production' })) }],
  };
  return site.call('POST /api/admin/plans', { json });
}

const schedule = (site: Site, key: string, at: string, updates: object) =>
  site.call(`POST /api/admin/flags/${key}/schedule`, { json: { scheduled_at: at, updates } });

async function flagOf(site: Site, key: string) {
  const { body } = await site.call(`GET /api/admin/flags/${key}`);
  return body as unknown as Flag;
}

const stop = (site: Site, name: string, call = {}) =>
  site.call(`POST /api/admin/environments/${name}/stop`, { ...call, json: { reason: 'drill' } });

const resume = (site: Site, name: string, call = {}) =>
  site.call(`POST /api/admin/environments/${name}/resume`, {
    ...{ ...call, json: { missed: 'skip', reason: 'All well.' } },
  });

/** From now on the page doesn't hear which environments are paused. */
const deafen = (page: WatchedPage) =>
  page.route('**/graphql', (route) =>
    /query (Due|Stops)/.test(route.request().postData() ?? '') ? route.abort() : route.continue(),
  );

const banner = (page: WatchedPage) => page.locator('.banner');

describeConsole('a pause of all schedules', (site) => {
  beforeAll(async () => {
    await site.call('POST /api/admin/environments', { json: { name: 'staging' } });
    for (const key of ['checkout-v2', 'gift-cards', 'promo-banner', 'search-ranker'])
      await site.call('POST /api/admin/flags', { json: { flag_key: key } });
  });

  test('is two presses from each page, and a banner for everybody who reads the environment', async () => {
    const [page, viewer, auditor] = await Promise.all([
      site.open('/console/help'),
      site.open('/console/timeline', { as: 'viewer' }),
      site.open('/console/tonight', { as: 'auditor' }),
    ]);
    for (const one of [page, viewer, auditor])
      await one.getByText('Live', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Pause all…' }).click();
    await page.getByRole('dialog', { name: 'Pause all in production' }).waitFor();
    // It has the focus, and the reason may stay empty.
    await page.keyboard.press('Enter');

    await expect
      .poll(() => banner(page).innerText())
      .toMatch(/^production is paused since \d\d:\d\d by alice: “No reason was given\.”\./);
    await banner(page).getByRole('link', { name: 'Resume…' }).waitFor();
    await expect
      .poll(() => viewer.getByRole('status').allInnerTexts())
      .toContainEqual(expect.stringMatching(/^production is paused since \d\d:\d\d\.$/));
    await expect.poll(() => banner(auditor).innerText()).toContain('by alice: “No reason');
    for (const one of [viewer, auditor])
      expect(await one.getByText(/Pause all|Paused ·|Resume…/).count()).toBe(0);
    for (const one of [page, viewer, auditor]) expect(one.faults).toEqual([]);
    expect(await accessibilityProblems(page)).toEqual([]);

    await viewer.goto(`${site.url}/console/resume/production`);
    await viewer.getByText('This takes an admin').waitFor();
    expect(viewer.answers.filter((one) => one.startsWith('4'))).toEqual([]);
    await resume(site, 'production');
    await expect.poll(() => banner(page).count()).toBe(0);
  });

  test('is known by its own answer where the page isn’t live, for each environment', async () => {
    const page = await site.open('/console/flags', { phone: true });
    await page.getByText('Live', { exact: true }).waitFor();
    await page.routeWebSocket(/graphql/, (socket) => socket.close());
    await page.reload();
    await page.getByText(/^Not live since/).waitFor();
    await deafen(page);
    await stop(site, 'staging', bob);
    await page.getByRole('button', { name: 'Pause all' }).click();
    await page.getByRole('checkbox', { name: 'staging' }).check();
    await page.getByRole('heading', { name: 'Pause all in production and staging' }).waitFor();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Why/).fill('errors up');
    await page.unroute('**/graphql');
    await dialog.getByRole('button', { name: 'Pause all now' }).click();
    await dialog.getByText(/staging: .*stopped.* by bob/).waitFor();
    await expect.poll(() => banner(page).innerText()).toContain('staging is paused since');
    expect(await banner(page).innerText()).toMatch(/production is paused .* alice: “errors up”/);
    await dialog.getByRole('button', { name: 'Close' }).click();
    await page.getByRole('link', { name: 'Resume staging…' }).waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    await page.context().close();
    for (const name of ['production', 'staging']) await resume(site, name);
  });

  test('is resumed with a choice for each change, once what it does was seen', async () => {
    await stop(site, 'production');
    const changes = ['checkout-v2', 'gift-cards'].map((flag_key) => ({
      ...{ flag_key, updates: { enabled: true } },
    }));
    await soon((at) => plan(site, 'Autumn release', at, changes));
    await soon((at) => schedule(site, 'promo-banner', at, { enabled: true }));
    const page = await site.open('/console/resume/production');
    await page.getByRole('heading', { name: '2 came due while paused' }).waitFor();
    const after = page.getByRole('group', { name: 'Before and after' });
    await expect.poll(() => after.innerText()).toMatch(/promo-banner\s+off → on/);

    await page.getByRole('radiogroup', { name: 'promo-banner' }).getByText('Skip').click();
    await expect.poll(() => after.innerText()).toMatch(/promo-banner\s+off \(skipped\)/);
    expect(await after.innerText()).toMatch(/checkout-v2\s+off → on/);

    // One more comes due.
    await soon((at) => schedule(site, 'search-ranker', at, { enabled: true }));
    await page.getByText('One more change came due since you looked.').waitFor();
    const button = page.getByRole('button', { name: 'Apply 2, skip 1, resume' });
    await page.getByLabel(/^Why/).fill('It was a card network');
    await page.getByLabel(/^Type/).fill('production');
    expect(await button.getAttribute('aria-disabled')).toBe('true');
    expect(await accessibilityProblems(page)).toEqual([]);
    await page.getByRole('button', { name: 'I have seen it' }).click();
    await page.getByLabel(/^Type/).fill('produc');
    await button.click({ force: true });
    await page.getByText('That isn’t its name.').waitFor();
    await page.getByLabel(/^Type/).fill('production');
    await button.click();

    await page.getByText('Changes that had come due: 3 applied, 1 skipped.').waitFor();
    await expect.poll(() => flagOf(site, 'search-ranker')).toMatchObject({ enabled: true });
    expect(await flagOf(site, 'gift-cards')).toMatchObject({ enabled: true });
    expect(await flagOf(site, 'promo-banner')).toMatchObject({ enabled: false });
    // A change may be in the way of a try, which is made again then.
    expect(page.faults.filter((one) => !one.includes('503'))).toEqual([]);
    await page.goto(`${site.url}/console/flags/production/promo-banner`);
    await page.getByRole('heading', { name: /^Skipped: Skipped: on at/ }).waitFor();
  });

  test('that somebody else has resumed says who, to the second person', async () => {
    await stop(site, 'production');
    const page = await site.open('/console/resume/production');
    await page.getByLabel(/^Why/).fill('It was a card network');
    await page.getByLabel(/^Type/).fill('production');
    await deafen(page);
    await resume(site, 'production', bob);
    await page.getByRole('button', { name: 'Resume', exact: true }).click();
    await page.getByText(/production isn't stopped: .* by bob/).waitFor();
    await page.unroute('**/graphql');
    await page.context().close();
  });
});

describeConsole('a change that finds another value than it expects', (site) => {
  const guarded = { updates: { rollout_percentage: 50 }, expects: { rollout_percentage: 10 } };
  const change = { ...guarded, flag_key: 'checkout-v2', on_conflict: 'suspend' };

  beforeAll(async () => {
    for (const key of ['checkout-v2', 'gift-cards'])
      await site.call('POST /api/admin/flags', { json: { flag_key: key } });
  });

  test('is a conflict of the timeline before it comes, with its plan', async () => {
    await plan(site, 'Black Friday', inMinutes(120), [
      { flag_key: 'gift-cards', updates: { enabled: true } },
      change,
    ]);
    const page = await site.open('/console/timeline');
    const mark = page.getByRole('link', {
      name: /^checkout-v2 in production: Conflict, 50%, .*, part of Black Friday$/,
    });
    await mark.click();
    const chosen = page.getByRole('region', { name: 'checkout-v2, chosen change' });
    await chosen.getByText('rollout 10%, will find 100%').waitFor();
    expect(await chosen.getByRole('button').count()).toBe(0);
    await chosen.getByRole('link', { name: 'Black Friday' }).first().waitFor();
    expect(await page.locator('.plantop.unsure').count()).toBeGreaterThan(0);
    // All or nothing: the other flag stays too.
    await page.getByRole('link', { name: /^gift-cards in production: Conflict, on/ }).waitFor();
    await page.goto(`${site.url}/console/flags/production/gift-cards`);
    await page.getByRole('heading', { name: 'Conflict: Would change nothing: on' }).waitFor();

    const viewer = await site.open('/console/timeline', { as: 'viewer' });
    await viewer.getByRole('link', { name: /^checkout-v2 in production: Conflict/ }).waitFor();
    expect(await viewer.innerText('body')).not.toContain('Black Friday');
    expect([...page.faults, ...viewer.faults]).toEqual([]);
    await viewer.context().close();
  });

  test('waits for a person, who resumes it with a reason', async () => {
    await soon((at) => plan(site, 'Late release', at, [change]));
    const page = await site.open('/console/tonight');
    const needs = page.getByRole('region', { name: '1 needs someone' });
    await needs
      .getByText('Suspended for a conflict: expected rollout 10%, found 100%.')
      .waitFor({ timeout: 20_000 });
    expect(await needs.getByRole('button', { name: /Cancel|Move/ }).count()).toBe(0);
    await needs.getByRole('link', { name: 'Late release' }).waitFor();
    expect(await page.locator('pre').innerText()).toMatch(/^Waits: checkout-v2 .*DECIDE$/m);
    expect(await accessibilityProblems(page)).toEqual([]);
    await needs.getByRole('button', { name: 'Resume… 50% of checkout-v2' }).click();
    const dialog = page.getByRole('dialog', { name: 'Resume the change' });
    await dialog.getByText('rollout 10%, found 100%').waitFor();
    await dialog.getByRole('button', { name: 'Apply now: 50%' }).click();
    await dialog.getByText('Why is it right all the same?').waitFor();
    await dialog.getByLabel(/^Why/).fill('The share was raised on purpose');
    await dialog.getByRole('button', { name: 'Apply now: 50%' }).click();
    await expect
      .poll(() => flagOf(site, 'checkout-v2'), { timeout: 10_000 })
      .toMatchObject({
        rollout_percentage: 50,
      });
    await needs.waitFor({ state: 'detached' });
    expect(page.faults).toEqual([]);
    await page.goto(`${site.url}/console/flags/production/checkout-v2`);
    await page.getByText('expected rollout 10%, found 100%').waitFor();
  });
});
