import { spawn, type ChildProcess } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { settlesWithin } from '../lib/wait.ts';
import type { Logger } from '../lib/log.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));

/** How long a page waits for a build, in milliseconds: that takes a second, and several on a busy machine. */
const PATIENCE_MS = 15_000;

const MISSING =
  'In Halyard’s folder, run <code>npm install &amp;&amp; npm run prepare</code>, then load this page again.';
const BUILDING = 'It is being built: load this page again in a few seconds.';
const FAILED =
  'Building it failed, and the log of the API says why. Mend that, run <code>npm run prepare</code>, then load this page again.';

/** How a build ends that was asked to: before it listens for signals, and afterwards. */
const INTERRUPTED = ['SIGINT', 'SIGTERM', 130] as const;

/** The build of the console's files. */
export interface Build {
  /** Begins to build what is stale, in another process, where that is wanted; at once and without an error. */
  begin(): void;
  /** Resolves once a build that runs has ended, or after some seconds. */
  settled(): Promise<void>;
  /** What to do about files that aren't there, as HTML. */
  problem(): string;
  /** Ends the other process. */
  close(): Promise<void>;
}

/** Of an installation: what isn't built stays so. */
export const NO_BUILD: Build = {
  begin: () => undefined,
  settled: () => Promise.resolve(),
  problem: () => MISSING,
  close: () => Promise.resolve(),
};

/**
 * Of a checkout in development: scripts/prepare.mjs runs once, in a process of its own, and builds if a source has changed.
 *
 * @param checkout the folder; by default the one of this code
 */
export function makeBuild(log: Logger, checkout = CHECKOUT): Build {
  let child: ChildProcess | undefined;
  let running: Promise<void> | undefined;
  let state: 'missing' | 'building' | 'failed' = 'missing';

  async function run(): Promise<void> {
    state = 'building';
    child = spawn(process.execPath, ['scripts/prepare.mjs', '--if-stale'], {
      cwd: checkout,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { stdout, stderr } = child;
    const ended = new Promise<number | Error | NodeJS.Signals | null>((resolve) => {
      child?.once('error', resolve).once('close', (code, signal) => resolve(code ?? signal));
    });
    const read = (stream: typeof stdout) => (stream === null ? '' : text(stream));
    const [status, ...said] = await Promise.all([ended, read(stdout), read(stderr)]);
    const output = status instanceof Error ? status.message : said.join('').trim();
    state = status === 0 ? 'missing' : 'failed';
    // Ctrl-C in a terminal reaches this process and that one.
    if (child.killed || INTERRUPTED.some((one) => one === status)) return;
    if (status !== 0) log.warn({ output }, 'the console could not be built');
    else if (output !== '') log.info({ output }, 'the console’s build');
  }

  return {
    begin: () => void (running ??= run()),
    async settled() {
      this.begin();
      await settlesWithin(PATIENCE_MS, running ?? Promise.resolve());
    },
    problem: () => ({ missing: MISSING, building: BUILDING, failed: FAILED })[state],
    async close() {
      child?.kill();
      await running;
    },
  };
}
