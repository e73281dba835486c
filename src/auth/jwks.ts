import type { GetVerificationKey } from 'express-jwt';
import jwksRsa from 'jwks-rsa';
import { z } from '../lib/zod.ts';
import type { Logger } from '../lib/log.ts';

/** Bits of an RSA key's modulus, as RFC 7518 §3.3 demands. */
const MIN_RSA_BITS = 2048;

const unknown = z.optional(z.unknown());
const key = z.looseObject({ kty: z.unknown(), use: unknown, kid: unknown, n: unknown });
const keySet = z.object({ keys: z.array(key).check(z.maxLength(1_000)) });

type Key = z.infer<typeof key>;
type KeySet = z.infer<typeof keySet>;

/** More than any provider's keys take, and little enough to be held. */
const MAX_BYTES = 1_048_576;

/** How long an identity provider may take before a request is answered without it. */
const FETCH_TIMEOUT_MS = 5_000;
/** How much longer a key is used while the identity provider can't be reached. */
const STALE_MS = 3_600_000;
/** The same failure is not asked for again within this time. */
const FAILURE_MEMORY_MS = 1_000;

export interface JwksOptions {
  /** How long a key is used before it is read again, so how long a withdrawn key still counts. */
  readonly cacheMs?: number;
  /** Least time between two reads of the key set, so how soon a new key is noticed. */
  readonly minIntervalMs?: number;
}

/** The identity provider's keys can't be had now: not the caller's fault, so 503 and not 401. */
export class KeysUnavailableError extends Error {
  override readonly name = 'KeysUnavailableError';
  readonly status = 503;
  readonly code = 'jwks_unavailable';

  constructor(cause: unknown) {
    super("The identity provider's keys can't be read now: try again.", { cause });
  }
}

/** The key that a token's `kid` names, or undefined. Rejects with KeysUnavailableError when the key set can't be read. */
export function makeJwksKeys(
  uri: string,
  log: Logger,
  { cacheMs = 600_000, minIntervalMs = 10_000 }: JwksOptions = {},
): GetVerificationKey {
  const { fetcher, isUnknown } = makeFetcher(log, minIntervalMs);
  const lookUp = jwksRsa.expressJwtSecret({
    jwksUri: uri,
    fetcher,
    cache: true,
    cacheMaxEntries: 32,
    cacheMaxAge: cacheMs,
    cacheMaxAgeFallback: STALE_MS,
    onStaleCacheFallback: (error) =>
      log.warn({ err: error }, "using a cached key: the identity provider can't be reached"),
    handleSigningKeyError(error, done) {
      // An unknown kid goes on without a key and fails verification.
      const unknownKid = error === null || error instanceof jwksRsa.SigningKeyNotFoundError;
      done(unknownKid ? null : new KeysUnavailableError(error));
    },
  }) as GetVerificationKey;
  // jwks-rsa would read each key of the set again, which takes longer than all the rest of a request, of a client without a token.
  return (request, token) => (isUnknown(token?.header.kid) ? undefined : lookUp(request, token));
}

/**
 * Shares what it reads for `minIntervalMs`. jwks-rsa's own limit refuses instead: made-up kids would lock out good tokens.
 *
 * @returns `isUnknown`: whether no key has that kid, as far as what is shared now says
 */
function makeFetcher(log: Logger, minIntervalMs: number) {
  let last: Promise<KeySet> | null = null;
  // All that were read so far: jwks-rsa keeps one that was withdrawn for a while.
  const kids = new Set<unknown>();
  let validUntil = 0;
  // Whether the last read is over and succeeded.
  let isKnown = false;

  async function load(uri: string): Promise<KeySet> {
    try {
      const keys = usable(await fetchKeySet(uri), log);
      for (const { kid } of keys.keys) kids.add(kid);
      isKnown = true;
      validUntil = performance.now() + minIntervalMs;
      return keys;
    } catch (error) {
      validUntil = performance.now() + Math.min(FAILURE_MEMORY_MS, minIntervalMs);
      log.error({ err: error }, "the identity provider's keys can't be read: check JWT_JWKS_URI");
      throw error;
    }
  }

  return {
    fetcher: (uri: string): Promise<KeySet> => {
      if (last === null || performance.now() >= validUntil) {
        validUntil = Number.POSITIVE_INFINITY; // until it is here, everyone waits for the same read
        isKnown = false;
        last = load(uri);
      }
      return last;
    },
    isUnknown: (kid: unknown): boolean =>
      isKnown && typeof kid === 'string' && !kids.has(kid) && performance.now() < validUntil,
  };
}

async function fetchKeySet(uri: string): Promise<KeySet> {
  const response = await fetch(uri, {
    headers: { accept: 'application/json' },
    redirect: 'error', // an https address must not lead to an http one
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`Make JWT_JWKS_URI answer 200: it answered ${response.status}.`);
  }
  return keySet.parse(JSON.parse(await boundedText(response)));
}

/** The answer's text. @throws Error when it is longer than any key set */
async function boundedText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES)
      throw new Error(`Make JWT_JWKS_URI answer at most ${MAX_BYTES} bytes: it answered more.`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The keys that signatures are verified with: jwks-rsa passes over those for other uses. @throws Error when there are none */
function usable({ keys }: KeySet, log: Logger): KeySet {
  const [weak, strong] = [keys.filter(isWeak), keys.filter((candidate) => !isWeak(candidate))];
  if (weak.length > 0)
    log.warn(
      { kids: weak.map(({ kid }) => kid) },
      `tokens of RSA keys below ${MIN_RSA_BITS} bits are refused: have the identity provider sign with others`,
    );
  if (!strong.some(({ kty, use = 'sig' }) => (kty === 'RSA' || kty === 'EC') && use === 'sig'))
    throw new Error('Make JWT_JWKS_URI answer a key set with a key that verifies signatures.');
  return { keys: strong };
}

function isWeak({ kty, n }: Key): boolean {
  if (kty !== 'RSA' || typeof n !== 'string') return false;
  const modulus = Buffer.from(n, 'base64url').toString('hex').replace(/^0+/, '');
  return BigInt(`0x0${modulus}`) < 1n << BigInt(MIN_RSA_BITS - 1);
}
