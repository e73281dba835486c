import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildSchema, parse, validate } from 'graphql';
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

test('every document of the page is one of the schema', async () => {
  const schema = buildSchema(await readFile(join(CHECKOUT, 'schema/halyard.graphql'), 'utf8'));
  const sources = join(CHECKOUT, 'console/src');
  const files = (await readdir(sources, { recursive: true })).filter((name) =>
    /\.tsx?$/.test(name),
  );
  const problems: string[] = [];
  let documents = 0;
  for (const name of files)
    for (const [, text = ''] of (await readFile(join(sources, name), 'utf8')).matchAll(
      /graphql\(`([^`]*)`\)/g,
    )) {
      documents += 1;
      for (const { message } of validate(schema, parse(text))) problems.push(`${name}: ${message}`);
    }
  expect(problems).toEqual([]);
  expect(documents).toBeGreaterThan(20);
});
