import { join } from 'node:path';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import type { Locator } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Schedule } from '../../src/schemas.ts';
import { describeConsole, TOKENS, type WatchedPage } from '../support/console.ts';
import { startProcess } from '../support/processes.ts';

/** Runs in the page. */
const hasFocus = (one: { readonly ownerDocument: { readonly activeElement: unknown } }): boolean =>
  one.ownerDocument.activeElement === one;

/** Presses Tab until an element has the focus, as a person without a mouse does. */
async function tabTo(page: WatchedPage, element: Locator, key = 'Tab'): Promise<void> {
  await element.waitFor();
  for (let presses = 0; presses < 120; presses += 1) {
    if (await element.evaluate(hasFocus)) return;
    await page.keyboard.press(key);
  }
  throw new Error(`Tab never comes to ${String(element)}.`);
}

describeConsole('by keyboard alone', (site) => {
  let page: WatchedPage;
  let folder: string;

  beforeAll(async () => {
    await site.call('POST /api/admin/flags', { json: { flag_key: 'checkout-v2' } });
    folder = await mkdtemp(join(tmpdir(), 'halyard-test-'));
    page = await site.open('/console/', { as: null });
  });
  afterAll(() => rm(folder, { recursive: true }));

  const press = async (...keys: string[]): Promise<void> => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const field = (name: string): Locator => page.getByLabel(name, { exact: true });
  const button = (name: string | RegExp): Locator => page.getByRole('button', { name });
  /** Writes into a field in place of what it has. */
  const write = async (name: string, text: string): Promise<void> => {
    await tabTo(page, field(name));
    await press('ControlOrMeta+a');
    await page.keyboard.type(text);
  };
  const schedules = async (): Promise<Schedule[]> => {
    const { body } = await site.call('GET /api/admin/flags/checkout-v2/schedule');
    return body as unknown as Schedule[];
  };
  /** Keys of the page do nothing while a dialog is open: its answer may come after the API's. */
  const closed = () => page.getByRole('dialog').waitFor({ state: 'hidden' });
  const live = () => page.getByText('Live', { exact: true }).waitFor();

  /** From any page: the form, filled in and sent. */
  async function schedule(time: string, reason: string): Promise<void> {
    await press('n');
    await page.getByRole('form', { name: 'Schedule a change' }).waitFor();
    await write('Flag', 'checkout-v2');
    await write('Why (in the trail)', reason);
    // Last, as it counts from the moment at which it is sent.
    await tabTo(page, field('Time'), 'Shift+Tab');
    await page.keyboard.type(time);
    await press('Enter');
    await closed();
  }

  test('one signs in', async () => {
    await write('Or paste a token', TOKENS.admin());
    await press('Enter');
    await page.getByRole('heading', { name: 'Timeline' }).waitFor();
    await live();
  });

  test('one schedules a change', async () => {
    await schedule('+2h', 'OPS-881');
    await expect
      .poll(schedules)
      .toMatchObject([{ status: 'pending', reason: 'OPS-881', updates: { enabled: true } }]);
    const at = Date.parse((await schedules())[0]?.scheduled_at ?? '');
    expect(Math.abs(at - Date.now() - 7_200_000)).toBeLessThan(60_000);
  });

  /** On the timeline, its mark chosen. */
  async function chooseMark(): Promise<void> {
    await press('g', 't');
    await tabTo(page, page.getByRole('link', { name: /^checkout-v2 in production: / }).first());
    await press('ArrowRight', 'Enter');
    await page.getByRole('region', { name: 'checkout-v2, chosen change' }).waitFor();
  }

  test('one moves it', async () => {
    const [before] = await schedules();
    await chooseMark();
    await tabTo(page, button('Move…'));
    await press('Enter');
    await write('Time', '+3h');
    await tabTo(page, button(/^Move to /));
    await press('Enter');
    await expect.poll(async () => (await schedules())[0]?.revision).toBe(2);
    const [after] = await schedules();
    expect(
      Date.parse(after?.scheduled_at ?? '') - Date.parse(before?.scheduled_at ?? ''),
    ).toBeGreaterThan(3_000_000);
    await closed();
  });

  test('one cancels it and says why', async () => {
    await tabTo(page, button('Cancel…'));
    await press('Enter');
    await write('Why (in the trail)', 'Not today');
    await tabTo(page, button(/^Cancel on at /));
    await press('Enter');
    await expect
      .poll(schedules)
      .toMatchObject([{ status: 'cancelled', cancel_reason: 'Not today', cancelled_by: 'alice' }]);
    await closed();
    // The button is gone: one goes on in the same card.
    await expect
      .poll(() => page.evaluate('document.activeElement.textContent'))
      .toBe('checkout-v2');
  });

  test('one sees a change applied', async () => {
    await schedule('+5s', 'Now');
    const statuses = async () => (await schedules()).map(({ status }) => status);
    await expect.poll(statuses, { timeout: 20_000 }).toContain('applied');
    await press('g', 't');
    await page.getByRole('row', { name: /Applied checkout-v2/ }).waitFor();
  });

  test('one downloads the proof of it, and audit verify-proof takes it', async () => {
    await press('g', 'l');
    const event = page.getByRole('link', { name: /Change applied/ }).first();
    await event.waitFor();
    await tabTo(page, event);
    await press('Enter');
    await tabTo(page, button('Download proof'));
    const [download] = await Promise.all([page.waitForEvent('download'), press('Enter')]);
    const file = join(folder, download.suggestedFilename());
    await download.saveAs(file);
    const verify = startProcess('node', ['src/main.ts', 'audit', 'verify-proof', file]);
    expect([await verify.exited, verify.stderr()]).toEqual([0, '']);
    expect(verify.stdout()).toContain('flag_schedule.applied');
    expect(page.faults).toEqual([]);
  });
});
