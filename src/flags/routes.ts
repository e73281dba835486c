import type { Request, Router } from 'express';
import express from 'express';
import { z } from '../lib/zod.ts';

import { requireEnvironment } from '../environments/routes.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { makeCursor, paginate } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import { environmentSchema } from '../http/schema_parts.ts';
import { ProblemError } from '../lib/errors.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { FLAG_COLUMNS, FLAG_FIELDS } from './fields.ts';
import {
  createFlagSchema,
  DEFAULT_ENVIRONMENT,
  environmentQuerySchema,
  flagPathSchema,
  listFlagsQuerySchema,
  updateFlagSchema,
  type CreateFlag,
  type Flag,
} from './schemas.ts';

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
type FlagRow = Omit<Flag, 'created_at' | 'updated_at'> & { created_at: Date; updated_at: Date };

/** pg makes text of a bigint, and a number of a double, which holds any revision. */
const COLUMNS = [
  ...['id', 'flag_key', 'environment', ...FLAG_COLUMNS, 'created_at', 'updated_at'].map(
    (column) => `f.${column}`,
  ),
  'f.revision::float8 as revision',
].join(', ');

const LIST = `
  select ${COLUMNS}
  from app_public.feature_flags f
  where f.environment = $1 and ($2::text is null or f.flag_key > $2)
  order by f.flag_key
  limit $3`;

const insert = (columns: readonly string[]) => `
  insert into app_public.feature_flags as f (${columns.join(', ')})
  values (${columns.map((_, i) => `$${i + 1}`).join(', ')})
  returning ${COLUMNS}`;

const GET: Statement = {
  name: 'get_flag',
  text: `select ${COLUMNS} from app_public.feature_flags f where f.flag_key = $1 and f.environment = $2`,
};

/** Sets the fields of the patch $3, as JSON; a field that it leaves out stays. */
const PATCH = Object.entries(FLAG_FIELDS).map(
  ([column, { sql }]) =>
    `${column} = case when $3::jsonb ? '${column}' then ($3::jsonb ->> '${column}')::${sql} else f.${column} end`,
);

/** What the answer of a change says beside the flag. Schedules know flags and not the reverse, so the router brings it. */
export interface PendingSchedules {
  /** An expression of the flag `f`. */
  readonly sql: string;
  /** Its value as the answer has it. */
  readonly read: (value: unknown) => unknown;
}

const update = ({ sql }: PendingSchedules): Statement => ({
  name: 'update_flag',
  text: `
    with f as (
      update app_public.feature_flags f
      set ${PATCH.join(', ')}
      where f.flag_key = $1 and f.environment = $2
      returning ${COLUMNS}
    )
    select f.*, ${sql} as pending_schedules
    from f`,
});

/**
 * Waits for the session that holds the flag, as the worker's or that of an admin who retries a schedule, before the change reads its
 * schedules: a statement that waited itself would show those of before.
 */
const lock = (address: readonly string[]): Statement => ({
  name: 'lock_flag',
  text: 'select from app_public.feature_flags f where f.flag_key = $1 and f.environment = $2 for no key update',
  values: address,
});

const cursor = makeCursor<'flag_key'>(
  /^flag:(?<flag_key>[\w.-]{1,100})$/,
  ({ flag_key }) => `flag:${flag_key}`,
);

/** /flags: the flags of one environment. */
export function makeFlagRoutes(query: QueryAsCaller, pending: PendingSchedules): Router {
  const changeFlag = update(pending);
  const router = express.Router();

  router
    .route('/flags')
    .get(async (request, response) => {
      const { environment, limit, after } = parse(listFlagsQuerySchema, request.query);
      const values = [environment, cursor.decode(after)?.flag_key, limit + 1];
      const { rows } = await query<FlagRow>(request, { text: LIST }, values);
      if (rows.length === 0) await requireEnvironment(query, request, environment);
      response.json(paginate(request, response, rows, limit, cursor.encode));
    })
    .post(async (request, response) => {
      const { reason, ...flag } = parse(createFlagSchema, request.body);
      const environment = environmentOf(flag, request.query);
      // A column that is not mentioned keeps its default, which only the table knows.
      const columns = Object.entries({ ...flag, environment }).filter(
        ([, value]) => value !== undefined,
      );
      const text = insert(columns.map(([column]) => column));
      const values = columns.map(([, value]) => value);
      const { rows } = await query<FlagRow>(request, { text }, values, { reason });
      response.status(201).location(flagPath(flag.flag_key, environment)).json(rows[0]);
    })
    .all(onlyMethods('GET', 'POST'));

  router
    .route('/flags/:flagKey')
    .get(async (request, response) => {
      const address = flagAddress(request);
      const { rows } = await query<FlagRow>(request, GET, address);
      response.json(rows[0] ?? (await refuseMissingFlag(query, request, address[1])));
    })
    .patch(async (request, response) => {
      const address = flagAddress(request);
      const { reason, expected_revision, ...change } = parse(updateFlagSchema, request.body);
      const { rows } = await query<FlagRow & { pending_schedules: unknown }>(
        request,
        changeFlag,
        [...address, change],
        { reason, expectedRevision: expected_revision, first: lock(address) },
      );
      const flag = rows[0] ?? (await refuseMissingFlag(query, request, address[1]));
      response.json({ ...flag, pending_schedules: pending.read(flag.pending_schedules) });
    })
    .all(onlyMethods('GET', 'PATCH'));

  return router;
}

/** A new flag's environment is in the body, as a column, or in the address; they must not differ. */
function environmentOf(flag: Omit<CreateFlag, 'reason'>, query: unknown): string {
  const schema = z.strictObject({ environment: z.optional(environmentSchema) });
  const { environment = flag.environment } = parse(schema, query);
  if (flag.environment !== undefined && environment !== flag.environment)
    throw new ProblemError(
      'invalid_request',
      'environment: the address and the body name different environments.',
    );
  return environment ?? DEFAULT_ENVIRONMENT;
}

/** The key and the environment of the flag that a request's address names. */
export function flagAddress({ params, query }: Request): [flagKey: string, environment: string] {
  const { flagKey } = parse(flagPathSchema, params);
  const { environment } = parse(environmentQuerySchema, query);
  return [flagKey, environment];
}

/** The address of a flag, for Location. */
export function flagPath(flagKey: string, environment: string, below = ''): string {
  const query = environment === DEFAULT_ENVIRONMENT ? '' : `?environment=${environment}`;
  return `/api/admin/flags/${flagKey}${below}${query}`;
}

/** @throws ProblemError flag_not_found, or the database's ZF014 when there is no such environment either */
export async function refuseMissingFlag(
  query: QueryAsCaller,
  request: Request,
  environment: string,
): Promise<never> {
  await requireEnvironment(query, request, environment);
  throw new ProblemError('flag_not_found', 'There is no such flag in this environment.');
}
