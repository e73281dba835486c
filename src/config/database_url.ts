import { z } from '../lib/zod.ts';
import { read } from './read.ts';

/**
 * The parts of an address, by their delimiters alone: new URL() would take what is behind an unencoded / of a password for the name of
 * the database, which messages show.
 */
const PARTS =
  /^postgres(?:ql)?:\/\/(?:(?<login>[^/?#]*)@)?(?<host>[^/?#@]*)(?:\/(?<database>[^/?#@]*))?(?:\?(?<query>[^#]*))?$/;

/** How pg checks the server for each sslmode; those of libpq's that may do without TLS it doesn't know. */
const TLS_MODES: Readonly<Record<string, string>> = {
  disable: 'disable',
  // pg takes these for verify-full, and warns in eight lines that its next version won't.
  require: 'verify-full',
  'verify-ca': 'verify-full',
  'verify-full': 'verify-full',
  'no-verify': 'no-verify',
};

/** libpq's own meanings, which pg has with uselibpqcompat=true. */
const LIBPQ_MODES = ['disable', 'require', 'verify-ca', 'verify-full'];

const FORM =
  'an address such as postgres://user@host:5432/database, with a colon and the password behind the user';
const ENCODED =
  "an address whose user and password are percent-encoded: in them / is written %2F, ? %3F, # %23, % %25, @ %40, and a space %20. encodeURIComponent('…') in Node does it";
const PORT =
  'an address whose port is a number up to 65535, and whose user and password are percent-encoded';
const ONE_HOST = 'an address with one host, which leads to the primary';
const SSLMODE =
  'an address whose sslmode is verify-full (require and verify-ca mean the same here), no-verify or disable';
const SSL = 'an address with sslmode in place of ssl: verify-full, no-verify or disable';
const ROOT = 'an address that has sslrootcert with sslmode=verify-ca, or sslmode=verify-full';

/**
 * The address of a database, as it is used: with a host, which a socket's address may leave out (`postgres://user:password@/database?host=/cloudsql/…`),
 * and with the sslmode that pg means. The value may hold a password: no message quotes it.
 */
export const databaseUrl = read((text) => {
  const result = readAddress(text);
  return typeof result === 'string' ? result : { value: result.href };
}).register(z.globalRegistry, { secret: true });

/** An address, or what it should be. */
function readAddress(text: string): URL | string {
  const unreadable = /^postgres(ql)?:\/\/.*@/.test(text) ? ENCODED : FORM;
  const parts = PARTS.exec(text)?.groups;
  if (parts === undefined) return unreadable;
  const { login = '', host = '', database = '', query = '' } = parts;
  if ([login, host, database].some((part) => !isEncoded(part))) return ENCODED;
  // A ? of the password: what stands before it would be the host, which messages show and the resolver is asked for.
  if (query.includes('@')) return ENCODED;
  if (host.includes(',')) return ONE_HOST;
  const asked = new URLSearchParams(query);
  if (![portOf(host), asked.get('port')].every(isPort)) return PORT;
  const isSocket = asked.get('host')?.startsWith('/') === true;
  const lacksHost = host === '' && login !== '';
  if (lacksHost && !isSocket) return FORM;
  // new URL() takes no login without a host. pg goes by the query's.
  const url = URL.parse(lacksHost ? text.replace(/@(?=[/?])/, '@localhost') : text);
  if (url === null) return unreadable;
  return withTlsMode(url);
}

/** Behind the last colon, but for those within an IPv6 address. */
function portOf(host: string): string | null {
  return /:(?<port>[^:\]]*)$/.exec(host)?.groups?.port ?? null;
}

/** Left out, as after a colon too, it is pg's own. */
function isPort(port: string | null): boolean {
  return port === null || (/^\d{0,5}$/.test(port) && Number(port) <= 65_535);
}

function isEncoded(part: string): boolean {
  try {
    decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}

function withTlsMode(url: URL): URL | string {
  const { searchParams: asked } = url;
  if (!['true', '1', '0', 'no-verify', null].includes(asked.get('ssl'))) return SSL;
  const mode = asked.get('sslmode');
  if (mode === null) return url;
  if (asked.get('uselibpqcompat') === 'true') {
    if (mode === 'verify-ca' && !asked.has('sslrootcert')) return ROOT;
    return LIBPQ_MODES.includes(mode) ? url : SSLMODE;
  }
  const meant = Object.hasOwn(TLS_MODES, mode) ? TLS_MODES[mode] : undefined;
  if (meant === undefined) return SSLMODE;
  if (meant !== mode) asked.set('sslmode', meant);
  return url;
}
