import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';

/** PostgreSQL's own, unless the server's scram_iterations says otherwise. */
export const ITERATIONS = 4096;
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
