import { createHash } from 'node:crypto';
import type { Server } from 'node:http';
import type { Express } from 'express';
import { buildSchema } from 'postgraphile/graphql';
import { grafserv } from 'postgraphile/grafserv/express/v4';

/** Says what the page may load and run; the hashes of its scripts depend on the settings that are written into them. */
const pagePolicy: GraphileConfig.Plugin = {
  name: 'HalyardPagePolicy',
  version: '1.0.0',
  grafserv: {
    middleware: {
      async ruruHTML(next, event) {
        const html = await next();
        const { expressv4 } = event.request.requestContext;
        expressv4?.res.setHeader('Content-Security-Policy', policyOf(html));
        return html;
      },
    },
  },
};

/** Mounts the GraphQL IDE at /ruru, for development: a page that queries /graphql as any client does, token included. */
export async function mountRuru(app: Express, server: Server): Promise<void> {
  const pages = grafserv({
    preset: {
      plugins: [pagePolicy],
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

/** A Content-Security-Policy (Level 3) for a page: from this server alone, and of the scripts in it only those that are there now. */
function policyOf(html: string): string {
  const scripts = [...html.matchAll(/<script[^>]*>([^]*?)<\/script>/g)].map(
    ([, script = '']) => `'sha256-${createHash('sha256').update(script).digest('base64')}'`,
  );
  return [
    "default-src 'none'",
    `script-src 'self' ${scripts.join(' ')}`,
    // The editor sets styles of its own.
    "style-src 'self' 'unsafe-inline'",
    "font-src 'self' data:",
    "img-src 'self' data:",
    "worker-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}
