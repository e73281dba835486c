import { trailFile } from '../audit/delivery/sinks/file.ts';
import type { Config } from '../config/config.ts';
import { makeToken } from './token.ts';

/** How far ahead the example schedules its change, in seconds: time enough to paste the next request. */
const EXAMPLE_AHEAD_SECONDS = 15;

/** What runs, for the person who started it. */
export interface Running {
  /** The address of the API. */
  readonly api: string;
  /** The link that signs the development admin in at the console, once; null where no token is made. */
  readonly enter: string | null;
  /** What a demo says in place of the tokens and the requests. */
  readonly demo?: string | undefined;
  /** Of the metrics, if they are served. */
  readonly metrics: string | null;
  /** Where an outside database is, without its password; null for the embedded one. */
  readonly database: string | null;
  /** How audit events are shown below: as short lines, as JSON, or not at all. */
  readonly shown: 'text' | 'json' | null;
}

/**
 * What `npm start` prints once everything runs: addresses, tokens, three requests that show the whole path, where data live, and how
 * to begin again. The requests work at every start, and each answer ends in a newline.
 */
export function welcome(config: Config, running: Running): string {
  const url = running.api;
  const metrics = running.metrics === null ? '' : `\n  Metrics       ${running.metrics}`;
  const ruru = config.nodeEnv === 'development' ? `\n  GraphQL IDE   ${url}/ruru` : '';
  const entrance =
    running.enter === null
      ? `${config.console.url ?? url}/console/`
      : `${running.enter}\n                (signs alice, an admin, in: once, within 10 minutes)`;
  return `
Halyard is running.

  Console       ${entrance}
  REST          ${url}/api/admin/flags
  GraphQL       ${url}/graphql${ruru}
  Ready         ${url}/readyz${metrics}

${dataOf(config, running)}
${running.demo ?? requestsOf(config, url)}
${running.shown === null ? '' : SHOWN[running.shown]}Ctrl-C stops everything.

`;
}

const SHOWN = {
  text: 'What happens to flags appears below, a line each. ',
  json: 'Audit events appear below as they are written, one JSON line each. ',
};

function dataOf({ dataDir, audit }: Config, { database }: Running): string {
  const trail = audit.sinks.includes('file')
    ? `\n  Audit trail   its copy is ${trailFile(dataDir)}`
    : '';
  return database === null
    ? `  Data          ${dataDir}${trail}\n  Begin again   stop it, then rm -rf ${quoted(dataDir)}\n`
    : `  Data          ${database}${trail}\n`;
}

/** A word of a shell. */
function quoted(path: string): string {
  return /^[\w./@%+,:-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

const NO_TOKENS = `Tokens come from your identity provider when JWT_JWKS_URI is set; with JWT_SECRET, \`npm run -s halyard -- token\` signs one.
`;

/** Tokens for the person who started it, or why there are none. */
type Tokens = { readonly admin: string; readonly viewer: string } | { readonly problem: string };

/** Tokens for an admin and a viewer, where they are made here: not in production, where no terminal or log should hold an admin's token. */
export function exampleTokens(config: Config): Tokens {
  if (config.jwt.jwksUri !== null || config.nodeEnv === 'production') return { problem: NO_TOKENS };
  // With JWT_ENVIRONMENTS_CLAIM a token must name the example's.
  const environments = config.jwt.claims.environments === null ? undefined : ['production'];
  const sign = (role: string, userId: string) =>
    makeToken({ role, userId, email: `${userId}@example.com`, environments }, config);
  try {
    return { admin: sign('admin', 'alice'), viewer: sign('viewer', 'vera') };
  } catch (error) {
    // As where JWT_ROLE_MAP has no name for one of the roles.
    const said = error instanceof Error ? error.message : String(error);
    return { problem: `There are no tokens to show. ${said}\n` };
  }
}

function requestsOf(config: Config, url: string): string {
  const tokens = exampleTokens(config);
  return 'problem' in tokens ? tokens.problem : withTokens(url, tokens);
}

function withTokens(url: string, tokens: { admin: string; viewer: string }): string {
  const send = `-H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json'`;
  const flags = `${url}/api/admin/flags`;
  return `A token for an admin and one for a viewer, good for 12 hours:

export ADMIN=${tokens.admin}
export VIEWER=${tokens.viewer}

Then paste these into another terminal: make a flag (or switch it off, where it is there already), switch it on ${EXAMPLE_AHEAD_SECONDS} seconds from now, and see who did it.

curl -sf ${flags} ${send} \\
  -d '{"flag_key": "wishlist-gallery"}' ||
curl -s -X PATCH ${flags}/wishlist-gallery ${send} \\
  -d '{"enabled": false}'; echo

curl -s ${flags}/wishlist-gallery/schedule ${send} \\
  -d "{\\"scheduled_at\\": \\"$(node -p 'new Date(Date.now() + ${EXAMPLE_AHEAD_SECONDS * 1000}).toISOString()')\\", \\"updates\\": {\\"enabled\\": true}}"; echo

curl -s ${url}/graphql ${send} \\
  -d '{"query": "{ auditEvents(orderBy: OCCURRED_AT_DESC, first: 5) { nodes { occurredAt eventType flagKey actorKind adminEmail metadata } } }"}'; echo
`;
}
