import type { Router } from 'express';
import express from 'express';

import { ProblemError } from '../lib/errors.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { makeCursor, paginate } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import {
  createFlagSchema,
  DEFAULT_ENVIRONMENT,
  environmentQuerySchema,
  environmentSchema,
  flagPathSchema,
  listFlagsQuerySchema,
  updateFlagSchema,
} from '../schemas.ts';
import type { CreateFlag, Flag } from '../schemas.ts';
import type { Transact } from '../api/router.ts';
import { z } from 'zod';

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
type FlagRow = Omit<Flag, 'created_at' | 'updated_at'> & { created_at: Date; updated_at: Date };

const COLUMNS = `f.id, f.flag_key, f.environment, f.enabled, f.rollout_percentage, f.description, f.created_at, f.updated_at`;

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

const UPDATE: Statement = {
  name: 'update_flag',
  text: `
    update app_public.feature_flags f
    set
      enabled = coalesce($3, f.enabled),
      rollout_percentage = coalesce($4, f.rollout_percentage),
      description = case when $5 then $6 else f.description end
    where f.flag_key = $1 and f.environment = $2
    returning ${COLUMNS}`,
};

const cursor = makeCursor<'flag_key'>(
  /^flag:(?<flag_key>[\w.-]{1,100})$/,
  ({ flag_key }) => `flag:${flag_key}`,
);

/** /flags: the flags of one environment. */
export function makeFlagRoutes(transact: Transact): Router {
  const router = express.Router();

  router
    .route('/flags')
    .get(async (request, response) => {
      const { environment, limit, after } = parse(listFlagsQuerySchema, request.query);
      const { rows } = await transact<FlagRow>(request, { text: LIST }, [
        environment,
        cursor.decode(after)?.flag_key ?? null,
        limit + 1,
      ]);
      response.json(paginate(request, response, rows, limit, cursor.encode));
    })
    .post(async (request, response) => {
      const flag = parse(createFlagSchema, request.body);
      const environment = environmentOf(flag, request.query);
      // A column that is not mentioned keeps its default, which only the table knows.
      const given = Object.entries({ ...flag, environment }).filter(
        ([, value]) => value !== undefined,
      );
      const { rows } = await transact<FlagRow>(
        request,
        { text: insert(given.map(([column]) => column)) },
        given.map(([, value]) => value),
      );
      response.status(201).location(flagPath(flag.flag_key, environment)).json(rows[0]);
    })
    .all(onlyMethods('GET', 'POST'));

  router
    .route('/flags/:flagKey')
    .get(async (request, response) => {
      const { flagKey } = parse(flagPathSchema, request.params);
      const { environment } = parse(environmentQuerySchema, request.query);
      const { rows } = await transact<FlagRow>(request, GET, [flagKey, environment]);
      response.json(theFlag(rows));
    })
    .patch(async (request, response) => {
      const { flagKey } = parse(flagPathSchema, request.params);
      const { environment } = parse(environmentQuerySchema, request.query);
      const change = parse(updateFlagSchema, request.body);
      const { rows } = await transact<FlagRow>(request, UPDATE, [
        flagKey,
        environment,
        change.enabled,
        change.rollout_percentage,
        change.description !== undefined,
        change.description,
      ]);
      response.json(theFlag(rows));
    })
    .all(onlyMethods('GET', 'PATCH'));

  return router;
}

/** A new flag's environment stands in the body, as a column; one in the address is taken too, unless they differ. */
function environmentOf(flag: CreateFlag, query: unknown): string {
  const { environment } = parse(
    z.strictObject({ environment: environmentSchema.optional() }),
    query,
  );
  if (
    environment !== undefined &&
    flag.environment !== undefined &&
    environment !== flag.environment
  ) {
    throw new ProblemError(
      'invalid_request',
      'environment: the address and the body name different environments.',
    );
  }
  return flag.environment ?? environment ?? DEFAULT_ENVIRONMENT;
}

/** The address of a flag, for Location. */
export function flagPath(flagKey: string, environment: string, below = ''): string {
  const query = environment === DEFAULT_ENVIRONMENT ? '' : `?environment=${environment}`;
  return `/api/admin/flags/${flagKey}${below}${query}`;
}

function theFlag(rows: readonly FlagRow[]): FlagRow {
  const [flag] = rows;
  if (flag === undefined) {
    throw new ProblemError('flag_not_found', 'There is no such flag in this environment.');
  }
  return flag;
}
