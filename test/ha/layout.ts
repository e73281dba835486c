import { randomBytes } from 'node:crypto';
import { chown, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { User } from './daemon.ts';
import { POSTGRES_BINARIES } from './packages.ts';
import { findFreePorts } from './ports.ts';

/** The folder, the ports and the password of a cluster. */
export interface Layout {
  /** Of the user who runs the servers, closed to others. */
  readonly folder: string;
  /** Of every login. */
  readonly password: string;
  readonly ports: Readonly<Record<'haproxy' | 'pgbouncer' | 'etcd' | 'etcdPeers', number>>;
  /** The nodes' ports, PostgreSQL's and that of Patroni's REST API. */
  readonly nodes: readonly { readonly postgres: number; readonly rest: number }[];
  /** Makes a folder in it; gives its path. */
  makeFolder(name: string): Promise<string>;
  /** Writes a file into it that only its user reads; gives its path. */
  write(name: string, text: string): Promise<string>;
  /**
   * Writes a file of `config/` into it, with what stands in `${…}` put in; gives its path.
   *
   * @param more values of this file alone
   */
  configure(template: string, name: string, more?: Values): Promise<string>;
  /** The end of each log in it. */
  logs(): Promise<string>;
  remove(): Promise<void>;
}

type Values = Readonly<Record<string, string | number>>;

const CONFIG = new URL('./config/', import.meta.url);
const NODES = 3;
/** Patroni's are a folder deeper; PostgreSQL's log goes to Patroni's. */
const LOG = /^(pg\d\/)?\w+\.log$/;
const LOG_CHARACTERS = 2_000;

/** Makes the folder, and draws ports that are free now. */
export async function makeLayout(user: User | null): Promise<Layout> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-ha-'));
  const own = (path: string) => (user === null ? undefined : chown(path, user.uid, user.gid));
  await own(folder);
  const all = await findFreePorts(4 + 2 * NODES);
  const [haproxy = 0, pgbouncer = 0, etcd = 0, etcdPeers = 0, ...rest] = all;
  const nodes = Array.from({ length: NODES }, (_, i) => ({
    postgres: rest[2 * i] ?? 0,
    rest: rest[2 * i + 1] ?? 0,
  }));
  const password = randomBytes(12).toString('hex');
  const values: Values = {
    ...{ FOLDER: folder, BINARIES: POSTGRES_BINARIES, PASSWORD: password },
    ...{ ETCD_PORT: etcd, HAPROXY_PORT: haproxy, PGBOUNCER_PORT: pgbouncer },
    ...Object.fromEntries(nodes.map((node, i) => [`POSTGRES_PORT_${i + 1}`, node.postgres])),
    ...Object.fromEntries(nodes.map((node, i) => [`REST_PORT_${i + 1}`, node.rest])),
  };

  async function write(name: string, text: string): Promise<string> {
    const path = join(folder, name);
    await writeFile(path, text, { mode: 0o600 });
    await own(path);
    return path;
  }

  return {
    folder,
    password,
    ports: { haproxy, pgbouncer, etcd, etcdPeers },
    nodes,
    write,
    async makeFolder(name) {
      const path = join(folder, name);
      await mkdir(path, { mode: 0o700 });
      await own(path);
      return path;
    },
    async configure(template, name, more = {}) {
      const text = await readFile(new URL(template, CONFIG), 'utf8');
      const given = { ...values, ...more };
      const value = (_: string, key: string) => String(given[key]);
      return write(name, text.replaceAll(/\$\{(\w+)\}/g, value));
    },
    async logs() {
      const files = (await readdir(folder, { recursive: true })).filter((name) => LOG.test(name));
      const ends = files.map(async (name) => {
        const text = await readFile(join(folder, name), 'utf8');
        return `--- ${name}\n${text.slice(-LOG_CHARACTERS)}`;
      });
      return (await Promise.all(ends)).join('\n');
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
