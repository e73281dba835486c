import { z } from '../../lib/zod.ts';
import type { Page } from './export.ts';
import type { EventRow, LongColumn } from './query.ts';
import { auditEventSchema } from './schemas.ts';

/** The fields of a CSV file, in order: those of the JSON but for the message, which no spreadsheet would keep as it is. */
const CSV_FIELDS = z.keyof(z.omit(auditEventSchema, { message: true })).options;

/** The fields before the long texts, which come last. */
const SHORT_FIELDS = CSV_FIELDS.filter((name) => name !== 'metadata');

/** Reads a long text of an event in pieces. */
type Pieces = (seq: string, column: LongColumn) => AsyncIterable<string>;

/** An event as JSON on one line, without the line's end. The metadata and the message are the database's own text. */
export function jsonOf(row: EventRow): string {
  return `{${shortFieldsOf(row)},"metadata":${row.metadata},"message":${JSON.stringify(row.message)}}`;
}

/** The same of an event whose long texts are read in pieces. */
export async function* largeJsonOf(
  row: EventRow,
  pieces: Pieces,
): AsyncGenerator<string, void, undefined> {
  yield `{${shortFieldsOf(row)},"metadata":`;
  yield* pieces(row.seq, 'metadata');
  yield ',"message":"';
  // PostgreSQL cuts between characters, so no escape is cut.
  for await (const piece of pieces(row.seq, 'message')) yield JSON.stringify(piece).slice(1, -1);
  yield '"}';
}

function shortFieldsOf(row: EventRow): string {
  const fields = SHORT_FIELDS.map(
    (name) => `"${name}":${name === 'seq' ? row.seq : JSON.stringify(row[name])}`,
  );
  return fields.join(',');
}

/** How an export is written. `keepAlive` only shows the reader that the connection lives. */
export const FORMATS = {
  ndjson: {
    mediaType: 'application/x-ndjson; charset=utf-8',
    head: '',
    textOf: (rows: readonly EventRow[]) => rows.map((row) => `${jsonOf(row)}\n`).join(''),
    async *largeTextOf(row: EventRow, pieces: Pieces) {
      yield* largeJsonOf(row, pieces);
      yield '\n';
    },
    keepAlive: '\n',
  },
  // RFC 4180. Without a byte order mark, which most programs take for a part of the first field's name.
  csv: {
    mediaType: 'text/csv; charset=utf-8; header=present',
    head: `${CSV_FIELDS.join(',')}\r\n`,
    textOf: (rows: readonly EventRow[]) => rows.map(csvLineOf).join(''),
    largeTextOf: largeCsvOf,
    keepAlive: '',
  },
};

type TextFormat = (typeof FORMATS)[keyof typeof FORMATS];

/**
 * The text of a page: whole, or in pieces for a large event.
 *
 * @param keepAlive in place of no text
 */
export function textOf(
  format: TextFormat,
  { rows, isLarge }: Page,
  pieces: Pieces,
  keepAlive = '',
): string | AsyncIterable<string> {
  const [row] = rows;
  if (isLarge && row !== undefined) return format.largeTextOf(row, pieces);
  return format.textOf(rows) || keepAlive;
}

function csvLineOf(row: EventRow): string {
  const cells = CSV_FIELDS.map((name) => cellOf(String(row[name] ?? '')));
  return `${cells.join(',')}\r\n`;
}

/** The metadata is the last cell. As JSON of such a length has a quote or a comma, it stands in quotes. */
async function* largeCsvOf(row: EventRow, pieces: Pieces): AsyncGenerator<string, void, undefined> {
  yield `${SHORT_FIELDS.map((name) => cellOf(String(row[name] ?? ''))).join(',')},"`;
  let isFirst = true;
  for await (const piece of pieces(row.seq, 'metadata')) {
    if (isFirst && FORMULA.test(piece)) yield `'`;
    isFirst = false;
    yield piece.replaceAll('"', '""');
  }
  yield '"\r\n';
}

/** What a spreadsheet may take for a formula: a sign at the start, half or full width, also after what some programs strip. */
const FORMULA = /^[\s\p{Cc}\p{Cf}"'`]*[=+\-@\t\r\n＝＋－＠]/u;

/** A cell of CSV. One that might be a formula, and no other, gets a single quote before it: without that it is the value. */
export function cellOf(value: string): string {
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) || safe !== safe.trim() ? `"${safe.replaceAll('"', '""')}"` : safe;
}
