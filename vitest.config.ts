import { defineConfig } from 'vitest/config';

/** One project per kind of test, so that each can be run alone: `npm run test:db`. */
function project(name: string, test: { testTimeout: number; alone?: number }) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      testTimeout: test.testTimeout,
      hookTimeout: 60_000,
      // Whole processes are started and killed, and how late a schedule is applied is looked at: that wants the machine alone.
      ...(test.alone === undefined
        ? { sequence: { groupOrder: 0 }, maxWorkers: 3 }
        : { sequence: { groupOrder: test.alone }, fileParallelism: false, maxWorkers: 1 }),
    },
  };
}

export default defineConfig(({ mode }) => ({
  test: {
    globalSetup: ['test/support/global_setup.ts'],
    pool: 'forks',
    // `--mode full`: the chaos tests in their long form.
    provide: { chaosForm: mode === 'full' ? 'full' : 'short' },
    projects: [
      project('unit', { testTimeout: 10_000 }),
      project('db', { testTimeout: 20_000 }),
      project('api', { testTimeout: 20_000 }),
      project('worker', { testTimeout: 30_000 }),
      project('process', { testTimeout: 120_000, alone: 1 }),
      project('chaos', { testTimeout: 600_000, alone: 2 }),
    ],
  },
}));
