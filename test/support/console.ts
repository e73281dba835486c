import { readFileSync } from 'node:fs';
import axe from 'axe-core';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, vi } from 'vitest';
import { destinationsOf } from '../../src/audit/delivery/sinks/index.ts';
import { loadConfig } from '../../src/config/config.ts';
import { makeGraphql } from '../../src/graphql/index.ts';
import { isErrno } from '../../src/lib/errno.ts';
import { startWorker } from '../../src/worker/runner.ts';
import type { BrowserState } from '../console/global_setup.ts';
import { startTestApi, type Answer, type Call, type TestApi } from './api.ts';
import { cloneDatabase, type TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import { adminToken, auditorToken, viewerToken } from './tokens.ts';
import { makeMemorySink } from './worker.ts';

/** Who a page is opened as. */
export const TOKENS = {
  admin: () => adminToken(),
  viewer: () => viewerToken(),
  auditor: () => auditorToken(),
  /** An admin of staging alone. */
  bob: () => adminToken({ userId: 'bob', email: 'bob@example.com', environments: ['staging'] }),
} as const;

export type Who = keyof typeof TOKENS;

interface Opened {
  /** By default alice, an admin of all environments. Null: no one is signed in. */
  readonly as?: Who | null;
  /** The browser's own zone; by default UTC. */
  readonly zone?: string;
  readonly dark?: boolean;
  /** 390 by 844 pixels, with touch. */
  readonly phone?: boolean;
  /** Another address of the API, as a proxy's. */
  readonly at?: string;
}

/** The product with its worker and the built page, in one process with the tests, and a browser that is open on it. */
export interface Site {
  readonly url: string;
  readonly database: TestDatabase;
  /** Sends a request to the API as alice, unless the call has a token. */
  readonly call: (target: string, call?: Call) => Promise<Answer>;
  /** A page in a browser's context of its own, which is closed at the end of the file. */
  readonly open: (path: string, opened?: Opened) => Promise<WatchedPage>;
  /** A second tab of the same context. */
  readonly openBeside: (page: WatchedPage, path: string) => Promise<WatchedPage>;
}

/** A page, and what it has done that it must not. */
export interface WatchedPage extends Page {
  readonly faults: string[];
  /** Answers of the API, as `403 POST /graphql`. */
  readonly answers: string[];
}

const state: BrowserState = await browserState();

/** Waits until global_setup.ts has written it. */
async function browserState(): Promise<BrowserState> {
  const read = (): BrowserState | null => {
    try {
      return JSON.parse(readFileSync(inject('browserFile'), 'utf8')) as BrowserState;
    } catch (error) {
      if (isErrno(error) && error.code === 'ENOENT') return null;
      throw error;
    }
  };
  return vi.waitUntil(read, { timeout: 180_000, interval: 50 });
}

/** Tests on a site of their own. Skipped where no browser runs, which the run has said then. */
export function describeConsole(name: string, tests: (site: Site) => void): void {
  describe.skipIf('reason' in state)(name, () => {
    let running: Running | undefined;
    beforeAll(async () => {
      running = await startSite();
    });
    afterAll(async () => {
      await running?.close();
    });
    const current = (): Running => {
      if (running === undefined) throw new Error('The site exists only inside tests.');
      return running;
    };
    tests({
      get url() {
        return current().url;
      },
      get database() {
        return current().database;
      },
      call: (...call) => current().call(...call),
      open: (...opened) => current().open(...opened),
      openBeside: (...opened) => current().openBeside(...opened),
    });
  });
}

type Running = Site & { readonly close: () => Promise<void> };

async function startSite(): Promise<Running> {
  if (!('endpoint' in state)) throw new Error('error' in state ? state.error : state.reason);
  const { endpoint } = state;
  await using starting = new AsyncDisposableStack();
  const database = await cloneDatabase();
  starting.defer(() => database.drop());
  const api = await startTestApi(database.authenticatorUrl, { makeGraphql });
  starting.defer(() => api.close());
  const worker = await startQuietWorker(database);
  starting.defer(() => worker.stop());
  const browser = await chromium.connect(endpoint);
  starting.defer(() => browser.close());
  const all = starting.move();
  const openBeside = (page: Page, path: string): Promise<WatchedPage> =>
    openPage(page.context(), new URL(page.url()).origin, path);
  return {
    ...{ url: api.url, database, openBeside },
    call: (target, call) => api.call(target, { token: TOKENS.admin(), ...call }),
    async open(path, opened = {}) {
      const context = await openContext(browser, api, opened);
      return openPage(context, opened.at ?? api.url, path);
    },
    close: () => all.disposeAsync(),
  };
}

function startQuietWorker(database: TestDatabase) {
  const config = loadConfig({ NODE_ENV: 'test' }, 'worker');
  const [destination = ''] = destinationsOf(config);
  return startWorker({
    ...{ config, databaseUrl: database.workerUrl, log: makeTestLog().log },
    destinations: [{ destination, sink: makeMemorySink() }],
  });
}

async function openContext(browser: Browser, api: TestApi, opened: Opened) {
  const { as = 'admin', zone = 'UTC', dark = false, phone = false, at = api.url } = opened;
  const context = await browser.newContext({
    ...{ timezoneId: zone, locale: 'en-GB', colorScheme: dark ? 'dark' : 'light' },
    ...(phone
      ? { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }
      : { viewport: { width: 1440, height: 900 } }),
    acceptDownloads: true,
  });
  if (as === null) return context;
  const answer = await context.request.post(`${at}/console/session`, {
    data: { token: TOKENS[as]() },
    headers: { 'X-Halyard-Console': '1', Origin: at },
  });
  expect(answer.status()).toBe(201);
  return context;
}

/** Runs in the page: the tests have no types of the DOM. */
const NOTE_VIOLATIONS = `
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
    noteViolation(violatedDirective + ' ' + blockedURI);
  });`;

/** Opens a page, and notes what it must not do: errors, violations of the policy, requests to another host. */
async function openPage(context: BrowserContext, origin: string, path: string) {
  const page = await context.newPage();
  const faults: string[] = [];
  const answers: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith('blob:'))
      faults.push(`request: ${url.slice(0, 200)}`);
  });
  page.on('response', (response) => {
    const { pathname } = new URL(response.url());
    answers.push(`${response.status()} ${response.request().method()} ${pathname}`);
  });
  await page.exposeFunction('noteViolation', (what: string) => faults.push(`policy: ${what}`));
  await page.addInitScript({ content: NOTE_VIOLATIONS });
  await page.goto(origin + path);
  return Object.assign(page, { faults, answers });
}

/** What axe finds wrong with a page, as `rule: elements`. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const options: axe.RunOptions = {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  };
  const { violations } = await page.evaluate<axe.AxeResults>(`axe.run(${JSON.stringify(options)})`);
  return violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(' ')).join(', ')}`,
  );
}
