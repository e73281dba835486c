import { OWN_CLAIM_NAMES } from '../../src/auth/claims.ts';
import { TEST_SECRET } from './tokens.ts';

/** Authentication by TEST_SECRET alone. */
export const HS256 = {
  secret: TEST_SECRET,
  jwksUri: null,
  algorithms: ['HS256'],
  audience: null,
  issuer: null,
  claims: OWN_CLAIM_NAMES,
};

/** What a rejection tells the client; `null` when there was none. */
export async function refusal(
  work: Promise<unknown>,
): Promise<{ status: number; code: string } | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (!(error instanceof Error && 'status' in error && 'code' in error)) throw error;
    return { status: error.status as number, code: error.code as string };
  }
}

/** The refusal of a token. */
export const unauthorized = (code: string) => ({ status: 401, code });
