import type { Page } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Flag, Schedule } from '../../src/schemas.ts';
import { inMinutes } from '../support/api.ts';
import { describeConsole, type WatchedPage } from '../support/console.ts';
import { adminToken } from '../support/tokens.ts';

const KEY = 'checkout-v2';
/** The one after this one: all of it lies ahead. */
const YEAR = new Date().getUTCFullYear() + 1;

/** The day of a month's last Sunday, on which clocks of the European Union are set. @param month from 1 */
const lastSunday = (month: number): number => {
  const last = new Date(Date.UTC(YEAR, month, 0));
  return last.getUTCDate() - last.getUTCDay();
};
const MARCH = lastSunday(3);
const OCTOBER = lastSunday(10);

/** The form of a flag's page. */
const formOf = (page: Page) => page.getByRole('form', { name: 'Schedule a change' });

async function fill(page: Page, fields: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(fields))
    await formOf(page).getByLabel(name, { exact: true }).fill(text);
}

describeConsole('forms', (site) => {
  let page: WatchedPage;

  beforeAll(async () => {
    await site.call('POST /api/admin/flags', { json: { flag_key: KEY } });
    page = await site.open(`/console/flags/production/${KEY}?tz=Europe/Paris`, {
      zone: 'America/New_York',
    });
    await formOf(page).waitFor();
  });

  const schedules = async (): Promise<Schedule[]> => {
    const { body } = await site.call(`GET /api/admin/flags/${KEY}/schedule`);
    return body as unknown as Schedule[];
  };
  const send = () => formOf(page).getByRole('button', { name: 'Schedule', exact: true }).click();
  const latest = async (): Promise<string | undefined> => (await schedules())[0]?.scheduled_at;

  test('a time that clocks leave out is refused, with both neighbours', async () => {
    await fill(page, { Date: `${YEAR}-03-${MARCH}`, Time: '02:30', 'Time zone': 'Europe/Paris' });
    await formOf(page).getByText('There is no such time').waitFor();
    await send();
    expect(await schedules()).toEqual([]);
    const around = formOf(page).getByRole('group', { name: 'Times around the gap' });
    expect(await around.getByRole('button').allInnerTexts()).toEqual([
      ...['01:30:00, UTC+1', '03:30:00, UTC+2'],
    ]);
    await around.getByRole('button', { name: '03:30' }).click();
    // The offset is that of the day.
    await formOf(page).getByText(`Sunday ${MARCH} March ${YEAR}, 03:30:00, UTC+2`).waitFor();
    await send();
    await expect.poll(latest).toBe(`${YEAR}-03-${MARCH}T01:30:00.000Z`);
  });

  test('a time that comes twice is asked about', async () => {
    await fill(page, { Date: `${YEAR}-10-${OCTOBER}`, Time: '02:30', 'Time zone': 'Europe/Paris' });
    await formOf(page).getByText('This time comes twice').waitFor();
    const before = (await schedules()).length;
    await send();
    expect(await schedules()).toHaveLength(before);
    await formOf(page)
      .getByRole('button', { name: /^Second, 01:30 UTC, UTC\+1/ })
      .click();
    await send();
    await expect.poll(latest).toBe(`${YEAR}-10-${OCTOBER}T01:30:00.000Z`);
  });

  test.each([
    ['America/New_York', '07-01T13:00:00.000Z'],
    ['Asia/Kathmandu', '07-01T03:15:00.000Z'],
    ['Australia/Lord_Howe', '06-30T22:30:00.000Z'],
  ])('9:00 of %s is that of its day', async (zone, at) => {
    await fill(page, { 'Time zone': zone, Date: `${YEAR}-07-01`, Time: '9:00' });
    await send();
    await expect.poll(latest).toBe(`${YEAR}-${at}`);
  });

  test('the past is refused, and what is pending is named before it is saved', async () => {
    await fill(page, { 'Time zone': 'UTC', Date: `${YEAR - 2}-01-01`, Time: '9:00' });
    await formOf(page).getByText('a schedule lies in the future').waitFor();
    await fill(page, { Date: `${YEAR}-03-01`, Time: '9:00' });
    await formOf(page)
      .getByText(/^alice’s on at .* comes after this/i)
      .waitFor();
  });

  test('what is written is there after a reload, and after the session has ended', async () => {
    await fill(page, { 'Why (in the trail)': 'OPS-881 is done', Time: '10:30' });
    await page.reload();
    const reason = formOf(page).getByLabel('Why (in the trail)', { exact: true });
    expect(await reason.inputValue()).toBe('OPS-881 is done');

    // The session's row goes, as where it has expired.
    const cookies = await page.context().cookies();
    await page.context().clearCookies();
    const signIn = page.getByRole('heading', { name: 'Sign in' }).waitFor();
    // The page may have noticed before.
    await Promise.race([send().catch(() => undefined), signIn]);
    await signIn;
    await page.getByText('Your sign-in has ended.').waitFor();
    await page.getByText(`${KEY} in production`).waitFor();
    await page.context().addCookies(cookies);
    await page.getByLabel('Or paste a token').fill(adminToken());
    await page.keyboard.press('Enter');
    expect(await reason.inputValue()).toBe('OPS-881 is done');
    expect(new URL(page.url()).pathname).toBe(`/console/flags/production/${KEY}`);

    // So is what a dialog has, until one leaves it.
    const dialog = page.getByRole('dialog');
    const why = dialog.getByLabel('Why (in the trail)', { exact: true });
    const ask = () => page.getByRole('button', { name: 'Change now…' }).click();
    await ask();
    await why.fill('OPS-882 is not');
    await page.reload();
    await ask();
    expect(await why.inputValue()).toBe('OPS-882 is not');
    await page.keyboard.press('Escape');
    await ask();
    expect(await why.inputValue()).toBe('');
    await page.keyboard.press('Escape');
    // Signing out and in again is said in the console of the browser as 401: no other fault.
    expect(page.faults.filter((fault) => !fault.includes('401'))).toEqual([]);
  });

  describe('two tabs on one flag', () => {
    const flag = async (key: string): Promise<Flag> =>
      (await site.call(`GET /api/admin/flags/${key}`)).body as unknown as Flag;

    async function changeNow(tab: WatchedPage, share: string, key: string): Promise<void> {
      await tab.getByRole('button', { name: 'Change now…' }).click();
      const dialog = tab.getByRole('dialog', { name: `Change ${key} now` });
      await dialog.getByText('Set share').click();
      await dialog.getByLabel('Share of users').fill(share);
      await dialog.getByLabel(/this changes production at once/).fill(key);
    }

    test('the second shows who changed what, and nothing is lost', async () => {
      const key = 'two-tabs';
      await site.call('POST /api/admin/flags', { json: { flag_key: key, enabled: true } });
      const first = await site.open(`/console/flags/production/${key}`);
      const second = await site.openBeside(first, `/console/flags/production/${key}`);
      await changeNow(second, '30', key);
      await changeNow(first, '50', key);
      await first.getByRole('button', { name: /now$/ }).last().click();
      await expect.poll(async () => (await flag(key)).rollout_percentage).toBe(50);

      await second.getByRole('button', { name: /now$/ }).last().click();
      const refusal = second
        .getByRole('alert')
        .filter({ hasText: 'Somebody changed it meanwhile' });
      await refusal.waitFor();
      expect(await refusal.innerText()).toMatch(/alice/);
      expect((await flag(key)).rollout_percentage).toBe(50);
      await refusal.getByRole('button', { name: 'Keep mine' }).click();
      await expect.poll(async () => (await flag(key)).rollout_percentage).toBe(30);
      await first.getByText('On · 30%').first().waitFor();
    });
  });

  test('a schedule that was applied while a dialog was open is not moved', async () => {
    const key = 'just-applied';
    await site.call('POST /api/admin/flags', { json: { flag_key: key } });
    const { body } = await site.call(`POST /api/admin/flags/${key}/schedule`, {
      json: { scheduled_at: inMinutes(60), updates: { enabled: true } },
    });
    const tab = await site.open(`/console/flags/production/${key}`);
    await tab.getByRole('button', { name: 'Cancel…' }).click();
    await tab
      .getByRole('dialog')
      .getByRole('button', { name: /^Cancel on at/ })
      .waitFor();
    await site.call(`PATCH /api/admin/flags/${key}/schedule/${body.id}`, {
      json: { scheduled_at: inMinutes(90) },
    });
    await tab
      .getByRole('dialog')
      .getByRole('button', { name: /^Cancel on at/ })
      .click();
    await tab.getByRole('alert').filter({ hasText: 'Somebody changed it meanwhile' }).waitFor();
    const found = await site.call(`GET /api/admin/flags/${key}/schedule/${body.id}`);
    expect(found.body.status).toBe('pending');
  });
});
