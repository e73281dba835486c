import { beforeAll, expect, test } from 'vitest';
import { inMinutes } from '../support/api.ts';
import { describeConsole } from '../support/console.ts';

/** What clocks of a zone show, by ICU and not by the page's arithmetic. */
function clock(at: string, zone: string, seconds = true): string {
  return new Intl.DateTimeFormat('en-GB', {
    ...{ timeZone: zone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
    ...(seconds ? { second: '2-digit' } : {}),
  }).format(new Date(at));
}

const offset = (at: string, zone: string): string =>
  new Intl.DateTimeFormat('en-GB', { timeZone: zone, timeZoneName: 'shortOffset' })
    .formatToParts(new Date(at))
    .find(({ type }) => type === 'timeZoneName')
    ?.value.replace('GMT', 'UTC')
    .replace('-', '−') ?? '';

describeConsole('times', (site) => {
  const scheduledAt = inMinutes(130);

  beforeAll(async () => {
    await site.call('POST /api/admin/flags', { json: { flag_key: 'checkout-v2' } });
    await site.call('POST /api/admin/flags/checkout-v2/schedule', {
      json: { scheduled_at: scheduledAt, updates: { enabled: true } },
    });
  });

  test.each(['America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe'])(
    'are those of %s all over the page, and not those of the browser',
    async (zone) => {
      const page = await site.open(`/console/timeline?tz=${zone}`, { zone: 'Europe/Paris' });
      const mark = page.getByRole('link', { name: /^checkout-v2 in production: Pending/ });
      const time = clock(scheduledAt, zone);
      expect(await mark.getAttribute('aria-label')).toContain(time);

      // The table has the API's instant beneath the zone's words.
      const cell = page.getByRole('row', { name: /Pending checkout-v2/ }).locator('time');
      expect(new Date((await cell.getAttribute('datetime')) ?? '').toISOString()).toBe(scheduledAt);
      expect(await cell.innerText()).toContain(time);

      await mark.click();
      const chosen = page.getByRole('region', { name: 'checkout-v2, chosen change' });
      expect(await chosen.innerText()).toContain(time);
      const inZone = `${zone}, ${offset(scheduledAt, zone)} · `;
      expect(await chosen.innerText()).toContain(inZone);
      expect(await chosen.innerText()).toContain(`${clock(scheduledAt, 'UTC')} UTC`);

      // The axis: a label stands where the zone's clocks show it.
      const axis = page.getByRole('img', { name: new RegExp(`^Time axis in ${zone}; now is`) });
      const now = /now is (\S+)$/.exec((await axis.getAttribute('aria-label')) ?? '')?.[1];
      const minutes = [0, 1].map((ago) =>
        clock(new Date(Date.now() - ago * 60_000).toISOString(), zone, false),
      );
      expect(minutes).toContain(now);
      const labels = await axis.locator('text.tlab:not(.d)').allTextContents();
      expect(labels.length).toBeGreaterThan(3);
      for (const label of labels) expect(label).toMatch(/^\d\d:00$/);
      expect(page.faults).toEqual([]);
      await page.context().close();
    },
  );

  test('change all at once with the zone that a person chooses', async () => {
    const page = await site.open('/console/timeline?tz=UTC');
    await page.getByRole('button', { name: /^UTC/ }).first().click();
    await page.getByLabel('Time zone of all times').first().fill('Asia/Kathmandu');
    await page.keyboard.press('Escape');
    const cell = page.getByRole('row', { name: /Pending checkout-v2/ }).locator('time');
    await expect.poll(() => cell.innerText()).toContain(clock(scheduledAt, 'Asia/Kathmandu'));
    expect(new URL(page.url()).searchParams.get('tz')).toBe('Asia/Kathmandu');
    // It stays with the next page that is opened, and an unknown one is left out with a note.
    const other = await site.openBeside(page, '/console/timeline?tz=Mars/Olympus');
    await other.getByText('Unknown time zone “Mars/Olympus”').waitFor();
    expect(await other.locator('.zone').first().innerText()).toContain('Asia/Kathmandu');
  });
});
