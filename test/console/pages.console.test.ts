import { beforeAll, expect, test } from 'vitest';
import { inMinutes } from '../support/api.ts';
import { accessibilityProblems, describeConsole } from '../support/console.ts';

describeConsole('each page', (site) => {
  beforeAll(async () => {
    await site.call('POST /api/admin/flags', { json: { flag_key: 'checkout-v2' } });
    await site.call('POST /api/admin/flags/checkout-v2/schedule', {
      json: { scheduled_at: inMinutes(180), updates: { enabled: true }, reason: 'OPS-881' },
    });
  });

  test.each(['/console/timeline', '/console/help'])('%s keeps the rules', async (path) => {
    const page = await site.open(path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await page.getByText('Live').waitFor();
    expect(await accessibilityProblems(page)).toEqual([]);
    expect(page.faults).toEqual([]);
    await page.screenshot({ path: `/tmp/w15/t-${path.replaceAll('/', '_')}.png` });
  });
});
