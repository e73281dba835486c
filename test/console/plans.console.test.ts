import { beforeAll, describe, expect, test } from 'vitest';
import type { Flag, Plan } from '../../src/schemas.ts';
import { inMinutes } from '../support/api.ts';
import { describeConsole, type WatchedPage } from '../support/console.ts';
import { adminToken } from '../support/tokens.ts';

/** The one after this one: all of it lies ahead. */
const YEAR = new Date().getUTCFullYear() + 1;
const BOB = adminToken({ userId: 'bob', email: 'bob@example.com' });

const change = (
  flag_key: string,
  updates: object,
  expects?: object,
  environment = 'production',
) => ({
  ...{ flag_key, environment, updates },
  ...(expects === undefined ? {} : { expects, on_conflict: 'suspend' }),
});

const dialogOf = (page: WatchedPage) => page.getByRole('dialog');
const formOf = (page: WatchedPage) => page.getByRole('form');
/** The fields of one of a plan's flags. */
const flagOf = (page: WatchedPage, number: number) =>
  page.getByRole('group', { name: `Flag ${number}`, exact: true });

describeConsole('plans', (site) => {
  beforeAll(async () => {
    await site.call('POST /api/admin/environments', { json: { name: 'staging' } });
    for (const [flag_key, environment] of [
      ...[['checkout', 'production'] as const, ['checkout', 'staging'] as const],
      ...[['search', 'production'] as const, ['banner', 'production'] as const],
    ])
      await site.call('POST /api/admin/flags', { json: { flag_key, environment } });
  });

  const make = async (title: string, changes: readonly object[], starts_at?: string) => {
    const { body } = await site.call('POST /api/admin/plans', {
      json: { title, starts_at, steps: [{ changes }] },
    });
    return body as unknown as Plan;
  };
  const find = async (id: string): Promise<Plan> =>
    (await site.call(`GET /api/admin/plans/${id}`)).body as unknown as Plan;
  const flag = async (key: string): Promise<Flag> =>
    (await site.call(`GET /api/admin/flags/${key}`)).body as unknown as Flag;
  const idOf = (page: WatchedPage): string => new URL(page.url()).pathname.split('/').at(-1) ?? '';
  const opened = (page: WatchedPage): Promise<void> => page.waitForURL(/\/plans\/[0-9a-f-]{36}/);

  describe.concurrent('on their pages', () => {
    test('the form tries a plan of two environments, guards it, keeps it, and saves it', async () => {
      const page = await site.open('/console/plans/new');
      await flagOf(page, 1).getByLabel('Flag', { exact: true }).fill('checkout');
      await flagOf(page, 1).getByText('At that instant: off → on').waitFor();
      await page.getByRole('button', { name: 'Add a flag' }).click();
      await flagOf(page, 2).getByLabel('Environment').selectOption('staging');
      await flagOf(page, 2).getByLabel('Flag', { exact: true }).fill('checkout');
      await flagOf(page, 2).getByRole('radio', { name: 'Set share' }).check({ force: true });
      await flagOf(page, 2).getByLabel('Share of users').fill('25');
      const tries = page.getByRole('list', { name: 'What the plan will do' });
      await tries.getByText('rollout 100% → 25%').waitFor();
      await page
        .getByText(/Tried at .* without changing anything: it writes \d+ events\./)
        .waitFor();
      // Nothing was changed by that, and what was typed outlasts a reload.
      expect(await flag('checkout')).toMatchObject({ enabled: false, revision: 1 });
      await page.reload();
      await tries.getByText('rollout 100% → 25%').waitFor();
      await formOf(page).getByRole('button', { name: 'Plan 2 flags' }).click();
      await formOf(page).getByText('What is it called?').waitFor();
      await formOf(page).getByLabel('Title').fill('Black Friday');
      await formOf(page).getByLabel('Date', { exact: true }).fill(`${YEAR}-11-26`);
      await formOf(page).getByLabel('Time', { exact: true }).fill('18:00');
      await formOf(page).getByLabel('Why').fill('OPS-881');
      await formOf(page)
        .getByRole('button', { name: /^Plan 2 flags for .* 18:00$/ })
        .click();
      await opened(page);
      await page.getByRole('heading', { name: 'Black Friday' }).waitFor();
      await page.getByText('2 flags change, all or none').waitFor();
      expect(await find(idOf(page))).toMatchObject({
        ...{ title: 'Black Friday', reason: 'OPS-881', starts_at: `${YEAR}-11-26T18:00:00.000Z` },
        steps: [
          {
            changes: [
              change('checkout', { enabled: true }, { enabled: false }),
              change(
                ...(['checkout', { enabled: true, rollout_percentage: 25 }] as const),
                ...([{ enabled: false, rollout_percentage: 100 }, 'staging'] as const),
              ),
            ],
          },
        ],
      });
      expect(page.faults).toEqual([]);
    });

    test('the list has what is open and what has ended, narrowed by the address', async () => {
      const plan = await make('Narrowed', [change('search', { enabled: true })], inMinutes(600));
      const page = await site.open('/console/plans?flag=search&status=active');
      const rows = page.getByRole('table', { name: 'Plans' }).getByRole('row');
      await rows.getByRole('link', { name: 'Narrowed' }).waitFor();
      expect(await rows.filter({ hasText: 'Black Friday' }).count()).toBe(0);
      await page.getByLabel('Status').selectOption('cancelled');
      await page.getByText('No plan matches.').waitFor();
      await site.call(`POST /api/admin/plans/${plan.id}/cancel`, { json: { reason: 'Too early' } });
      // The page follows the server.
      await rows.filter({ hasText: 'Narrowed' }).getByText('Cancelled').waitFor();
      await rows.getByRole('link', { name: 'Narrowed' }).click();
      await page.getByText('Cancelled: “Too early”').waitFor();
      expect(await page.getByRole('button', { name: /…/ }).allInnerTexts()).toEqual([
        expect.stringContaining('Pause all'),
      ]);
      expect(page.faults).toEqual([]);
    });

    test('an edit names who changed the plan meanwhile, and can keep its own', async () => {
      const plan = await make('Edited', [change('search', { enabled: true })], inMinutes(700));
      const page = await site.open(`/console/plans/${plan.id}/edit`);
      await formOf(page).getByLabel('Title').fill('Edited by alice');
      await site.call(`PATCH /api/admin/plans/${plan.id}`, {
        ...{ token: BOB, json: { title: 'Edited by bob' } },
      });
      await formOf(page)
        .getByRole('button', { name: /^Save 1 flag/ })
        .click();
      await page.getByText('Somebody changed it meanwhile').waitFor();
      await page.getByText(/bob@example\.com/).waitFor();
      expect((await find(plan.id)).title).toBe('Edited by bob');
      await page.getByRole('button', { name: 'Keep mine' }).click();
      await page.getByRole('heading', { name: 'Edited by alice' }).waitFor();
      // The change that was not touched is as it was: without a guard, and at its own time.
      expect(await find(plan.id)).toMatchObject({
        ...{ title: 'Edited by alice', starts_at: plan.starts_at, steps: plan.steps },
      });
    });

    test('several flags change now, and are taken back', async () => {
      const page = await site.open('/console/plans/new?flag=banner');
      await page.getByRole('radio', { name: 'Now' }).check({ force: true });
      await page.getByText('All flags change at once').waitFor();
      await page
        .getByRole('list', { name: 'What the plan will do' })
        .getByText('off → on')
        .waitFor();
      const button = formOf(page).getByRole('button', { name: 'Change 1 flag now' });
      await button.click();
      await formOf(page).getByText('That isn’t the environment’s name.').waitFor();
      expect((await flag('banner')).enabled).toBe(false);
      await formOf(page)
        .getByLabel(/^Type production/)
        .fill('production');
      await button.click();
      await opened(page);
      await page.getByText('1 flag changed, all in one transaction').waitFor();
      expect((await flag('banner')).enabled).toBe(true);
      const table = page.getByRole('table', { name: 'What it did' });
      await table.getByText('off → on').waitFor();
      const id = idOf(page);
      await page.getByRole('button', { name: 'Revert…' }).click();
      await dialogOf(page).getByText('on → off').waitFor();
      await dialogOf(page).getByLabel('Why').fill('It was slow');
      await dialogOf(page).getByRole('button', { name: 'Revert now' }).click();
      await page.waitForURL((url) => !url.pathname.includes(id));
      await page.getByText('1 flag changed, all in one transaction').waitFor();
      expect((await flag('banner')).enabled).toBe(false);
      expect(await find(idOf(page))).toMatchObject({
        ...{ status: 'completed', reverts: { plan_id: id }, reason: 'It was slow' },
      });
      // A try that meets the change itself finds its flags locked, and comes again.
      expect(page.faults.filter((fault) => !fault.includes('503'))).toEqual([]);
    });

    test('a suspended plan says what it found, and goes on with a reason alone', async () => {
      const { id } = await make('Too late', [
        change('search', { rollout_percentage: 40 }, { rollout_percentage: 7 }),
      ]);
      const page = await site.open(`/console/plans/${id}`);
      await page.getByText('A flag is not as this plan expects').waitFor();
      await page.getByText('rollout was 100%, and 7% was expected.').waitFor();
      await page.getByRole('button', { name: 'Resume…' }).click();
      const send = dialogOf(page).getByRole('button', { name: 'Set its flags now' });
      await send.click();
      await dialogOf(page).getByText('Why? The trail keeps it.').waitFor();
      await dialogOf(page).getByLabel('Why').fill('It is right so');
      await send.click();
      await page.getByText('1 flag changed, all in one transaction').waitFor();
      expect((await flag('search')).rollout_percentage).toBe(40);
      const events = page.getByRole('region', { name: 'In the trail' });
      await events.getByText('Change resumed').waitFor();
      // The flag's own history can take it back too.
      await page
        .getByRole('table', { name: 'What it did' })
        .getByRole('link', { name: 'search' })
        .click();
      await page.getByRole('button', { name: 'Revert… Set to 40%' }).click();
      await dialogOf(page).getByText('rollout 40% → 100%').waitFor();
      expect(page.faults).toEqual([]);
    });
  });
});
