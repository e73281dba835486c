import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { loginUrl } from '../support/migrated.ts';
import { startDaemon } from './daemon.ts';
import type { User } from './daemon.ts';
import { makeLayout } from './layout.ts';
import type { Layout } from './layout.ts';
import { makeNode } from './node.ts';
import type { Node } from './node.ts';
import { command, findLeader, readMembers } from './patroni.ts';

/** Three PostgreSQL servers under Patroni, with one etcd, HAProxy before them, and PgBouncer before HAProxy. */
export interface Cluster extends AsyncDisposable {
  /** An administrator's URL, by way of HAProxy. */
  readonly rootUrl: string;
  /** Of every login. */
  readonly password: string;
  /** The same login and database, by way of PgBouncer. */
  throughPgbouncer(url: string): string;
  /** An administrator's URL, straight to a node. */
  urlOf(node: Node): string;
  /** The node that Patroni calls the primary. */
  primary(): Promise<Node>;
  /** Waits until all three run, the standbys have caught up, and, if commits wait for a standby, one is named for it. */
  whole(): Promise<void>;
  /** Asks Patroni for another primary. */
  switchOver(): Promise<void>;
  /** Changes Patroni's configuration of the cluster. */
  configure(changes: Readonly<Record<string, unknown>>): Promise<void>;
  /** The end of each server's log, for a failure. */
  logs(): Promise<string>;
}

const START_MS = 60_000;
/** A node that was killed is rewound, or copied again. */
const WHOLE_MS = 120_000;

/**
 * Starts everything in a temporary folder on ports of 127.0.0.1 that were free; takes some 20 s.
 *
 * @param user who runs the servers; null for this process's own
 * @param logins PgBouncer's users beside postgres
 */
export async function startCluster(user: User | null, logins: readonly string[]): Promise<Cluster> {
  await using starting = new AsyncDisposableStack();
  const layout = await makeLayout(user);
  const { folder, password } = layout;
  starting.defer(() => layout.remove());
  const start = (name: string, ...args: string[]) => {
    const daemon = startDaemon(name, args, { folder, user });
    starting.defer(() => daemon.stop());
  };

  // Before anything is stopped, and its folder removed: why it didn't start.
  const failed = async (error: unknown) => {
    throw new Error(`The cluster did not start.\n${await layout.logs()}`, { cause: error });
  };

  start('etcd', ...etcdCommand(layout));
  const nodes = await makeNodes(layout, user);
  starting.defer(() => stopNodes(nodes));
  const [first, ...others] = nodes;
  first?.start();
  const leads = async () => expect(await findLeader(nodes)).toBe(first);
  await vi.waitFor(leads, { timeout: START_MS, interval: 200 }).catch(failed);
  for (const node of others) node.start();
  start('haproxy', 'haproxy', '-db', '-f', await layout.configure('haproxy.cfg', 'haproxy.cfg'));
  const users = ['postgres', ...logins].map((name) => `"${name}" "${password}"\n`);
  await layout.write('users.txt', users.join(''));
  start('pgbouncer', 'pgbouncer', await layout.configure('pgbouncer.ini', 'pgbouncer.ini'));

  const cluster = makeCluster(layout, nodes);
  await cluster.whole().catch(failed);
  const running = starting.move();
  return { ...cluster, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

function makeCluster({ password, ports, ...layout }: Layout, nodes: readonly Node[]) {
  const address = `postgres://postgres@127.0.0.1:${ports.haproxy}/postgres`;
  const rootUrl = loginUrl(address, 'postgres', password, 'postgres');
  const primary = async () => {
    const leader = await findLeader(nodes);
    if (leader === null) throw new Error('There is no primary now.');
    return leader;
  };
  return {
    rootUrl,
    password,
    logs: () => layout.logs(),
    throughPgbouncer: (url: string) => withPort(url, ports.pgbouncer),
    urlOf: (node: Node) => withPort(rootUrl, node.port),
    primary,
    async whole() {
      const expected = { leaders: 1, standbys: 2, lagging: 0, synchronous: true };
      await vi.waitFor(async () => expect(await readMembers(nodes)).toEqual(expected), {
        timeout: WHOLE_MS,
        interval: 500,
      });
    },
    async switchOver() {
      const leader = await primary();
      await command(leader, 'POST', '/switchover', { leader: leader.name });
    },
    async configure(changes: Readonly<Record<string, unknown>>) {
      await command(await primary(), 'PATCH', '/config', changes);
    },
  };
}

/** One member is enough: what its loss does is Patroni's matter. */
function etcdCommand({ folder, ports }: Layout): string[] {
  const url = `http://127.0.0.1:${ports.etcd}`;
  const peers = `http://127.0.0.1:${ports.etcdPeers}`;
  return [
    ...['etcd', '--name', 'e1', '--data-dir', join(folder, 'etcd'), '--enable-v2'],
    ...['--listen-client-urls', url, '--advertise-client-urls', url],
    ...['--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers],
    ...['--initial-cluster', `e1=${peers}`],
  ];
}

function makeNodes(layout: Layout, user: User | null): Promise<Node[]> {
  return Promise.all(
    layout.nodes.map(async ({ postgres, rest }, i) => {
      const name = `pg${i + 1}`;
      const folder = await layout.makeFolder(name);
      const configFile = await layout.configure('patroni.yml', join(name, 'patroni.yml'), {
        ...{ NAME: name, FOLDER: folder, POSTGRES_PORT: postgres, REST_PORT: rest },
      });
      return makeNode({ name, folder, configFile, port: postgres, restPort: rest, user });
    }),
  );
}

/** The standbys first: a primary waits for them to have everything. */
async function stopNodes(nodes: readonly Node[]): Promise<void> {
  const leader = await findLeader(nodes);
  await Promise.all(nodes.filter((node) => node !== leader).map((node) => node.stop()));
  await leader?.stop();
}

function withPort(url: string, port: number): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href;
}
