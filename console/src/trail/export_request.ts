import { ApiError } from '../data/request.ts';
import { request } from './download.ts';
import type { TrailSearch } from './search.ts';

export const FORMATS = {
  ndjson: {
    name: 'NDJSON',
    type: 'application/x-ndjson',
    says: 'an event a line, with its message',
  },
  json: { name: 'JSON', type: 'application/json', says: 'one array, with the messages' },
  csv: { name: 'CSV', type: 'text/csv', says: 'for spreadsheets, without the messages' },
} as const;

export type Format = keyof typeof FORMATS;

/** As docs/audit_export.md. */
const MAX_TYPES = 20;

interface Asked {
  /** The path with its parameters. */
  readonly path: string;
  /** Filters of the search that an export doesn't know: it has the other events too. */
  readonly left: readonly string[];
}

/** The export of what a search asks for, as far as the REST API narrows it. */
export function exportOf({ condition, types, words, id, person }: TrailSearch): Asked {
  const params = new URLSearchParams();
  const left: string[] = [];
  const put = (name: string, value: string | undefined): void => {
    if (value !== undefined) params.set(name, value);
  };
  put('from', condition.occurredFrom);
  put('to', condition.occurredBefore);
  put('flag', condition.flagKey);
  put('environment', condition.environment);
  if (types.length > 0 && types.length <= MAX_TYPES) params.set('type', types.join(','));
  else if (types.length > MAX_TYPES) left.push('type');
  const { adminEmail, actorKind, seq } = condition;
  if (adminEmail !== undefined || person !== null) put('actor', adminEmail ?? person ?? undefined);
  else if (actorKind === 'worker' || actorKind === 'system') params.set('actor', 'system');
  else if (actorKind !== undefined) left.push('by');
  if (seq !== undefined) {
    params.set('after', String(Number(seq) - 1));
    params.set('until', seq);
  }
  for (const [field, name] of [
    ['level', 'level'],
    ['requestId', 'request'],
    ['scheduleId', 'schedule'],
  ] as const)
    if (condition[field] !== undefined) left.push(name);
  if (words.length > 0 || id !== null)
    left.push([...words, ...(id === null ? [] : [id])].join(' '));
  const query = params.toString().replaceAll('%3A', ':').replaceAll('%2C', ',');
  return { path: `/api/admin/audit/events${query === '' ? '' : `?${query}`}`, left };
}

/** The next page of JSON, by the Link of the one before. */
function nextOf(answer: Response): string | null {
  const found = /<([^>]+)>;\s*rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
  if (found === undefined) return null;
  const url = new URL(found, location.href);
  return url.pathname + url.search;
}

/**
 * Reads an export whole. It is in memory until it is saved: the page can't stream to the disk.
 *
 * @param onSize bytes so far
 * @throws ApiError where it is refused, or ends before its end
 */
export async function readExport(
  path: string,
  format: Format,
  signal: AbortSignal,
  onSize: (bytes: number) => void,
): Promise<Blob> {
  const { type } = FORMATS[format];
  return format === 'json'
    ? readPages(path, signal, onSize)
    : readStream(path, type, signal, onSize);
}

async function readStream(
  path: string,
  type: string,
  signal: AbortSignal,
  onSize: (bytes: number) => void,
): Promise<Blob> {
  const answer = await request(path, type, signal);
  const parts: BlobPart[] = [];
  let size = 0;
  try {
    const reader = answer.body?.getReader();
    for (;;) {
      const step = await reader?.read();
      if (step === undefined || step.done) break;
      parts.push(step.value);
      size += step.value.length;
      onSize(size);
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(
      'The export ended before its end: nothing is saved. Try again.',
      'offline',
      0,
    );
  }
  return new Blob(parts, { type });
}

async function readPages(
  path: string,
  signal: AbortSignal,
  onSize: (bytes: number) => void,
): Promise<Blob> {
  const parts: string[] = [];
  let size = 0;
  let next: string | null = `${path}${path.includes('?') ? '&' : '?'}limit=1000`;
  while (next !== null) {
    const answer = await request(next, 'application/json', signal);
    const page = (await answer.text()).trim();
    // An array each: without its brackets it is a part of one.
    const inner = page.slice(1, -1).trim();
    if (inner !== '') parts.push(inner);
    size += inner.length;
    onSize(size);
    next = nextOf(answer);
  }
  return new Blob([`[${parts.join(',\n')}]\n`], { type: 'application/json' });
}
