import type { EventRow } from './query.ts';
import { auditEventSchema } from './schemas.ts';

/** The fields of a CSV file, in order: those of the JSON but for the message, which no spreadsheet would keep as it is. */
const CSV_FIELDS = auditEventSchema.omit({ message: true }).keyof().options;

/** An event as JSON on one line, without the line's end. The metadata and the message are the database's own text. */
export function jsonOf(row: EventRow): string {
  const fields = CSV_FIELDS.map((name) => {
    const value = name === 'metadata' || name === 'seq' ? row[name] : JSON.stringify(row[name]);
    return `"${name}":${value}`;
  });
  return `{${fields.join(',')},"message":${JSON.stringify(row.message)}}`;
}

/** How an export looks as text. `keepAlive` says nothing to the reader but that the connection lives. */
export const FORMATS = {
  ndjson: {
    mediaType: 'application/x-ndjson; charset=utf-8',
    head: '',
    textOf: (rows: readonly EventRow[]) => rows.map((row) => `${jsonOf(row)}\n`).join(''),
    keepAlive: '\n',
  },
  // RFC 4180. Without a byte order mark, which most programs take for a part of the first field's name.
  csv: {
    mediaType: 'text/csv; charset=utf-8; header=present',
    head: `${CSV_FIELDS.join(',')}\r\n`,
    textOf: (rows: readonly EventRow[]) => rows.map(csvLineOf).join(''),
    keepAlive: '',
  },
};

export type TextFormat = (typeof FORMATS)[keyof typeof FORMATS];

function csvLineOf(row: EventRow): string {
  const cells = CSV_FIELDS.map((name) => cellOf(String(row[name] ?? '')));
  return `${cells.join(',')}\r\n`;
}

/** What a spreadsheet may take for a formula: a sign at the start, half or full width, or behind what some programs strip. */
const FORMULA = /^[\s\p{Cc}\p{Cf}"'`]*[=+\-@\t\r\n＝＋－＠]/u;

/** A cell of CSV. One that might be a formula, and no other, gets a single quote before it: without that it is the value. */
export function cellOf(value: string): string {
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) || safe !== safe.trim() ? `"${safe.replaceAll('"', '""')}"` : safe;
}
