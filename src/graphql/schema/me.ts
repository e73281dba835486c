import { context, get, lambda, type Step } from 'postgraphile/grafast';
import { extendSchema, gql } from 'postgraphile/utils';
import type { Claims } from '../../auth/claims.ts';
import { mayProve } from '../../auth/rights.ts';

/** The key of the context under which plans find the claims of the verified token. */
export const CLAIMS = 'halyardClaims';

const ofClaims = (read: (claims: Claims) => unknown) => ($claims: Step) =>
  lambda($claims, (claims) => read(claims as Claims), true);

/** The user as the verified token has it: no statement, and nothing that the client says of itself. */
export const me = extendSchema({
  typeDefs: gql`
    extend type Query {
      "The user of the token that this request was sent with, as the API has verified it."
      me: Me!
    }

    "What a verified token says about its user."
    type Me {
      "The user’s id; null when the token names none."
      userId: String
      "The user’s e-mail address; null when the token has none."
      email: String
      "admin, auditor or viewer."
      role: String!
      "The environments that the token is limited to; null means all."
      environments: [String!]
      "When the token expires; null for a token that doesn’t."
      expiresAt: Datetime
      "Whether the token may ask for proofs of events: that of an admin or an auditor which isn’t limited to environments."
      mayProve: Boolean!
    }
  `,
  objects: {
    Query: { plans: { me: () => get(context(), CLAIMS as never) } },
    Me: {
      plans: {
        userId: ofClaims(({ userId }) => userId),
        email: ofClaims(({ email }) => email),
        role: ofClaims(({ role }) => role),
        environments: ofClaims(({ environments }) => environments),
        expiresAt: ofClaims(({ expiresAt }) => expiryOf(expiresAt)),
        mayProve: ofClaims(mayProve),
      },
    },
  },
});

/** The last instant that four digits of a year have. */
const END_OF_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59);

/** @param seconds since 1970; a token may name an end that no Date reaches */
function expiryOf(seconds: number | null): string | null {
  if (seconds === null) return null;
  return new Date(Math.min(seconds * 1000, END_OF_TIME_MS)).toISOString();
}
