import { createServer } from 'node:net';

/** Below the ports that Linux gives to outgoing connections, one of which could take the port of a server that is down. */
const FIRST = 20_000;
const LAST = 32_000;

/**
 * Ports of 127.0.0.1, in a row, that nothing listens on.
 *
 * @throws Error when a hundred places are taken
 */
export async function findFreePorts(count: number): Promise<number[]> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const first = FIRST + Math.floor(Math.random() * (LAST - FIRST - count));
    const ports = Array.from({ length: count }, (_, i) => first + i);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return ports;
  }
  throw new Error(`No ${count} free ports in a row were found.`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
