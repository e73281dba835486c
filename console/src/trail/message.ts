/**
 * The very text of an event that is hashed and shipped: its payload with its number put in before its level, as
 * app_private.shipped_message() does.
 */
export function messageOf(payload: string, seq: string): string {
  const at = Math.max(payload.indexOf(', "level": '), 0);
  return `${payload.slice(0, at)}, "seq": ${seq}${payload.slice(at)}`;
}

/**
 * The leaf of a message: SHA-256 of a zero byte and the message in UTF-8, computed here and not asked for.
 *
 * @returns in hexadecimal; null where the browser gives pages no hash, which it does by https and on the own machine alone
 */
export async function leafOf(message: string): Promise<string | null> {
  // Types have it always.
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return null;
  const text = new TextEncoder().encode(message);
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text, 1);
  const hash = new Uint8Array(await subtle.digest('SHA-256', bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
