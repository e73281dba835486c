import { json } from 'node:stream/consumers';
import { beforeAll, expect, test } from 'vitest';
import type { AuditEvent } from '../../src/schemas.ts';
import { inMinutes } from '../support/api.ts';
import { describeConsole, type WatchedPage } from '../support/console.ts';
import { withClient } from '../support/database.ts';
import { value } from '../support/actors.ts';

describeConsole('trail, tonight and state at', (site) => {
  const share = (percentage: number, reason: string) =>
    site.call('PATCH /api/admin/flags/checkout-v2', {
      json: { rollout_percentage: percentage, reason },
    });
  const schedule = (at: string, percentage: number, reason: string) =>
    site.call('POST /api/admin/flags/checkout-v2/schedule', {
      json: { scheduled_at: at, updates: { rollout_percentage: percentage }, reason },
    });
  const rows = (page: WatchedPage) => page.getByRole('list', { name: 'Events, newest first' });
  let beforeChange = '';

  beforeAll(async () => {
    await site.call('POST /api/admin/flags', { json: { flag_key: 'checkout-v2', enabled: true } });
    beforeChange = new Date().toISOString();
    await share(25, 'OPS-881');
  });

  test('new events wait while one holds them, and come once they are shown', async () => {
    const page = await site.open('/console/trail?q=flag:checkout-v2');
    await rows(page).getByText('100% → 25%').waitFor();
    await page.keyboard.press(' ');
    const before = await rows(page).innerText();
    await share(30, 'while it is held');
    const show = page.getByRole('button', { name: '1 new event, show' });
    await show.waitFor();
    expect(await rows(page).innerText()).toBe(before);
    await show.click();
    await rows(page).getByText('25% → 30%').waitFor();
    // Let go, they come by themselves; not beneath the pointer, which is elsewhere.
    await page.keyboard.press(' ');
    await page.mouse.move(1, 1);
    await share(35, 'while it is followed');
    await rows(page).getByText('30% → 35%').waitFor();
    expect(page.faults).toEqual([]);
  });

  test('an event is shown as it was hashed, beside the list of the search', async () => {
    const page = await site.open('/console/trail?q=type:feature_flag.updated');
    await rows(page).getByRole('link', { name: 'Share set' }).last().click();
    const event = page.getByRole('region', { name: 'checkout-v2 went from on to 25%' });
    await event.getByText('alice changed the flag').waitFor();
    const text = await event.getByLabel('The event’s text').innerText();
    expect(JSON.parse(text)).toMatchObject({ metadata: { reason: 'OPS-881' } });
    await event.getByText(/^sealed in/).waitFor();
    const { seq } = JSON.parse(text) as { readonly seq: number };
    const leaf = await withClient(site.database.ownerUrl, (client) =>
      value<string>(client, `select encode(leaf, 'hex') from audit.ledger where seq = $1`, [seq]),
    );
    await event.getByText(leaf).waitFor();
    expect(new URL(page.url()).searchParams.get('q')).toBe('type:feature_flag.updated');
    await page.keyboard.press('Escape');
    await expect.poll(() => event.count()).toBe(0);
  });

  test('an export is what the search asks for, as a file', async () => {
    const page = await site.open('/console/trail?q=type:feature_flag.updated+level:info');
    await page.getByRole('button', { name: 'Export…' }).click();
    await page.getByText('An export can’t be narrowed by level').waitFor();
    await page.getByRole('radio', { name: /^JSON/ }).check();
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download JSON' }).click(),
    ]);
    const events = (await json(await download.createReadStream())) as AuditEvent[];
    expect(events.map(({ event_type }) => event_type)).toContain('feature_flag.updated');
    expect(new Set(events.map(({ event_type }) => event_type)).size).toBe(1);
  });

  test('the night names what two schedules set at one instant, also in the hand-over', async () => {
    const at = inMinutes(90);
    await schedule(at, 50, 'second step');
    await schedule(at, 0, 'not on Fridays');
    const page = await site.open('/console/tonight?until=%2B3h');
    const order = page.getByRole('region', { name: 'In order' });
    await order.getByText(/: (50% or 0%|0% or 50%)\?$/).waitFor();
    await order.getByText('alice set it twice for the same instant.').waitFor();
    const text = await page.getByRole('region', { name: 'As text' }).locator('pre').innerText();
    expect(text).toMatch(/checkout-v2 (50% or 0%|0% or 50%):\s+DECIDE/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(40);
    expect(page.faults).toEqual([]);
  });

  test('a time of the past is a fact, one of the future a projection, and both are the API’s', async () => {
    const later = inMinutes(100);
    const page = await site.open(`/console/state?at=${beforeChange}`);
    await page.getByText('Fact, from the trail').waitFor();
    const row = () => page.getByRole('row', { name: /^checkout-v2/ });
    expect(await row().innerText()).toMatch(/On for 35%\s+On\s/);
    await page.getByRole('button', { name: 'Now', exact: true }).click();
    await page.getByText('Fact, as of now').waitFor();

    await page.goto(`${site.url}/console/state?at=${later}`);
    await page.getByText('Projection, not fact').waitFor();
    const { body } = await site.call(`GET /api/admin/environments/production/state?at=${later}`);
    const { flags } = body as unknown as { flags: [{ rollout_percentage: number }] };
    expect(await row().innerText()).toContain(`On for ${flags[0].rollout_percentage}%`);
    expect(await row().innerText()).toContain('Uncertain');
    expect(page.faults).toEqual([]);
  });
});
