import { mkdir, mkdtemp, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium as playwright, type Browser, type Page } from 'playwright-core';
import { findChromium } from '../support/chromium.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { startProcess } from '../support/processes.ts';

// Writes a picture of each page of the console, with the demo behind it, in the light, in the dark and on a phone:
// `npm run console:pictures [-- FOLDER]`. Look at each beside its drawing. `TOKEN=… npm run console:pictures FOLDER URL` takes those of
// a Halyard that runs, for an admin's token.

/** By the name of the picture. */
const PAGES = {
  timeline: '/console/timeline?tz=Europe/Paris&span=24h',
  timeline_soon: '/console/timeline?tz=Europe/Paris&span=30m',
  tonight: '/console/tonight?tz=Europe/Paris',
  flags: '/console/flags?tz=Europe/Paris',
  flag: '/console/flags/production/checkout-v2?tz=Europe/Paris',
  schedule: '/console/flags?form=schedule&tz=Europe/Paris',
  trail: '/console/trail?tz=Europe/Paris',
  state: '/console/state?tz=Europe/Paris',
  help: '/console/help',
  sign_in: '/console/sign-in',
} as const;

const FORMS = {
  light: { viewport: { width: 1440, height: 900 }, colorScheme: 'light' },
  dark: { viewport: { width: 1440, height: 900 }, colorScheme: 'dark' },
  /** For the README: 150 kB at most. */
  small: { viewport: { width: 1240, height: 700 }, colorScheme: 'light' },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: 'light', hasTouch: true },
} as const;

const [given, running] = process.argv.slice(2);
const folder = resolve(given ?? (await mkdtemp(join(tmpdir(), 'halyard-pictures-'))));
await mkdir(folder, { recursive: true });
if (running === undefined) await withDemo(takeAll);
else await takeAll(running, process.env.TOKEN ?? '');
process.stdout.write(`${folder}\n`);

async function withDemo(work: (url: string, token: string) => Promise<void>): Promise<void> {
  const dataDir = await makeDataDir();
  const halyard = startProcess('node', ['src/main.ts', 'start', '--demo'], {
    env: { PORT: '0', HALYARD_DATA_DIR: join(dataDir, 'data') },
  });
  try {
    const [, url = ''] = await halyard.waitFor(/REST\s+(http:\/\/\S+)\/api/, 90_000);
    const [, token = ''] = await halyard.waitFor(/export ALICE=(\S+)/);
    process.stdout.write('The demo goes on for a minute and a half first.\n');
    // By then one change has failed, and the release of three flags has come.
    await halyard.waitFor(/"flag_schedule\.failed"/, 180_000);
    await halyard.waitFor(/"feature_flag\.updated".*"reason": "Black Friday"/, 180_000);
    await work(url, token);
  } finally {
    await halyard.end();
    const cluster = await realpath(join(dataDir, 'data-demo', 'postgres')).catch(() => dataDir);
    await removeDataDir(dataDir, cluster);
  }
}

async function takeAll(url: string, token: string): Promise<void> {
  const chromium = await findChromium();
  const browser = await playwright.launch({
    ...{ executablePath: chromium.path, chromiumSandbox: false, args: ['--disable-gpu'] },
    env: { ...chromium.env, HOME: folder },
  });
  try {
    for (const form of Object.keys(FORMS) as (keyof typeof FORMS)[])
      await takeForm(browser, { url, token, form });
  } finally {
    await browser.close();
    await chromium.remove();
  }
}

interface Taking {
  readonly url: string;
  readonly token: string;
  readonly form: keyof typeof FORMS;
}

async function takeForm(browser: Browser, { url, token, form }: Taking): Promise<void> {
  const context = await browser.newContext({ ...FORMS[form], locale: 'en-GB' });
  await context.request.post(`${url}/console/session`, {
    data: { token },
    headers: { 'X-Halyard-Console': '1', Origin: url },
  });
  const page = await context.newPage();
  for (const [name, path] of Object.entries(PAGES)) {
    if (name === 'sign_in') await context.clearCookies();
    await page.goto(url + path, { waitUntil: 'networkidle' });
    if (form !== 'phone') await choose(page, name);
    await page.screenshot({ path: join(folder, `${name}-${form}.png`) });
  }
  await context.close();
}

/** Opens what a page shows only when it is asked for. */
async function choose(page: Page, name: string): Promise<void> {
  if (name === 'timeline_soon')
    await page
      .getByRole('row', { name: /Pending/ })
      .getByRole('link')
      .first()
      .click();
  if (name === 'trail') await page.locator('.events a').nth(2).click();
  // What it asks for then.
  await page.waitForTimeout(1_000);
  await page.evaluate('scrollTo(0, 0)');
}
