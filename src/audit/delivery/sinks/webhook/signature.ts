import { createHmac } from 'node:crypto';
import { read } from '../../../../config/read.ts';
import { z } from '../../../../lib/zod.ts';

// Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

/** Bytes that the specification allows for a key. */
const MIN_BYTES = 24;
const MAX_BYTES = 64;

/** Secrets as text, separated by blanks: the receiver's next one first, say, while it changes from one to another. */
export const webhookSecrets = read((text) => {
  const keys = text.split(/\s+/).map(readSecret);
  if (keys.every((key) => key !== null)) return { value: keys };
  return `whsec_ and ${MIN_BYTES} to ${MAX_BYTES} random bytes in base64, as echo "whsec_$(openssl rand -base64 32)" prints; while it changes, both, separated by a blank`;
}).register(z.globalRegistry, { secret: true });

function readSecret(text: string): Buffer | null {
  const base64 = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1] ?? '';
  const key = Buffer.from(base64, 'base64');
  // Buffer.from passes over what is no base64, and what is cut short.
  const isWhole = key.toString('base64') === base64;
  return isWhole && key.length >= MIN_BYTES && key.length <= MAX_BYTES ? key : null;
}

/**
 * The headers by which a receiver verifies a message.
 *
 * @param id the same at each attempt
 * @param seconds when the attempt is made, since 1970
 * @param keys each makes a signature, one of which must be the receiver's
 */
export function signatureHeaders(
  keys: readonly Buffer[],
  id: string,
  seconds: number,
  body: string,
): Record<string, string> {
  const signatures = keys.map(
    (key) => `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`,
  );
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    ...(signatures.length > 0 && { 'webhook-signature': signatures.join(' ') }),
  };
}
