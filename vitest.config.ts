import { defineConfig } from 'vitest/config';
import { COMPILE_CACHE } from './test/support/compile_cache.ts';
import { ProjectSequencer } from './test/support/sequencer.ts';

// Before the first of Vitest's processes is started, which inherit it.
Object.assign(process.env, COMPILE_CACHE);

interface Kind {
  readonly testTimeout: number;
  readonly hookTimeout?: number;
  /** Its files; by default those whose name ends in its name, as `rest.api.test.ts`. */
  readonly include?: string[];
  readonly exclude?: string[];
  /** Runs behind all of a lower number; 0 by default. */
  readonly order?: number;
  /** Files at a time. */
  readonly workers?: number;
  /** Milliseconds that a condition has to come true. */
  readonly deadline?: number;
  /** Runs before its files, where any of them runs. */
  readonly globalSetup?: string[];
}

/** How late a schedule is applied is looked at here: that wants the machine alone. */
const ALONE = ['test/process/lateness.process.test.ts'];

/** One project per kind of test, so that each can be run alone: `npm run test:db`. */
function project(name: string, kind: Kind) {
  const { include = [`test/**/*.${name}.test.ts`], exclude = [], order = 0, workers = 4 } = kind;
  const { hookTimeout = 60_000, deadline = 10_000, globalSetup = [] } = kind;
  return {
    extends: true as const,
    test: {
      name,
      globalSetup,
      include,
      exclude,
      testTimeout: kind.testTimeout,
      hookTimeout,
      // A deadline and not an expectation: the machine may be busy.
      expect: { poll: { timeout: deadline } },
      sequence: { groupOrder: order },
      maxWorkers: workers,
      // A process runs one file after the other: a process for each takes a quarter of the processor time, most of it importing. So
      // each file ends what it has begun.
      isolate: false,
    },
  };
}

/** `--mode ha` (npm run test:ha): a cluster of Debian's packages, which most machines lack, so no part of `vitest run`. */
const highAvailability = {
  test: {
    globalSetup: ['test/ha/global_setup.ts'],
    pool: 'forks' as const,
    projects: [project('ha', { testTimeout: 300_000, hookTimeout: 180_000, workers: 1 })],
  },
};

const everything = (mode: string) => ({
  test: {
    globalSetup: ['test/support/global_setup.ts'],
    pool: 'forks' as const,
    sequence: { sequencer: ProjectSequencer },
    // `--mode full` (npm run test:long): the long forms.
    provide: { chaosForm: mode === 'full' ? ('full' as const) : ('short' as const) },
    projects: [
      project('unit', { testTimeout: 10_000 }),
      project('db', { testTimeout: 20_000 }),
      project('api', { testTimeout: 20_000 }),
      project('worker', { testTimeout: 30_000 }),
      project('process', { testTimeout: 120_000, exclude: ALONE }),
      project('alone', { testTimeout: 120_000, include: ALONE, order: 2, workers: 1 }),
      // A server of each supported version before the one of the other tests, one after the other.
      project('versions', { testTimeout: 60_000 }),
      // In a browser, which is started while the first tests run.
      project('console', {
        ...{ testTimeout: 120_000, deadline: 20_000 },
        globalSetup: ['test/console/global_setup.ts'],
      }),
      // Each has several processes under load of its own; the long form gives every one of its moments the whole machine.
      project('chaos', { testTimeout: 600_000, order: 1, workers: mode === 'full' ? 1 : 3 }),
    ],
  },
});

export default defineConfig(({ mode }) => (mode === 'ha' ? highAvailability : everything(mode)));
