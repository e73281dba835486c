import type { Server } from 'node:http';

import type { Express } from 'express';
import { buildSchema } from 'postgraphile/graphql';
import { grafserv } from 'postgraphile/grafserv/express/v4';

/** Mounts the GraphQL IDE at /ruru, for development: a page that queries /graphql as any client does, token included. */
export async function mountRuru(app: Express, server: Server): Promise<void> {
  const pages = grafserv({
    preset: {
      grafserv: {
        graphqlPath: '/graphql',
        graphiql: true,
        graphiqlPath: '/ruru',
        graphiqlStaticPath: '/ruru-static/',
        graphiqlOnGraphQLGET: false,
        websockets: true,
      },
    },
    // Its own GraphQL is never reached: /graphql is mounted before it.
    schema: buildSchema('type Query { unused: Boolean }'),
  });
  await pages.addTo(app, server, false);
}
