import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Connections that have been made so far. */
  connections(): number;
  /** Connections that have been dropped at once so far. */
  refused(): number;
  /** From now on nothing passes on the open connections, though both ends believe they stand. */
  freeze(): void;
  /** Drops the open connections, and each new one at once until `accept`. */
  refuse(): void;
  accept(): void;
}

/** A TCP proxy on a free loopback port: a network that can be broken. */
export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const open = new Set<Socket>();
  let connections = 0;
  let refused = 0;
  let refusing = false;
  const server = createServer((near) => {
    if (refusing) {
      refused += 1;
      near.destroy();
      return;
    }
    connections += 1;
    const far = connect(target.port, target.host);
    for (const [socket, peer] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.setNoDelay().pipe(peer);
      socket.on('error', () => peer.destroy());
      socket.on('close', () => {
        open.delete(socket);
        peer.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const dropAll = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    refused: () => refused,
    freeze() {
      for (const socket of open) socket.unpipe().pause();
    },
    refuse() {
      refusing = true;
      dropAll();
    },
    accept() {
      refusing = false;
    },
    async [Symbol.asyncDispose]() {
      dropAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
