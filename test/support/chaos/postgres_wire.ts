import type { Socket } from 'node:net';

// PostgreSQL's frontend/backend protocol, version 3, as far as it tells which statement passes:
// https://www.postgresql.org/docs/current/protocol-message-formats.html

/** Cuts a stream into messages, each with its type and length. The first of a client has no type. */
export async function* readMessages(stream: Socket, startup: boolean): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let typed = !startup;
  for await (const chunk of stream) {
    rest = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    for (;;) {
      const head = typed ? 1 : 0;
      if (rest.length < head + 4) break;
      const end = head + rest.readInt32BE(head);
      if (rest.length < end) break;
      yield rest.subarray(0, end);
      rest = rest.subarray(end);
      typed = true;
    }
  }
}

/** Follows one connection's statements, prepared ones included. */
export interface StatementReader {
  /** A message of the client. */
  asked(message: Buffer): Promise<void>;
  /** A message of the server. */
  answered(message: Buffer): Promise<void>;
}

/** @param tell is waited for before the message goes on */
export function makeStatementReader(
  tell: (when: 'before' | 'answered', statement: string) => Promise<void>,
): StatementReader {
  const prepared = new Map<string, string>();
  let underWay: string[] = [];

  async function started(statement: string): Promise<void> {
    await tell('before', statement);
    underWay.push(statement);
  }

  return {
    async asked(message) {
      const type = String.fromCharCode(message[0] ?? 0);
      const [first = '', second = ''] = 'PBQ'.includes(type) ? strings(message.subarray(5)) : [];
      if (type === 'P') prepared.set(first, second);
      else if (type === 'B') await started(prepared.get(second) ?? '');
      else if (type === 'Q') await started(first);
    },
    async answered(message) {
      // ReadyForQuery: whatever was asked is done.
      if (message[0] !== 'Z'.charCodeAt(0)) return;
      const done = underWay;
      underWay = [];
      for (const statement of done) await tell('answered', statement);
    },
  };
}

/** The first two zero-terminated strings of a message's body. */
function strings(body: Buffer): string[] {
  const end = body.indexOf(0);
  const next = body.indexOf(0, end + 1);
  return [body.toString('utf8', 0, end), next < 0 ? '' : body.toString('utf8', end + 1, next)];
}
