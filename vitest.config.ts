import { defineConfig } from 'vitest/config';

/** One project per kind of test, so that each can be run alone: `npm run test:db`. */
function project(name: string, test: { testTimeout: number; alone?: boolean }) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      testTimeout: test.testTimeout,
      hookTimeout: 60_000,
      // Whole processes are started and killed, and how late a schedule is applied is looked at: that wants the machine alone.
      ...(test.alone === true
        ? { sequence: { groupOrder: 1 }, fileParallelism: false, maxWorkers: 1 }
        : { sequence: { groupOrder: 0 }, maxWorkers: 3 }),
    },
  };
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/global_setup.ts'],
    pool: 'forks',
    projects: [
      project('unit', { testTimeout: 10_000 }),
      project('db', { testTimeout: 20_000 }),
      project('api', { testTimeout: 20_000 }),
      project('worker', { testTimeout: 30_000 }),
      project('process', { testTimeout: 120_000, alone: true }),
    ],
  },
});
