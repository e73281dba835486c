import type { Config } from '../config/config.ts';
import { makeToken } from './token.ts';

/** How far ahead the example schedules its change, in seconds: time enough to paste the next request. */
const EXAMPLE_AHEAD_SECONDS = 15;

/**
 * What `npm start` prints once everything runs: addresses, tokens, and three requests that show the whole path.
 *
 * @param urls the addresses of the API, and of the metrics if they are served.
 */
export function welcome(config: Config, urls: { api: string; metrics: string | null }): string {
  const url = urls.api;
  const tokens = developmentTokens(config);
  const metrics = urls.metrics === null ? '' : `\n  Metrics       ${urls.metrics}`;
  const ruru = config.nodeEnv === 'development' ? `\n  GraphQL IDE   ${url}/ruru` : '';
  return `
Halyard is running.

  REST          ${url}/api/admin/flags
  GraphQL       ${url}/graphql${ruru}
  Ready         ${url}/readyz${metrics}

${tokens === null ? NO_TOKENS : withTokens(url, tokens)}
Audit events appear below as they are written, one JSON line each. Ctrl-C stops everything.

`;
}

const NO_TOKENS = `Tokens come from your identity provider when JWT_JWKS_URI is set; with JWT_SECRET, \`npm run halyard -- token\` signs one.
`;

function withTokens(url: string, tokens: { admin: string; viewer: string }): string {
  return `A token for an admin and one for a viewer, good for 12 hours:

export ADMIN=${tokens.admin}
export VIEWER=${tokens.viewer}

Then paste these into another terminal: create a flag, switch it on ${EXAMPLE_AHEAD_SECONDS} seconds from now, and see who did it.

curl -s ${url}/api/admin/flags -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \\
  -d '{"flag_key": "wishlist-gallery"}'

curl -s ${url}/api/admin/flags/wishlist-gallery/schedule -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \\
  -d "{\\"scheduled_at\\": \\"$(node -p 'new Date(Date.now() + ${EXAMPLE_AHEAD_SECONDS * 1000}).toISOString()')\\", \\"updates\\": {\\"enabled\\": true}}"

curl -s ${url}/graphql -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \\
  -d '{"query": "{ auditEvents(orderBy: OCCURRED_AT_DESC, first: 5) { nodes { occurredAt eventType flagKey actorKind adminEmail metadata } } }"}'
`;
}

function developmentTokens(config: Config): { admin: string; viewer: string } | null {
  // In production nobody's terminal or log should hold an admin's token.
  if (config.jwt.jwksUri !== null || config.nodeEnv === 'production') return null;
  return {
    admin: makeToken({ role: 'admin', userId: 'alice', email: 'alice@example.com' }, config),
    viewer: makeToken({ role: 'viewer', userId: 'vera', email: 'vera@example.com' }, config),
  };
}
