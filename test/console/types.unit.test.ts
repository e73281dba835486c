import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { CHECKOUT } from '../support/processes.ts';

const COMMITTED = 'console/src/data/graphql_schema.d.ts';

test('the types of the page are those of schema/halyard.graphql; npm run schema writes them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-test-'));
  try {
    const output = join(folder, 'types.d.ts');
    const command = 'node_modules/gql.tada/bin/cli.js';
    const options = ['generate-output', '--tsconfig', 'console/tsconfig.json', '--output', output];
    await promisify(execFile)(process.execPath, [command, ...options], { cwd: CHECKOUT });
    const [made, committed] = await Promise.all(
      [output, join(CHECKOUT, COMMITTED)].map((file) => readFile(file, 'utf8')),
    );
    // No diff of the two: a line is as long as a type.
    expect(made === committed, `run \`npm run schema\` and commit ${COMMITTED}`).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
});
