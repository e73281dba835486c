import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { developmentSecret } from '../auth/token.ts';
import type { Config } from '../config/config.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAC_BYTES = 16;

export const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest();

/** Encrypts and signs what leaves this process: rows in the database and cookies. */
export type Secrets = ReturnType<typeof makeSecrets>;

/**
 * @param config its SESSION_KEY; without one, outside production, what the secret of the tokens gives. In production without one there
 *   are no sessions, and no cookie is one
 * @throws when used, what developmentSecret throws
 */
export function makeSecrets(config: Config) {
  const keys = new Map<string, Buffer>();
  let source: Buffer | string | undefined;

  /** A key for each purpose, so that what was made for one is never taken for another. Made late: most APIs have no session. */
  function keyFor(purpose: string): Buffer {
    source ??=
      config.console.sessionKey ??
      (config.nodeEnv === 'production'
        ? randomBytes(32)
        : (config.jwt.secret ?? developmentSecret(config.dataDir, config.nodeEnv)));
    const key =
      keys.get(purpose) ??
      Buffer.from(hkdfSync('sha256', source, '', `halyard console: ${purpose}`, 32));
    keys.set(purpose, key);
    return key;
  }

  const macOf = (purpose: string, data: Buffer) =>
    createHmac('sha256', keyFor(purpose)).update(data).digest().subarray(0, MAC_BYTES);

  return {
    /** AES-256-GCM. @param context what the text belongs to: it can't be decrypted elsewhere */
    encrypt(purpose: string, text: string, context: Buffer): Buffer {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', keyFor(purpose), nonce).setAAD(context);
      const body = [cipher.update(text, 'utf8'), cipher.final()];
      return Buffer.concat([nonce, ...body, cipher.getAuthTag()]);
    },
    /** @returns null for what this key didn't encrypt, in this context */
    decrypt(purpose: string, sealed: Buffer, context: Buffer): string | null {
      if (sealed.length < NONCE_BYTES + TAG_BYTES) return null;
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const decipher = createDecipheriv('aes-256-gcm', keyFor(purpose), nonce, {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(context).setAuthTag(sealed.subarray(-TAG_BYTES));
      try {
        const body = decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES));
        return Buffer.concat([body, decipher.final()]).toString('utf8');
      } catch {
        return null;
      }
    },
    /** Text for a cookie: the data and their HMAC. */
    sign: (purpose: string, data: Buffer): string =>
      Buffer.concat([data, macOf(purpose, data)]).toString('base64url'),
    /** The data of a signed text; null for one that wasn't signed here. */
    verify(purpose: string, text: string): Buffer | null {
      const bytes = Buffer.from(text, 'base64url');
      if (bytes.length <= MAC_BYTES) return null;
      const [data, mac] = [bytes.subarray(0, -MAC_BYTES), bytes.subarray(-MAC_BYTES)];
      return timingSafeEqual(mac, macOf(purpose, data)) ? data : null;
    },
  };
}
