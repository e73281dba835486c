import { defineConfig } from 'vitest/config';

/** One project per kind of test, so that each can be run alone: `npm run test:db`. */
function project(name: string, testTimeout: number) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      testTimeout,
      hookTimeout: 60_000,
    },
  };
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/global_setup.ts'],
    pool: 'forks',
    projects: [
      project('unit', 5_000),
      project('db', 15_000),
      project('api', 20_000),
      project('worker', 30_000),
      project('process', 120_000),
    ],
  },
});
