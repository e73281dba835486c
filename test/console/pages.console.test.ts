import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { inMinutes } from '../support/api.ts';
import { isFull } from '../support/chaos/form.ts';
import {
  accessibilityProblems,
  describeConsole,
  type Site,
  type WatchedPage,
} from '../support/console.ts';
import { CHECKOUT } from '../support/processes.ts';
import { adminToken } from '../support/tokens.ts';

const MARKUP = '<img src=x onerror=alert(1)>';
const PAGES = {
  timeline: '/console/timeline',
  tonight: '/console/tonight',
  flags: '/console/flags',
  flag: '/console/flags/production/checkout-v2',
  schedule: '/console/flags?form=schedule',
  trail: '/console/trail',
  event: '/console/trail/EVENT',
  state: '/console/state',
  plans: '/console/plans?env=all',
  plan: '/console/plans/PLAN',
  // Not the edit of a plan: both would try the same flags at once, which locks them.
  'new-plan': '/console/plans/new',
  help: '/console/help',
} as const;

/** Flags and schedules, some by a person whose e-mail address is markup, as is the reason. */
async function fill(site: Site): Promise<void> {
  const token = adminToken({ userId: 'mallory', email: `${MARKUP}@example.com` });
  await site.call('POST /api/admin/environments', { json: { name: 'staging' } });
  for (const environment of ['production', 'staging'])
    await site.call('POST /api/admin/flags', { json: { flag_key: 'checkout-v2', environment } });
  await site.call('POST /api/admin/flags', {
    ...{ token, json: { flag_key: 'gift-cards', description: MARKUP, reason: MARKUP } },
  });
  const schedule = (minutes: number, key: string, updates: object) =>
    site.call(`POST /api/admin/flags/${key}/schedule`, {
      ...{ token, json: { scheduled_at: inMinutes(minutes), updates, reason: MARKUP } },
    });
  await schedule(180, 'checkout-v2', { enabled: true });
  await site.call('POST /api/admin/plans', {
    token,
    json: {
      ...{ title: MARKUP, starts_at: inMinutes(240), reason: MARKUP },
      steps: [
        {
          changes: ['production', 'staging'].map((environment) => ({
            ...{ flag_key: 'checkout-v2', environment, updates: { rollout_percentage: 50 } },
            ...{ expects: { rollout_percentage: 10 }, on_conflict: 'suspend' },
          })),
        },
      ],
    },
  });
  // Two at one instant.
  const at = inMinutes(200);
  for (const enabled of [true, false])
    await site.call('POST /api/admin/flags/gift-cards/schedule', {
      json: { scheduled_at: at, updates: { enabled } },
    });
}

/** The address with the latest event, and the latest plan. */
async function addressOf(site: Site, path: string): Promise<string> {
  const { body: events } = await site.call('GET /api/admin/audit/events?order=desc&limit=1');
  const { body: plans } = await site.call('GET /api/admin/plans?limit=1');
  const [event] = events as unknown as { eventId: string }[];
  const [plan] = plans as unknown as { id: string }[];
  return path.replace('EVENT', event?.eventId ?? '').replace('PLAN', plan?.id ?? '');
}

/** Waits until a page has asked for all that it shows. */
async function settle(page: WatchedPage): Promise<void> {
  // A dialog hides it from what has roles.
  await page.locator('h1').waitFor();
  await page.getByText('Connecting', { exact: true }).waitFor({ state: 'hidden' });
  await page.waitForLoadState('networkidle');
}

/** What is shown to whom. */
function describePeople(site: Site): void {
  /** Opens the pages as one person, and gives their text by name. */
  async function visit(as: 'viewer' | 'auditor' | 'bob'): Promise<Record<string, string>> {
    const first = await site.open(PAGES.timeline, { as });
    await settle(first);
    const texts: Record<string, string> = { timeline: await first.innerText('body') };
    const rest = Object.entries(PAGES).filter(([name]) => name !== 'timeline');
    const pages = await Promise.all(
      rest.map(
        async ([name, path]) =>
          [name, await site.openBeside(first, await addressOf(site, path))] as const,
      ),
    );
    for (const [name, page] of pages) {
      await settle(page);
      texts[name] = await page.innerText('body');
    }
    const all = [first, ...pages.map(([, page]) => page)];
    expect(all.flatMap(({ faults }) => faults)).toEqual([]);
    // Nothing is asked for that the API refuses.
    expect(all.flatMap(({ answers }) => answers).filter((one) => !one.startsWith('2'))).toEqual([]);
    const buttons = await Promise.all(
      all.map((page) => page.getByRole('button').or(page.getByRole('link')).allInnerTexts()),
    );
    texts.buttons = buttons.flat().join('\n');
    await first.context().close();
    return texts;
  }

  const CHANGING =
    /schedule a change|new (flag|plan)|move…|cancel( plan)?…|try again…|turn (on|off) now|change now|edit…|revert…|pause all/i;

  describe.concurrent('what is shown', () => {
    test('a viewer sees flags and times, and no person, reason, trail or button that changes', async () => {
      const { buttons = '', trail = '', ...texts } = await visit('viewer');
      expect(trail).toContain('This takes an admin or an auditor');
      expect(texts.timeline).toContain('checkout-v2');
      for (const text of Object.values(texts)) expect(text).not.toMatch(/mallory|alice|onerror/);
      expect(buttons).not.toMatch(CHANGING);
      expect(buttons).not.toMatch(/^(Trail|Plans)/m);
    });

    test('an auditor sees the trail with persons and reasons, and no button that changes', async () => {
      const { buttons = '', trail = '', plan = '' } = await visit('auditor');
      expect(trail).toContain(MARKUP);
      expect(plan).toContain('Asked by mallory');
      expect(plan).toContain(MARKUP);
      expect(buttons).toMatch(/^Trail/m);
      expect(buttons).not.toMatch(CHANGING);
    });

    test('an admin of one environment sees that one alone', async () => {
      const { buttons = '', timeline = '', flags = '' } = await visit('bob');
      expect(timeline + flags).toContain('staging');
      expect(timeline + flags).not.toMatch(/production|gift-cards/);
      expect(buttons).toMatch(CHANGING);
    });
  });
}

/** What is lower than a finger. Runs in the page: marks of a chart stand close to each other. */
const LOW_TARGETS = `
  [...document.querySelectorAll(':is(main, header, nav) :is(a, button):not(.vh, svg *)')]
    .filter((one) => one.offsetHeight > 0 && one.getBoundingClientRect().height < 43.5)
    .map((one) => one.textContent);`;

describeConsole('each page', (site) => {
  beforeAll(() => fill(site));
  describePeople(site);

  const looks = isFull()
    ? [{}, { dark: true }, { phone: true }, { phone: true, dark: true }]
    : [{}];

  describe.concurrent.each(looks)('%o', (look) => {
    test.each(Object.entries(PAGES))('%s keeps the rules', async (_name, path) => {
      const page = await site.open(await addressOf(site, path), look);
      await settle(page);
      expect(await accessibilityProblems(page)).toEqual([]);
      expect(page.faults).toEqual([]);
      expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
      if ('phone' in look) expect(await page.evaluate(LOW_TARGETS)).toEqual([]);
      expect(await page.locator('h1').count()).toBe(1);
      expect(await page.locator('img').count()).toBe(0);
      expect(page.answers.filter((answer) => !answer.startsWith('2'))).toEqual([]);
      await page.context().close();
    });

    test('sign-in keeps the rules', async () => {
      const page = await site.open('/console/flags', { ...look, as: null });
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      expect(await accessibilityProblems(page)).toEqual([]);
      expect(page.faults).toEqual([]);
      expect(new URL(page.url()).searchParams.get('to')).toBe('/console/flags');
      await page.context().close();
    });
  });

  test('a page of more environments than answers are kept shows all of them', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `team-${i}`);
    await Promise.all(
      names.map((name) => site.call('POST /api/admin/environments', { json: { name } })),
    );
    const page = await site.open('/console/timeline?env=all');
    await page.getByRole('link', { name: 'gift-cards', exact: true }).first().waitFor();
    await page.getByRole('combobox', { name: 'Environment' }).selectOption('team-7');
    await page.getByRole('heading', { name: 'No flags in team-7 yet' }).waitFor();
    expect(page.faults).toEqual([]);
  });

  test('what breaks the rules is noticed', async () => {
    const page = await site.open('/console/help');
    await settle(page);
    await page
      .evaluate(
        `document.body.append(
      Object.assign(new Image(), { src: 'http://127.0.0.1:1/x.png' }),
      Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = 1' }))`,
      )
      .catch(() => null);
    await page.evaluate(`document.body.innerHTML = '<b>x</b>'`).catch(() => null);
    await expect.poll(() => page.faults.join('\n')).toMatch(/policy: img-src/);
    expect(page.faults.join('\n')).toMatch(/policy: (require-trusted-types-for|script-src)/);
    expect(await page.evaluate('globalThis.ran')).toBeUndefined();
  });
});

describe('the files of the page', () => {
  const folder = join(CHECKOUT, 'console/dist');
  const assets = () => readdirSync(join(folder, 'assets'));
  const kB = (names: readonly string[]): number =>
    names.reduce((sum, name) => sum + statSync(join(folder, 'assets', `${name}.gz`)).size, 0) /
    1_000;

  test('are small', () => {
    const index = readFileSync(join(folder, 'index.html'), 'utf8');
    const first = [...index.matchAll(/assets\/([^"]+\.js)"/g)].map(([, name = '']) => name);
    const scripts = assets().filter((name) => name.endsWith('.js'));
    const styles = assets().filter((name) => name.endsWith('.css'));
    const sizes = { first: kB(first), all: kB(scripts), styles: kB(styles) };
    process.stdout.write(
      `console: ${sizes.first.toFixed(1)} kB of JavaScript at first, ${sizes.all.toFixed(1)} kB in all, ${sizes.styles.toFixed(1)} kB of CSS, gzipped\n`,
    );
    expect(first.length).toBeGreaterThan(0);
    expect(sizes.first).toBeLessThanOrEqual(45);
    expect(sizes.all).toBeLessThanOrEqual(110);
    expect(sizes.styles).toBeLessThanOrEqual(8);
    expect(index.length).toBeLessThanOrEqual(2_000);
  });
});
