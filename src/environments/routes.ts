import type { Request, Router } from 'express';
import express from 'express';

import type { QueryAsCaller } from '../http/caller.ts';
import { makeCursor, paginate } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { Statement } from '../postgres/pipeline.ts';
import {
  createEnvironmentSchema,
  environmentPathSchema,
  listEnvironmentsQuerySchema,
  type Environment,
} from './schemas.ts';

/** A Date, because pg makes it; in JSON it becomes ISO 8601 in UTC with milliseconds. */
type EnvironmentRow = Omit<Environment, 'created_at'> & { created_at: Date };

const COLUMNS = 'e.name, e.created_at, e.created_by';

const LIST = `
  select ${COLUMNS}
  from app_public.environments e
  where $1::text is null or e.name > $1
  order by e.name
  limit $2`;

const GET = `select ${COLUMNS} from app_public.environments e where e.name = $1`;

const CREATE = `select ${COLUMNS} from app_public.create_environment($1) e`;

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
      const { rows } = await query<EnvironmentRow>(request, { text: LIST }, values);
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
      const { rows } = await query<EnvironmentRow>(request, { text: GET }, [name]);
      if (rows.length === 0) await requireEnvironment(query, request, name);
      response.json(rows[0]);
    })
    .all(onlyMethods('GET'));

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
