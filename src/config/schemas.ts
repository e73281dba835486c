import { z } from '../lib/zod.ts';
import { read } from './read.ts';
import { isLoopback } from '../lib/loopback.ts';
import { isRole, ROLES, type Role } from '../lib/roles.ts';

/** Items separated by commas. */
const items = z.pipe(
  z.string(),
  z.transform((text) => text.split(',').map((item) => item.trim())),
);

// What the settings' texts may be. Each error completes the sentence "Set NAME to …".

/** The value may hold a password or a key: no message quotes it. */
const SECRET = { secret: true };

/** One of these words. */
export function oneOf<const T extends readonly string[]>(words: T) {
  return z.enum(words, { error: `one of ${words.join(', ')}` });
}

/** Some of these words, separated by commas, each once. */
export function someOf(words: readonly string[]) {
  const error = `some of ${words.join(', ')}, each once, separated by commas`;
  return items.check(
    z.refine(
      (given) =>
        new Set(given).size === given.length && given.every((word) => words.includes(word)),
      { error },
    ),
  );
}

/** Any text; which ones count depends on other settings. */
export const anyText = z.string();

/** A text that matches a pattern, which `error` describes. */
export function matching(pattern: RegExp, error: string) {
  return z.string().check(z.regex(pattern, { error }));
}

/** Decimal digits only: Number() would take 3e3 and white space too. */
export function wholeNumber(min: number, max: number) {
  const error = `a whole number from ${min} to ${max}`;
  return z
    .pipe(matching(/^\d{1,6}$/, error), z.transform(Number))
    .check(z.refine((n) => n >= min && n <= max, { error }));
}

export const host = matching(
  /^[\w.:-]+$/,
  'a host name or address without brackets, such as 127.0.0.1',
);

export const port = wholeNumber(0, 65_535);

export { databaseUrl } from './database_url.ts';

/** The address of an identity provider's public keys. */
export const jwksUri = z
  .string()
  .check(
    z.refine(isConfidential, {
      error: 'an https address (http is for loopback only)',
      abort: true,
    }),
    z.refine((text) => loginOf(text) === ':', {
      error: 'an address without user and password: public keys need none',
    }),
  )
  .register(z.globalRegistry, SECRET);

/** The address of an identity provider, as its tokens have it in iss. */
export const issuer = z.string().check(
  z.refine((text) => isConfidential(text) && isBare(text), {
    error:
      'the https address that the identity provider calls its issuer, without a query (http is for loopback only)',
  }),
);

/** Where browsers reach this API: a scheme, a host and perhaps a port. */
export const origin = z.pipe(
  z.string().check(
    z.refine((text) => isConfidential(text) && new URL(text).origin === text.replace(/\/$/, ''), {
      error:
        'an https address without a path, such as https://flags.example.com (http is for loopback only)',
      abort: true,
    }),
  ),
  z.transform((text) => new URL(text).origin),
);

/** Scopes of OAuth 2.0 (RFC 6749, 3.3), separated by spaces. */
export const scopes = matching(
  /^(?=(.* )?openid( |$))[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/,
  'scopes separated by single spaces, openid among them',
);

/** 32 bytes in base64. */
export const key = z
  .pipe(
    matching(/^[A-Za-z0-9+/_-]{43}=?$/, '32 random bytes in base64: openssl rand -base64 32'),
    z.transform((text) => Buffer.from(text, 'base64')),
  )
  .register(z.globalRegistry, SECRET);

/** A secret that signs; how long it must be depends on the algorithms. */
export const secret = z
  .string()
  .check(
    z.refine((text) => !text.includes('-----BEGIN'), {
      error: 'a random secret and no PEM key: serve public keys by JWT_JWKS_URI',
    }),
  )
  .register(z.globalRegistry, SECRET);

/** Items separated by commas, each once. */
export const list = z.pipe(
  items,
  z.transform((given) => [...new Set(given)]),
);

/** The name of a token's claim, or the path to it. */
export const claimName = matching(
  // Neither a list nor a step without a name: both would find nothing in any token.
  /^(?=.{1,255}$)[^\s.,"']+(\.[^\s.,"']+)*$/u,
  'the name of one claim, or the path to it, such as roles, realm_access.roles or https://example.com/roles',
);

/** NAME=role, separated by commas: which role a name in a token stands for. A name may have an equals sign, and no comma. */
export const roleMap = read((text) => {
  const map = new Map<string, Role>();
  for (const item of text.split(',')) {
    const [, name = '', role = ''] = /^(.*)=(.*)$/s.exec(item) ?? [];
    const key = name.trim();
    if (key === '' || !isRole(role.trim()) || map.has(key)) {
      return `names of roles in tokens, each once, with ${ROLES.join(', ')} behind an equals sign, such as platform-admins=admin,ops=viewer`;
    }
    map.set(key, role.trim() as Role);
  }
  return { value: map };
});

/** Whether an address has neither login, query nor fragment. */
function isBare(text: string): boolean {
  const { username, password, search, hash } = new URL(text);
  return `${username}${password}${search}${hash}` === '';
}

function loginOf(url: string): string {
  const { username, password } = new URL(url);
  return `${username}:${password}`;
}

function isConfidential(text: string): boolean {
  const url = URL.parse(text);
  return url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback(url.hostname));
}
