import { findClaim } from './claim_path.ts';
import { InvalidClaimsError, requireObject, type ClaimNames } from './claims.ts';

/**
 * Checks that a verified payload was made for this API, by the issuer that counts here. A string is one audience, an array several.
 *
 * @param expected null for what isn't checked
 * @throws InvalidClaimsError that names the claim that was looked for, and not what is in it
 */
export function requireRecipient(
  payload: unknown,
  expected: { readonly audience: string | null; readonly issuer: string | null },
  { audience: name }: Pick<ClaimNames, 'audience'>,
): void {
  const claims = requireObject(payload);
  const audience = findClaim(claims, name);
  const audiences: readonly unknown[] = Array.isArray(audience) ? audience : [audience];
  if (expected.audience !== null && !audiences.includes(expected.audience))
    throw new InvalidClaimsError(
      `Ask for a token for this API: its claim ${name} must name the audience that JWT_AUDIENCE names here, and ${lacks(audience)}.`,
    );
  const issuer = findClaim(claims, 'iss');
  if (expected.issuer !== null && issuer !== expected.issuer)
    throw new InvalidClaimsError(
      `Ask this API's identity provider for a token: its claim iss must be exactly what JWT_ISSUER is here, and ${lacks(issuer)}.`,
    );
}

function lacks(claim: unknown): string {
  return claim === undefined
    ? 'this token has no such claim'
    : 'the claim of this token is another';
}
