import type { Request, Router } from 'express';
import express from 'express';

import { claimsOf } from '../auth/auth.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { makeCursor, paginate } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { Statement } from '../postgres/pipeline.ts';
import {
  createEnvironmentSchema,
  environmentPathSchema,
  listEnvironmentsQuerySchema,
  resumeEnvironmentSchema,
  stopEnvironmentSchema,
  type Environment,
} from './schemas.ts';

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
type EnvironmentRow = Omit<Environment, 'created_at' | 'stopped_at'> & {
  created_at: Date;
  stopped_at: Date | null;
};

const VIEWERS_COLUMNS = 'e.name, e.created_at, e.created_by, e.stopped_at';
const COLUMNS = `${VIEWERS_COLUMNS}, e.stopped_by, e.stop_reason`;

/** The columns that the caller's role may read. */
const columnsFor = (request: Request) =>
  claimsOf(request).role === 'viewer' ? VIEWERS_COLUMNS : COLUMNS;

const list = (columns: string) => `
  select ${columns}
  from app_public.environments e
  where $1::text is null or e.name > $1
  order by e.name
  limit $2`;

const get = (columns: string) =>
  `select ${columns} from app_public.environments e where e.name = $1`;

const CREATE = `select ${COLUMNS} from app_public.create_environment($1) e`;

const STOP = `select ${COLUMNS} from app_public.stop_environment($1, $2) e`;

const RESUME = `select ${COLUMNS} from app_public.resume_environment($1, $2, $3, $4) e`;

const REQUIRE: Statement = {
  name: 'require_environment',
  text: 'select app_private.require_environment($1)',
};

const cursor = makeCursor<'name'>(
  /^environment:(?<name>[\w.-]{1,20})$/,
  ({ name }) => `environment:${name}`,
);

/** /environments: those that flags may be in. */
export function makeEnvironmentRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  router
    .route('/environments')
    .get(async (request, response) => {
      const { limit, after } = parse(listEnvironmentsQuerySchema, request.query);
      const values = [cursor.decode(after)?.name, limit + 1];
      const { rows } = await query<EnvironmentRow>(
        request,
        { text: list(columnsFor(request)) },
        values,
      );
      response.json(paginate(request, response, rows, limit, cursor.encode));
    })
    .post(async (request, response) => {
      const { name, reason } = parse(createEnvironmentSchema, request.body);
      const options = { action: 'create_environments', reason } as const;
      const { rows } = await query<EnvironmentRow>(request, { text: CREATE }, [name], options);
      response.status(201).location(`/api/admin/environments/${name}`).json(rows[0]);
    })
    .all(onlyMethods('GET', 'POST'));

  router
    .route('/environments/:name')
    .get(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { rows } = await query<EnvironmentRow>(request, { text: get(columnsFor(request)) }, [
        name,
      ]);
      if (rows.length === 0) await requireEnvironment(query, request, name);
      response.json(rows[0]);
    })
    .all(onlyMethods('GET'));

  router
    .route('/environments/:name/stop')
    .post(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { reason } = parse(stopEnvironmentSchema, request.body);
      const { rows } = await query<EnvironmentRow>(request, { text: STOP }, [name, reason], {
        reason,
      });
      response.json(rows[0]);
    })
    .all(onlyMethods('POST'));

  router
    .route('/environments/:name/resume')
    .post(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { missed, reason, except = [] } = parse(resumeEnvironmentSchema, request.body);
      const values = [name, missed, reason, except];
      const { rows } = await query<EnvironmentRow>(request, { text: RESUME }, values, { reason });
      response.json(rows[0]);
    })
    .all(onlyMethods('POST'));

  return router;
}

/**
 * For a request that found nothing: checks that there is such an environment and that the token reaches it.
 *
 * @throws the database's ZF014, which names the environments that the token reaches
 */
export async function requireEnvironment(
  query: QueryAsCaller,
  request: Request,
  name: string,
): Promise<void> {
  await query(request, REQUIRE, [name]);
}
