import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';
import type pg from 'pg';
import { isErrno } from '../../lib/errno.ts';
import { withConnection } from '../connection.ts';

/** A role of Halyard's that logs in. An empty password is one that others set. */
export interface Login {
  readonly role: string;
  readonly password: string;
}

/**
 * Gives a login its password, as a verifier, unless it has it: the server's log never holds the password.
 *
 * @param client of an administrator
 * @param rootUrl that administrator's
 * @throws the database's error, as where the server takes no verifiers
 */
export async function setPassword(
  client: pg.Client,
  rootUrl: string,
  { role, password }: Login,
): Promise<void> {
  if (password === '' || (await hasPassword(client, rootUrl, { role, password }))) return;
  const { rows } = await client.query<{ iterations: number | null }>(
    `select current_setting('scram_iterations', true)::int as iterations`,
  );
  const iterations = rows[0]?.iterations ?? ITERATIONS;
  const verifier = scramVerifier(password, { iterations });
  await client.query(`alter role ${role} with password ${client.escapeLiteral(verifier)}`);
}

async function hasPassword(client: pg.Client, rootUrl: string, login: Login): Promise<boolean> {
  const { rows } = await client.query<{ readable: boolean }>(
    `select has_column_privilege('pg_authid', 'rolpassword', 'select') as readable`,
  );
  if (rows[0]?.readable !== true) return isTaken(rootUrl, login);
  const known = await client.query<{ rolpassword: string | null }>(
    'select rolpassword from pg_authid where rolname = $1',
    [login.role],
  );
  return isVerifierOf(known.rows[0]?.rolpassword ?? '', login.password);
}

/** Whether the server takes the password from here, and another one not: where it trusts each login, that says nothing. */
async function isTaken(rootUrl: string, login: Login): Promise<boolean> {
  const other = { ...login, password: randomBytes(16).toString('base64url') };
  return (await logsIn(rootUrl, login)) && !(await logsIn(rootUrl, other));
}

async function logsIn(rootUrl: string, { role, password }: Login): Promise<boolean> {
  const url = new URL(rootUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  try {
    await withConnection(url.href, { name: 'halyard setup' }, () => Promise.resolve());
    return true;
  } catch (error) {
    // Past the password the server may still refuse the database.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return isErrno(cause) && ['42501', '3D000'].includes(cause.code);
  }
}

/** PostgreSQL's own, unless the server's scram_iterations says otherwise. */
const ITERATIONS = 4096;
const SALT_BYTES = 16;
const HASH_BYTES = 32;

/**
 * The verifier that PostgreSQL keeps of a password for SCRAM-SHA-256 and takes in its place, so that the password itself
 * reaches neither the server nor its log (RFC 5803, RFC 7677; the form of pg_authid.rolpassword).
 *
 * @param options.salt random by default
 * @param options.iterations of the hash, which the password's guesser has to repeat
 */
export function scramVerifier(
  password: string,
  { salt = randomBytes(SALT_BYTES), iterations = ITERATIONS } = {},
): string {
  const salted = pbkdf2Sync(saslPrep(password), salt, iterations, HASH_BYTES, 'sha256');
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  const serverKey = hmac(salted, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

/** Whether a verifier of pg_authid is the password's; false for one of another kind, such as md5. */
export function isVerifierOf(verifier: string, password: string): boolean {
  const parts = /^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$/.exec(verifier);
  if (parts === null) return false;
  const [, iterations, salt = ''] = parts;
  const own = scramVerifier(password, {
    salt: Buffer.from(salt, 'base64'),
    iterations: Number(iterations),
  });
  return own.length === verifier.length && timingSafeEqual(Buffer.from(own), Buffer.from(verifier));
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** RFC 3454, table C.1.2. */
const OTHER_SPACES = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/gu;
/** RFC 3454, table B.1. */
const MAPPED_TO_NOTHING =
  /\u00AD|\u034F|\u1806|[\u180B-\u180D]|\u200C|\u200D|\u2060|[\uFE00-\uFE0F]|\uFEFF/gu;

/** SASLprep (RFC 4013), as far as it changes a text: what it prohibits clients and server leave as it is. */
function saslPrep(password: string): string {
  return password.replace(OTHER_SPACES, ' ').replace(MAPPED_TO_NOTHING, '').normalize('NFKC');
}
