import { chosenSinks } from '../audit/delivery/sinks/index.ts';
import { FORWARDERS, type Command } from './setting.ts';
import { SETTINGS, type Values } from './settings.ts';

const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];
const KEY_ALGORITHMS = ['RS', 'ES', 'PS'].flatMap((kind) =>
  [256, 384, 512].map((n) => `${kind}${n}`),
);

/** Variables that were read once, and how to set in the database what they said. */
const MOVED = {
  AUDIT_RETENTION: 'audit_retention "24 months"',
  SCHEDULE_RETENTION: 'schedule_retention "applied=90,cancelled=30"',
} as const;

/** Whether a variable is set, be its value good or bad. */
type IsSet = (name: string) => boolean;

/** What settings must agree on: a sentence for each mistake. */
export function* ruleProblems(values: Values, command: Command, isSet: IsSet): Generator<string> {
  // With an unknown NODE_ENV the rules of production hold, so that all mistakes are reported.
  const isProduction = ((values.NODE_ENV as string | null) ?? 'production') === 'production';
  yield* algorithmProblems(values, isSet);
  yield* databaseProblems(command, isProduction, isSet);
  yield* tokenProblems(command, isProduction, isSet);
  if (command === 'api' || command === 'start') yield* consoleProblems(isProduction, isSet);
  if (!FORWARDERS.some((forwarder) => forwarder === command)) return;
  for (const kind of chosenSinks(values.AUDIT_SINK ?? []))
    yield* kind.problems?.(values, isSet) ?? [];
  // A worker that ignored them would keep what is to be purged.
  for (const name of Object.keys(MOVED) as (keyof typeof MOVED)[])
    if (isSet(name))
      yield `Unset ${name}, which is a setting in the database now: npm run halyard -- settings set ${MOVED[name]}.`;
}

/** The signature algorithms that count. Never a mix: a public key must not become the secret of an HS* signature. */
export function algorithmsOf(values: Values): readonly string[] {
  return values.JWT_ALGORITHMS ?? (values.JWT_JWKS_URI === null ? ['HS256'] : ['RS256', 'ES256']);
}

function* algorithmProblems(values: Values, isSet: IsSet): Generator<string> {
  const allowed = isSet('JWT_JWKS_URI') ? KEY_ALGORITHMS : SECRET_ALGORITHMS;
  if (values.JWT_ALGORITHMS?.some((algorithm) => !allowed.includes(algorithm)))
    yield (
      `Set JWT_ALGORITHMS to some of ${allowed.join(', ')}, separated by commas: ` +
      'HS* goes with JWT_SECRET; RS*, ES* and PS* go with JWT_JWKS_URI.'
    );
  if (isSet('JWT_SECRET') && isSet('JWT_JWKS_URI'))
    yield 'Set JWT_SECRET or JWT_JWKS_URI, not both: one of them must be in charge.';
  // RFC 7518 §3.2: the key of an HMAC is at least as long as its hash.
  const hashes = SECRET_ALGORITHMS.filter((algorithm) => algorithmsOf(values).includes(algorithm));
  const bytes = Math.max(256, ...hashes.map((algorithm) => Number(algorithm.slice(2)))) / 8;
  if (values.JWT_SECRET !== null && Buffer.byteLength(values.JWT_SECRET) < bytes)
    yield `Set JWT_SECRET to at least ${bytes} bytes: openssl rand -base64 48.`;
}

/** In development the embedded server stands in for a database that isn't named, except for setup. */
function* databaseProblems(command: Command, isProduction: boolean, isSet: IsSet) {
  if (isProduction || command === 'setup') {
    for (const [name, { required }] of Object.entries(SETTINGS))
      if (required?.includes(command) && !isSet(name)) yield `Set ${name}: ${command} needs it.`;
  } else if (command === 'start' && !isSet('DATABASE_URL')) {
    // Half of it on the embedded server and half on another would migrate one and serve the other.
    for (const name of ['AUTH_DATABASE_URL', 'WORKER_DATABASE_URL'] as const)
      if (isSet(name)) yield `Set DATABASE_URL as well, or unset ${name}.`;
  }
}

function* tokenProblems(command: Command, isProduction: boolean, isSet: IsSet) {
  if (isSet('JWT_AUDIENCE_CLAIM') && !isSet('JWT_AUDIENCE'))
    yield 'Unset JWT_AUDIENCE_CLAIM, or set JWT_AUDIENCE as well: without it no audience is looked for.';
  const verifies = command === 'api' || command === 'start';
  if (isProduction && verifies && !isSet('JWT_SECRET') && !isSet('JWT_JWKS_URI'))
    yield "Set JWT_SECRET or JWT_JWKS_URI: the API can't verify tokens without.";
  if (command === 'token' && isSet('JWT_JWKS_URI'))
    yield 'Unset JWT_JWKS_URI, or ask your identity provider: token signs by secret.';
  else if (command === 'token' && isProduction && !isSet('JWT_SECRET'))
    yield 'Set JWT_SECRET: token signs with it.';
}

function* consoleProblems(isProduction: boolean, isSet: IsSet) {
  if (!isSet('OIDC_ISSUER')) {
    for (const name of ['OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'OIDC_NAME'] as const)
      if (isSet(name)) yield `Set OIDC_ISSUER as well, or unset ${name}.`;
    return;
  }
  if (!isSet('OIDC_CLIENT_ID')) yield 'Set OIDC_CLIENT_ID: OIDC_ISSUER knows the console by it.';
  if (!isSet('JWT_JWKS_URI'))
    yield 'Set JWT_JWKS_URI to the keys of OIDC_ISSUER: the API verifies its tokens with them.';
  if (!isProduction) return;
  if (!isSet('CONSOLE_URL'))
    yield 'Set CONSOLE_URL: OIDC_ISSUER sends people back there, such as https://flags.example.com.';
  if (!isSet('SESSION_KEY'))
    yield 'Set SESSION_KEY: the sessions of the console are encrypted with it (openssl rand -base64 32).';
}
