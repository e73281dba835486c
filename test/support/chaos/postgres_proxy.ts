import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { makeStatementReader, readMessages } from './postgres_wire.ts';

/** A moment in the talk between a process and the database. */
export interface Moment {
  /** before: the statement has not reached the server; answered: it is done, and the process doesn't know it yet. */
  readonly when: 'before' | 'answered';
  readonly statement: RegExp;
}

/** A PostgreSQL that can be stopped between two statements, lose its connections, or move to another port. */
export interface PostgresProxy extends AsyncDisposable {
  /** The same login and database, by way of the proxy. */
  through(url: string): string;
  /** At the next such moment runs `act`, and lets the message pass only then. Resolves when it has happened; rejects after 20 s. */
  at(moment: Moment, act: () => void | Promise<void>): Promise<void>;
  /** From now on nothing passes on the open connections, though both ends believe they stand. */
  freeze(): void;
  /** Drops the open connections. */
  drop(): void;
  /** New connections go there. */
  moveTo(port: number): void;
}

/** A trap that nothing has sprung by then is set at the wrong place. */
const TRAP_MS = 20_000;

interface Trap extends Moment {
  readonly spring: () => Promise<void>;
}

interface Connection {
  readonly sockets: readonly [Socket, Socket];
  frozen: boolean;
}

/** Never, once the connection is frozen. */
function thawed({ frozen }: Connection): Promise<void> {
  return frozen ? new Promise(() => undefined) : Promise.resolve();
}

/** Starts it on a free loopback port. */
export async function startPostgresProxy(target: { port: number }): Promise<PostgresProxy> {
  let { port: farPort } = target;
  const traps: Trap[] = [];
  const open = new Set<Connection>();

  async function pass(when: Moment['when'], statement: string): Promise<void> {
    const i = traps.findIndex((trap) => trap.when === when && trap.statement.test(statement));
    if (i >= 0) await traps.splice(i, 1)[0]?.spring();
  }

  const server = createServer((near) => {
    const far = connect(farPort, '127.0.0.1');
    const connection: Connection = { sockets: [near, far], frozen: false };
    open.add(connection);
    for (const socket of connection.sockets) {
      // A statement is several messages: the second would wait 40 ms for the first one's acknowledgement.
      socket.setNoDelay();
      socket.on('error', () => undefined);
      socket.on('close', () => {
        open.delete(connection);
        near.destroy();
        far.destroy();
      });
    }
    const statements = makeStatementReader(pass);
    void pump(near, far, true, async (message) => {
      await statements.asked(message);
      await thawed(connection);
    });
    void pump(far, near, false, async (message) => {
      await statements.answered(message);
      await thawed(connection);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as AddressInfo).port;
  const drop = () => {
    for (const { sockets } of open) sockets[0].destroy();
  };

  return {
    through(url) {
      const changed = new URL(url);
      changed.host = `127.0.0.1:${port}`;
      return changed.href;
    },
    at(moment, act) {
      const sprung = Promise.withResolvers<undefined>();
      const missed = new Error(`Nothing came by ${moment.when} ${String(moment.statement)}.`);
      const timer = setTimeout(() => sprung.reject(missed), TRAP_MS);
      const spring = async () => {
        clearTimeout(timer);
        await act();
        sprung.resolve(undefined);
      };
      traps.push({ ...moment, spring });
      return sprung.promise;
    },
    freeze() {
      for (const connection of open) connection.frozen = true;
    },
    drop,
    moveTo(next) {
      farPort = next;
    },
    async [Symbol.asyncDispose]() {
      drop();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Carries messages from one end to the other, each after `pass`; ends with either end. */
async function pump(
  from: Socket,
  to: Socket,
  startup: boolean,
  pass: (message: Buffer) => Promise<void>,
): Promise<void> {
  try {
    for await (const message of readMessages(from, startup)) {
      await pass(message);
      if (to.destroyed) break;
      to.write(message);
    }
    to.end();
  } catch {
    // The connection broke, which is what it is here for.
    to.destroy();
  }
}
