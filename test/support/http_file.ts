/** One request of an .http file, with its placeholders not yet filled in. */
export interface HttpFileRequest {
  /** Line of the request in the file, from 1. */
  readonly line: number;
  /** Of `# @name`, for the placeholders of later requests. */
  readonly name: string | null;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** Of `# expect STATUS [$.path == JSON]`. */
  readonly expectations: readonly Expectation[];
}

export interface Expectation {
  readonly status: number;
  readonly path: string | null;
  /** JSON, which may have placeholders. */
  readonly value: string | null;
}

export interface HttpFile {
  /** Of `@name = value`. */
  readonly variables: Readonly<Record<string, string>>;
  readonly requests: readonly HttpFileRequest[];
}

/** Reads the format of VS Code's REST Client. @throws Error for a line that is none of it */
export function parseHttpFile(text: string): HttpFile {
  const variables: Record<string, string> = {};
  const requests: HttpFileRequest[] = [];
  const lines = text.split('\n');
  for (let start = 0; start < lines.length;) {
    const next = lines.findIndex((line, i) => i > start && line.startsWith('###'));
    const end = next < 0 ? lines.length : next;
    const request = parseSection(lines.slice(start, end), start + 1, variables);
    if (request !== null) requests.push(request);
    start = end;
  }
  return { variables, requests };
}

function parseSection(
  lines: readonly string[],
  firstLine: number,
  variables: Record<string, string>,
): HttpFileRequest | null {
  let name: string | null = null;
  const expectations: Expectation[] = [];
  for (const [i, line] of lines.entries()) {
    const [, variable, value] = /^@(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    const [, method, url] = /^([A-Z]+) (\S(?:.*\S)?)$/.exec(line) ?? [];
    if (variable !== undefined) variables[variable] = value ?? '';
    else if (line.startsWith('#')) {
      name = /^# @name (\w+)$/.exec(line)?.[1] ?? name;
      if (line.startsWith('# expect')) expectations.push(parseExpectation(line));
    } else if (method !== undefined && url !== undefined) {
      const rest = parseMessage(lines.slice(i + 1));
      return { line: firstLine + i, name, method, url, expectations, ...rest };
    } else if (line.trim() !== '') {
      throw new Error(`Line ${firstLine + i} is no comment, variable or request: ${line}`);
    }
  }
  return null;
}

function parseExpectation(line: string): Expectation {
  const match = /^# expect (\d{3})(?: \$\.(\S+) == (.+))?$/.exec(line);
  if (match === null) throw new Error(`Write "# expect STATUS [$.path == JSON]", not: ${line}`);
  return { status: Number(match[1]), path: match[2] ?? null, value: match[3] ?? null };
}

function parseMessage(lines: readonly string[]): Pick<HttpFileRequest, 'headers' | 'body'> {
  const blank = lines.indexOf('');
  const head = blank < 0 ? lines : lines.slice(0, blank);
  const headers = head.map((line): [string, string] => {
    const colon = line.indexOf(':');
    if (colon < 1) throw new Error(`A header is "Name: value", not: ${line}`);
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const body = blank < 0 ? '' : lines.slice(blank).join('\n').trim();
  return { headers: Object.fromEntries(headers), body: body === '' ? null : body };
}

/** What a path such as `errors.0.path` leads to. */
export function valueAt(json: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => {
    if (typeof value !== 'object' || value === null) return undefined;
    return (value as Record<string, unknown>)[key];
  }, json);
}

const UNITS_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export interface Scope {
  readonly variables: Readonly<Record<string, string>>;
  /** Answers' bodies by the request's name. */
  readonly answers: ReadonlyMap<string, unknown>;
  readonly environment: Readonly<Record<string, string>>;
}

/** Fills in placeholders, also those of variables. @throws Error for one that means nothing */
export function fillIn(text: string, scope: Scope): string {
  return text.replaceAll(/\{\{(.+?)\}\}/g, (_, placeholder: string) => {
    const value = meaningOf(placeholder, scope);
    if (typeof value !== 'string') throw new Error(`{{${placeholder}}} means nothing here.`);
    return value;
  });
}

function meaningOf(placeholder: string, scope: Scope): unknown {
  const [, offset, unit] = /^\$datetime iso8601 (-?\d+) ([mhd])$/.exec(placeholder) ?? [];
  if (offset !== undefined && unit !== undefined)
    return new Date(Date.now() + Number(offset) * (UNITS_MS[unit] ?? Number.NaN)).toISOString();
  if (placeholder === '$timestamp') return String(Math.floor(Date.now() / 1000));
  const [, name] = /^\$processEnv (\w+)$/.exec(placeholder) ?? [];
  if (name !== undefined) return scope.environment[name];
  const [, request, path] = /^(\w+)\.response\.body\.\$\.(.+)$/.exec(placeholder) ?? [];
  if (request !== undefined && path !== undefined) return valueAt(scope.answers.get(request), path);
  const variable = scope.variables[placeholder];
  return variable === undefined ? undefined : fillIn(variable, scope);
}
