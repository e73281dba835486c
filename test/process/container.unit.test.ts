import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeProgram } from '../../src/cli/program.ts';
import { SETTINGS } from '../../src/config/settings.ts';

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('the image has the Node that package.json names', async () => {
  const { dependencies } = JSON.parse(await read('package.json')) as {
    dependencies: { node: string };
  };
  expect(await read('Dockerfile')).toContain(`FROM node:${dependencies.node}-`);
});

test('the stand of containers runs commands that exist, and sets variables that are read', async () => {
  const compose = await read('docker-compose.yml');
  const known = makeProgram().commands.map((command) => command.name());
  const commands = [...compose.matchAll(/(?:command: \['|src\/main\.ts )(\w+)/g)].map(([, c]) => c);
  expect(commands).toEqual(['setup', 'migrate', 'api', 'worker']);
  expect(known).toEqual(expect.arrayContaining(commands));

  const others = /^(POSTGRES_PASSWORD|AWS_\w+)$/;
  const variables = [...compose.matchAll(/^ {6}([A-Z_]+):/gm)].map(([, name = '']) => name);
  const settings = Object.keys(SETTINGS);
  expect(settings).toEqual(expect.arrayContaining(variables.filter((name) => !others.test(name))));
});
