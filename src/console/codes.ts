import { randomBytes } from 'node:crypto';
import { sha256 } from './secrets.ts';

/** Milliseconds for which a code counts. */
const LIFE_MS = 600_000;

/** One-time codes for tokens, in memory, as hashes: they end with the process. */
export function makeCodes() {
  const tokens = new Map<string, { readonly token: string; readonly endsAt: number }>();
  const hashOf = (code: string) => sha256(code).toString('base64');

  return {
    /** Makes a code that stands for a token, once and for 10 minutes. */
    issue(token: string): string {
      const code = randomBytes(24).toString('base64url');
      tokens.set(hashOf(code), { token, endsAt: performance.now() + LIFE_MS });
      return code;
    },
    /**
     * Uses a code up for `work`, which gets its token. When that fails, the code counts again.
     *
     * @returns whether there was such a code
     */
    async redeem(code: string, work: (token: string) => Promise<void>): Promise<boolean> {
      const hash = hashOf(code);
      const found = tokens.get(hash);
      tokens.delete(hash);
      if (found === undefined || found.endsAt <= performance.now()) return false;
      try {
        await work(found.token);
        return true;
      } catch (error) {
        tokens.set(hash, found);
        throw error;
      }
    },
  };
}
