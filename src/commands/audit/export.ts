import { open, rename, rm, stat } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';

import type pg from 'pg';

import { exportAuditEventsQuerySchema } from '../../api/schemas.ts';
import { beginExport, readEvents } from '../../audit/export.ts';
import type { ExportQuery, Transaction } from '../../audit/export.ts';
import { FORMATS } from '../../audit/export_text.ts';
import { withLogin } from './connect.ts';

const OPTIONS = {
  from: { type: 'string' },
  to: { type: 'string' },
  flag: { type: 'string' },
  environment: { type: 'string' },
  actor: { type: 'string' },
  type: { type: 'string', multiple: true },
  after: { type: 'string' },
  until: { type: 'string' },
  limit: { type: 'string' },
  format: { type: 'string' },
  out: { type: 'string' },
  force: { type: 'boolean' },
} as const;

/** What the arguments ask for. */
export interface ExportArguments {
  readonly query: ExportQuery;
  readonly format: 'ndjson' | 'csv';
  /** The file to write; null for stdout. */
  readonly out: string | null;
  /** Whether a file that is there may be replaced. */
  readonly force: boolean;
}

/** What is wrong with the arguments, in one sentence: exit status 2. */
class ArgumentsError extends Error {
  override readonly name = 'ArgumentsError';
}

/**
 * `halyard audit export`: the trail as NDJSON or CSV, to stdout or into a file. Exit status 1 when it is not whole, 2 for bad
 * arguments.
 */
export async function run(args: string[]): Promise<void> {
  try {
    const wanted = readArguments(args);
    await refuseToReplace(wanted);
    await withLogin('auditor', (pool) => exportEvents(pool, wanted));
  } catch (error) {
    if (isClosedPipe(error)) {
      // Whoever reads has had enough, as `head` does: nothing to say, but it isn't all there is.
      process.exitCode = 1;
      return;
    }
    if (!(error instanceof ArgumentsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
}

/** @throws ArgumentsError */
export function readArguments(args: string[]): ExportArguments {
  const { format = 'ndjson', out, force = false, ...filters } = parse(args);
  if (format !== 'ndjson' && format !== 'csv')
    throw new ArgumentsError('Give --format ndjson or csv.');
  if (out === '') throw new ArgumentsError('Give --out the name of a file.');
  const result = exportAuditEventsQuerySchema.safeParse(filters);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new ArgumentsError(`--${String(issue?.path[0])} ${issue?.message ?? 'is not valid'}.`);
  }
  return { query: result.data, format, out: out ?? null, force };
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new ArgumentsError(error instanceof Error ? error.message : String(error));
  }
}

async function refuseToReplace({ out, force }: ExportArguments): Promise<void> {
  if (out === null || force) return;
  const exists = await stat(out).then(
    () => true,
    () => false,
  );
  if (exists) throw new ArgumentsError(`${out} is there already: give --force to replace it.`);
}

async function exportEvents(pool: pg.Pool, wanted: ExportArguments): Promise<void> {
  const { out } = wanted;
  if (out === null) {
    await write(pool, wanted, process.stdout, { end: false });
    return;
  }
  // Under another name until it is whole; for nobody else's eyes, as it holds names.
  const partial = `${out}.partial`;
  try {
    const file = await open(partial, 'w', 0o600);
    await write(pool, wanted, file.createWriteStream({ flush: true }), { end: true });
    await rename(partial, out);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function write(
  pool: pg.Pool,
  { query, format }: ExportArguments,
  target: Writable,
  { end }: { end: boolean },
): Promise<void> {
  const transaction = transactionOf(pool);
  const { head, textOf } = FORMATS[format];
  const progress = makeProgress();
  const last = await beginExport(transaction, format, query, false);
  async function* text(): AsyncGenerator<string, void, undefined> {
    if (head !== '') yield head;
    for await (const { rows, position } of readEvents(transaction, query, last)) {
      if (rows.length > 0) yield textOf(rows);
      progress.show(rows.length, position, last);
    }
  }
  try {
    await pipeline(text(), target, { end });
  } finally {
    progress.end();
  }
}

/** One transaction of the login's own, without claims: its role is its right. */
function transactionOf(pool: pg.Pool): Transaction {
  return async (work) => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      const result = await work(client);
      await client.query('commit');
      client.release();
      return result;
    } catch (error) {
      // The connection goes, and the transaction with it.
      client.release(true);
      throw error;
    }
  };
}

/** How far it is, on a line of a terminal that is written over; nothing where stderr is no terminal. */
function makeProgress() {
  const { stderr } = process;
  let events = 0;
  let shown = false;
  return {
    show(more: number, position: number, last: number): void {
      events += more;
      if (!stderr.isTTY) return;
      const number = (n: number) => n.toLocaleString('en-US');
      stderr.write(
        `\r\x1b[K${number(events)} events, read to ${number(position)} of ${number(last)}`,
      );
      shown = true;
    },
    end(): void {
      if (shown) stderr.write('\n');
    },
  };
}

function isClosedPipe(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EPIPE';
}
