import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { exportAuditEventsQuerySchema } from '../../audit/export/schemas.ts';
import {
  beginExport,
  makeEventReader,
  readLastSeq,
  requireEnvironmentInTrail,
  type EventReader,
  type ExportQuery,
  type Transaction,
} from '../../audit/export/export.ts';
import { FORMATS, textOf } from '../../audit/export/format.ts';
import { problemOf } from '../../lib/errors.ts';
import { isErrno } from '../../lib/errno.ts';
import { inTransaction } from '../../postgres/own_transaction.ts';
import { readValue } from '../../postgres/value.ts';
import { withLogin } from './connect.ts';
import { exitWith, UsageError } from './exit_with.ts';
import { assertWritable, writeWhole } from './out_file.ts';
import { withProgress } from './progress.ts';

/** Exit status of an export that failed or broke off. */
const INCOMPLETE = 1;

type Format = keyof typeof FORMATS;

/** What `halyard audit export` was given; the rest are filters, checked by exportAuditEventsQuerySchema. */
export interface ExportArguments {
  readonly format: Format;
  /** The file to write; stdout without. */
  readonly out?: string;
  /** Whether a file that is there may be replaced. */
  readonly force?: boolean;
  readonly [filter: string]: unknown;
}

/**
 * `halyard audit export`: the trail as NDJSON or CSV, to stdout or into a file. Exit status 1 when it is not whole, 2 for bad
 * arguments.
 */
export function run({ format, out, force = false, ...filters }: ExportArguments): Promise<void> {
  return exitWith(
    async () => {
      const query = readQuery(filters);
      if (out !== undefined) await assertWritable(out, force);
      try {
        await withLogin('auditor', (pool) => exportEvents(pool, query, format, out));
        return 0;
      } catch (error) {
        // The reader closed the pipe, as `head` does: no message, but it isn't all there is.
        if (isErrno(error) && error.code === 'EPIPE') return INCOMPLETE;
        throw error;
      }
    },
    'The export is not whole: ',
    INCOMPLETE,
  );
}

/** @throws UsageError */
function readQuery(filters: Record<string, unknown>): ExportQuery {
  const result = exportAuditEventsQuerySchema.safeParse(filters);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new UsageError(`--${String(issue?.path[0])} ${issue?.message ?? 'is not valid'}.`);
  }
  return result.data;
}

async function exportEvents(
  pool: pg.Pool,
  query: ExportQuery,
  format: Format,
  out: string | undefined,
): Promise<void> {
  const transaction: Transaction = (work) => inTransaction(pool, work);
  const write = (target: Writable) =>
    withProgress(async (show) => {
      const last = await begin(transaction, format, query);
      const text = writeText(makeEventReader(transaction, query, last), format, show);
      await pipeline(text, target, { end: target !== process.stdout });
    });
  if (out === undefined) await write(process.stdout);
  else await writeWhole(out, (file) => write(file.createWriteStream({ flush: true })));
}

async function* writeText(
  reader: EventReader,
  format: Format,
  show: (text: string) => void,
): AsyncGenerator<string, void, undefined> {
  if (FORMATS[format].head !== '') yield FORMATS[format].head;
  let events = 0;
  for (let page = await reader.next(); page !== undefined; page = await reader.next()) {
    const part = textOf(FORMATS[format], page, reader.pieces);
    if (typeof part !== 'string') yield* part;
    else if (part !== '') yield part;
    events += page.rows.length;
    const { after, until } = reader.remaining;
    show(`${count(events)} events, ${count(Math.max(0, until - after))} numbers left`);
  }
}

/** The API's login records the export; another one can't, and reads the trail as a session at a prompt does. @returns the trail's end */
async function begin(
  transaction: Transaction,
  format: Format,
  query: ExportQuery,
): Promise<number> {
  const isApi = await transaction(async (client) => {
    await requireKnownEnvironment(client, query);
    return readValue<boolean>(client, `select session_user = 'halyard_authenticator'`);
  });
  if (isApi !== true) return transaction(readLastSeq);
  const { last } = await beginExport(transaction, format, query, false);
  return last;
}

/** @throws UsageError which names the environments that there are */
async function requireKnownEnvironment(client: pg.ClientBase, query: ExportQuery): Promise<void> {
  try {
    await requireEnvironmentInTrail(client, query);
  } catch (error) {
    const { code, detail } = problemOf(error);
    throw code === 'environment_not_found' ? new UsageError(`--environment: ${detail}`) : error;
  }
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}
