import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { readMessages } from './chaos/postgres_wire.ts';

/**
 * What the proxy does: with the parameter `options` of a start-up packet, as PgBouncer in session mode, or with prepared statements behind
 * each transaction, as PgBouncer before 1.21 in transaction mode.
 */
export type Treatment = 'refuse' | 'ignore' | 'forget';

/** Stands before PostgreSQL as PgBouncer does. */
export interface Pooler extends AsyncDisposable {
  /** The same login and database, by way of the proxy. */
  through(url: string): string;
}

/**
 * Starts it on a free loopback port. PgBouncer refuses a connection whose start-up packet has `options`, or ignores them where
 * `ignore_startup_parameters` names them.
 */
export async function startPooler(url: string, treatment: Treatment): Promise<Pooler> {
  const { hostname, port } = new URL(url);
  const open = new Set<Socket>();
  // A socket was cut in the middle; the other one is, too.
  const ended = () => undefined;
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [socket, peer] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.setNoDelay();
      socket.on('error', () => peer.destroy());
      socket.on('close', () => {
        open.delete(socket);
        peer.destroy();
      });
    }
    if (treatment === 'forget') carryBack(far, near).catch(ended);
    else far.pipe(near);
    carry(near, far, treatment).catch(ended);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: nearPort } = server.address() as AddressInfo;
  return {
    through(address) {
      const changed = new URL(address);
      changed.host = `127.0.0.1:${nearPort}`;
      return changed.href;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function carry(near: Socket, far: Socket, treatment: Treatment): Promise<void> {
  let first = true;
  for await (const message of readMessages(near, true)) {
    const passed = first ? withoutOptions(message) : message;
    first = false;
    if (passed.length !== message.length && treatment === 'refuse') near.end(REFUSAL);
    else far.write(passed);
  }
  far.end();
}

/** Passes on what the server says. Before the client hears that a transaction is over, what was prepared is gone. */
async function carryBack(far: Socket, near: Socket): Promise<void> {
  let held: Buffer | null = null;
  for await (const message of readMessages(far, false)) {
    const [type, , , , , status] = message;
    const isReady = type === READY;
    if (held !== null) {
      if (isReady) near.write(held);
      held = isReady ? null : held;
    } else if (isReady && status === IDLE) {
      held = Buffer.from(message);
      far.write(FORGET);
    } else near.write(message);
  }
  near.end();
}

const READY = 'Z'.charCodeAt(0);
const IDLE = 'I'.charCodeAt(0);
const DEALLOCATE = Buffer.from('deallocate all\0');
/** A Query. */
const FORGET = Buffer.concat([
  Buffer.from(['Q'.charCodeAt(0), 0, 0, 0, DEALLOCATE.length + 4]),
  DEALLOCATE,
]);

/** A start-up packet: length, protocol, then names and values, each with a zero behind it, and a zero at the end. */
function withoutOptions(packet: Buffer): Buffer {
  const strings = packet.toString('utf8', 8).split('\0').slice(0, -2);
  const kept = strings.flatMap((name, i) =>
    i % 2 === 0 && name !== 'options' ? [name, strings[i + 1] ?? ''] : [],
  );
  const body = Buffer.from([...kept, '', ''].join('\0'));
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + body.length, 0);
  packet.copy(head, 4, 4, 8);
  return Buffer.concat([head, body]);
}

/** An ErrorResponse: its length, and severity, code and message. */
const FIELDS = Buffer.from('SFATAL\0C08P01\0Munsupported startup parameter: options\0\0');
const REFUSAL = Buffer.concat([Buffer.from([69, 0, 0, 0, FIELDS.length + 4]), FIELDS]);
