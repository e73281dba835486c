import type pg from 'pg';
import { afterAll, beforeAll } from 'vitest';

import type { ProblemBody, Schedule } from '../../src/schemas.ts';
import { startApi } from '../../src/api/server.ts';
import type { ApiOptions, ApiServer } from '../../src/api/server.ts';
import { loadConfig } from '../../src/config/config.ts';
import { withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import type { LogLine } from './log.ts';
import { TEST_SECRET } from './tokens.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON, of whatever shape it has: undefined when there is none. */
  readonly body: AnswerBody;
}

/** The fields that tests take out of an answer; which of them are there is what they test. */
export type AnswerBody = Omit<Schedule, 'status'> &
  Omit<ProblemBody, 'status'> & { readonly status: unknown };

export interface Call {
  readonly token?: string | undefined;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as it is. */
  readonly body?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TestApi {
  readonly url: string;
  /** What the server has logged so far. */
  readonly lines: readonly LogLine[];
  readonly logText: () => string;
  /** @param target method and path, such as `GET /readyz` */
  call(target: string, call?: Call): Promise<Answer>;
  readonly close: () => Promise<void>;
}

/**
 * The real application on a free port of 127.0.0.1, with TEST_SECRET and without GraphQL.
 *
 * @param options.env settings besides
 */
export async function startTestApi(
  databaseUrl: string,
  {
    env,
    ...options
  }: Partial<
    Pick<
      ApiOptions,
      'drainMs' | 'maxCheckoutMs' | 'makeGraphql' | 'maxConnections' | 'registry' | 'consoleFolder'
    >
  > & {
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestApi> {
  const { log, lines, text } = makeTestLog();
  const config = loadConfig(
    { NODE_ENV: 'test', PORT: '0', JWT_SECRET: TEST_SECRET, ...env },
    'api',
  );
  const server: ApiServer = await startApi({ config, databaseUrl, log, ...options });
  return {
    url: server.url,
    lines,
    logText: text,
    call: (target, call) => callApi(server.url, target, call),
    close: server.close,
  };
}

/** The application for a whole test file. */
export function useApi(database: TestDatabase): TestApi {
  let api: TestApi | undefined;
  beforeAll(async () => {
    api = await startTestApi(database.authenticatorUrl);
  });
  afterAll(async () => {
    await api?.close();
  });
  const current = () => {
    if (api === undefined) throw new Error('The API exists only inside tests.');
    return api;
  };
  return {
    get url() {
      return current().url;
    },
    get lines() {
      return current().lines;
    },
    logText: () => current().logText(),
    call: (target, call) => current().call(target, call),
    close: () => current().close(),
  };
}

/** Sends one request, as it is. */
export async function callApi(url: string, target: string, call: Call = {}): Promise<Answer> {
  const [method = '', path = ''] = target.split(/ (.*)/s);
  const body = call.json === undefined ? call.body : JSON.stringify(call.json);
  const response = await fetch(url + path, {
    method,
    redirect: 'manual',
    headers: {
      ...(call.token === undefined ? {} : { authorization: `Bearer ${call.token}` }),
      ...(call.json === undefined ? {} : { 'content-type': 'application/json' }),
      ...call.headers,
    },
    ...(body === undefined ? {} : { body: body as string }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: (text === '' ? undefined : JSON.parse(text)) as AnswerBody,
  };
}

/** All that a refused write might have left but the event of the denial, as the owner sees it. */
export async function contentsOf(database: TestDatabase): Promise<string> {
  return withClient(database.ownerUrl, readContents);
}

/** The same, on a connection of the owner's that is there already. */
export async function readContents(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ contents: string }>(`
    select jsonb_build_object(
      'environments', (select jsonb_agg(n order by n.name) from app_public.environments n),
      'flags', (select jsonb_agg(f order by f.id) from app_public.feature_flags f),
      'plans', (select jsonb_agg(p order by p.id) from app_public.plans p),
      'schedules', (select jsonb_agg(s order by s.id) from app_public.feature_flag_schedules s),
      'events', (select jsonb_agg(e.id order by e.id) from audit.events e where e.event_type <> 'access.denied'),
      'deadLetters', (select count(*) from audit.dead_letters)
    )::text as contents`);
  return rows[0]?.contents ?? '';
}

/** A time that many minutes from now, as clients write it. */
export function inMinutes(minutes: number): string {
  return new Date(Date.now() + minutes * 60_000).toISOString();
}
