import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { SETTINGS } from '../../src/config/config.ts';

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('the image has the Node that package.json names', async () => {
  const { dependencies } = JSON.parse(await read('package.json')) as {
    dependencies: { node: string };
  };
  expect(await read('Dockerfile')).toContain(`FROM node:${dependencies.node}-`);
});

test('the stand of containers runs commands that exist, and sets variables that are read', async () => {
  const compose = await read('docker-compose.yml');
  const main = await read('src/main.ts');
  const commands = [...compose.matchAll(/(?:command: \['|src\/main\.ts )(\w+)/g)].map(([, c]) => c);
  expect(commands).toEqual(['setup', 'migrate', 'api', 'worker']);
  for (const command of commands)
    expect(main).toMatch(new RegExp(`^ {2}${command ?? ''}: \\{`, 'm'));

  const others = /^(POSTGRES_PASSWORD|AWS_\w+)$/;
  const variables = [...compose.matchAll(/^ {6}([A-Z_]+):/gm)].map(([, name = '']) => name);
  const known = SETTINGS.map(({ name }): string => name);
  expect(known).toEqual(expect.arrayContaining(variables.filter((name) => !others.test(name))));
});
