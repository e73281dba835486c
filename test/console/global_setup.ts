import { execFile } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium as playwright, type BrowserServer } from 'playwright-core';
import type { TestProject } from 'vitest/node';
import { findChromium, NoBrowserError, type Chromium } from '../support/chromium.ts';
import { CHECKOUT } from '../support/processes.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The file in which it stands what the browser has come to, once it has: BrowserState as JSON. */
    browserFile: string;
  }
}

/** Where the browser is, or why there is none, or why its tests can't be right. */
export type BrowserState =
  { readonly endpoint: string } | { readonly reason: string } | { readonly error: string };

/**
 * Builds the page where a source has changed since the last build, and starts one browser for all files. Other tests don't wait for
 * it: they run meanwhile.
 */
export default async function globalSetup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-browser-'));
  const file = join(folder, 'state.json');
  project.provide('browserFile', file);
  const starting = startBrowser(folder);
  starting.catch(() => undefined);
  const ready = buildPage()
    .then(() => starting)
    .then(
      ({ server }): BrowserState => ({ endpoint: server.wsEndpoint() }),
      (error: unknown): BrowserState =>
        error instanceof NoBrowserError
          ? { reason: error.message }
          : { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    );
  const written = ready.then(async (state) => {
    if ('reason' in state)
      process.stdout.write(`The tests of the console are skipped. ${state.reason}\n`);
    await writeFile(`${file}.new`, JSON.stringify(state));
    await rename(`${file}.new`, file);
  });
  return async () => {
    await written;
    const browser = await starting.catch(() => null);
    await browser?.server.close();
    await browser?.chromium.remove();
    await rm(folder, { recursive: true, force: true });
  };
}

interface Browser {
  readonly server: BrowserServer;
  readonly chromium: Chromium;
}

async function startBrowser(home: string): Promise<Browser> {
  const chromium = await findChromium();
  try {
    const server = await playwright.launchServer({
      executablePath: chromium.path,
      // It loads the page of this checkout alone, and containers rarely allow a sandbox.
      chromiumSandbox: false,
      // Letters at whole pixels differ with the machine.
      args: ['--font-render-hinting=none', '--disable-gpu'],
      env: { ...chromium.env, HOME: home },
      host: '127.0.0.1',
      timeout: 120_000,
    });
    return { server, chromium };
  } catch (error) {
    await chromium.remove();
    throw new NoBrowserError(`${chromium.path} doesn’t start here: ${String(error)}`);
  }
}

/** `npm ci` has built it: this builds what has changed since. */
async function buildPage(): Promise<void> {
  await promisify(execFile)(process.execPath, ['scripts/prepare.mjs', '--if-stale'], {
    cwd: CHECKOUT,
  });
}
