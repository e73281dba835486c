import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Where Debian puts the server's programs, which aren't on the PATH. */
export const POSTGRES_BINARIES = '/usr/lib/postgresql/15/bin';

/** Debian puts servers where an ordinary user's PATH doesn't lead. */
export const PROGRAM_PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;

/** What to run to have all of it on Debian 12. */
const INSTALL =
  'apt-get install --no-install-recommends patroni etcd-server etcd-client haproxy pgbouncer postgresql-15 python3-etcd python3-psycopg2';

/** Each program, the package that brings it, and how it is asked for its version. */
const PROGRAMS = [
  { package: 'patroni', ask: ['patroni', '--version'] },
  { package: 'etcd-server', ask: ['etcd', '--version'] },
  { package: 'haproxy', ask: ['haproxy', '-v'] },
  { package: 'pgbouncer', ask: ['pgbouncer', '--version'] },
  { package: 'postgresql-15', ask: [`${POSTGRES_BINARIES}/postgres`, '--version'] },
  { package: 'util-linux', ask: ['setpriv', '--version'] },
] as const;

/** Python's modules that Patroni imports only when it needs them. */
const MODULES = [
  { package: 'python3-etcd', module: 'etcd' },
  { package: 'python3-psycopg2', module: 'psycopg2' },
] as const;

/**
 * The versions of the programs that the cluster is made of, a line each.
 *
 * @throws Error that names the missing packages, and how they are installed
 */
export function requirePackages(): string[] {
  if (process.platform !== 'linux') throw new Error('The cluster of this test runs on Linux only.');
  const asked = PROGRAMS.map(({ package: name, ask: [program, ...args] }) => {
    const { stdout } = spawnSync(program, args, {
      encoding: 'utf8',
      env: { PATH: PROGRAM_PATH },
    });
    return { name, version: (stdout as string | null)?.split('\n')[0] ?? null };
  });
  const missing = [
    ...asked.filter(({ version }) => version === null).map(({ name }) => name),
    ...MODULES.filter(({ module }) => !hasModule(module)).map(({ package: name }) => name),
  ];
  if (missing.length > 0)
    throw new Error(
      `npm run test:ha needs Debian packages that are missing: ${missing.join(', ')}. On Debian 12, as root: ${INSTALL}`,
    );
  return asked.map(({ version }) => version ?? '');
}

/** Asked of the Python that runs Debian's Patroni. */
function hasModule(name: string): boolean {
  const python = '/usr/bin/python3';
  return (
    existsSync(python) &&
    spawnSync(python, ['-c', `import ${name}`], { stdio: 'ignore' }).status === 0
  );
}
