import type { IncomingMessage } from 'node:http';
import type { Request, Response } from 'express';
import { AuthenticationError, type Authentication, type SessionTokens } from '../auth/auth.ts';
import { atTime } from '../lib/wait.ts';
import type { Sessions } from './sessions.ts';
import type { Site } from './site.ts';

/** Milliseconds of a session whose token has no end: 12 hours. */
const DEFAULT_LIFE_MS = 43_200_000;
/** Milliseconds of a session at most, 30 days: a token may be good for longer than a date reaches. */
const MAX_LIFE_MS = 2_592_000_000;
/** How long a browser keeps the cookie of a session that has ended, in milliseconds: so long the page can say that it has. */
const AFTERLIFE_MS = 604_800_000;

const LONG = 'The token is too long for a session: it may have 16,000 bytes.';

/** What the page may know of its session: never the token. */
export interface SessionState {
  readonly signed_in: boolean;
  readonly reason?: 'ended' | null;
  readonly expires_at?: string;
}

interface Parts {
  readonly sessions: Sessions;
  readonly site: Site;
}

/** The tokens of requests that have a session and no token of their own. */
export function makeSessionTokens({ sessions, site }: Parts): SessionTokens {
  const cookieOf = makeCookieOf({ sessions, site });

  async function tokenOf(request: IncomingMessage): Promise<string | null> {
    const cookie = cookieOf(request);
    const found = cookie === null ? null : await sessions.find(cookie);
    if (found === null) return null;
    if (found.session === null)
      throw new AuthenticationError('token_expired', {
        detail: 'The session has ended: sign in again.',
      });
    return found.session.token;
  }
  return {
    ofRequest: async (request) => (site.isOwnPage(request) ? tokenOf(request) : null),
    ofUpgrade: async (request) => (site.isOwnUpgrade(request) ? tokenOf(request) : null),
    onEnd(request, listener) {
      const cookie = cookieOf(request);
      const endsAt = cookie === null ? null : sessions.endOf(cookie);
      if (cookie === null || endsAt === null) return () => undefined;
      const forget = [
        sessions.onDrop(cookie, () => listener('signed_out')),
        atTime(endsAt.getTime() / 1_000, () => listener('token_expired')),
      ];
      return () => forget.forEach((each) => each());
    },
  };
}

/** Makes what finds the cookie of a request: of several the first that is a session's. */
function makeCookieOf({ sessions, site }: Parts) {
  return (request: IncomingMessage): string | null => {
    const cookies = site.readCookies(request);
    return cookies.find((cookie) => sessions.endOf(cookie) !== null) ?? cookies[0] ?? null;
  };
}

/** Begins and ends the session of a browser. */
export function makeSignIn({
  sessions,
  site,
  authentication,
}: Parts & { readonly authentication: Authentication }) {
  const cookieOf = makeCookieOf({ sessions, site });

  /** Signing out shows the page the ID token, so it must be none that the API takes; and it is a hint, without which a session is one. */
  const mayKeep = async (token: string, idToken: string) =>
    sessions.hasRoom(token, idToken) && (await authentication.refuses(idToken));

  return {
    /**
     * Signs a browser in with a token, which must be one that the API accepts and that names a role.
     *
     * @throws AuthenticationError, InvalidClaimsError, KeysUnavailableError, DatabaseUnavailableError
     */
    async begin(
      request: Request,
      response: Response,
      { token, idToken = null }: { token: string; idToken?: string | null },
    ): Promise<SessionState> {
      const { role, roleProblem, expiresAt } = await authentication.verifyToken(token);
      if (role === null)
        throw new AuthenticationError('token_invalid', { detail: roleProblem ?? 'No role.' });
      if (!sessions.hasRoom(token))
        throw new AuthenticationError('token_invalid', { detail: LONG });
      const lifeMs = expiresAt === null ? DEFAULT_LIFE_MS : expiresAt * 1_000 - Date.now();
      const endsAt = new Date(Date.now() + Math.min(lifeMs, MAX_LIFE_MS));
      const before = cookieOf(request);
      const value = await sessions.create({
        ...{ token, expiresAt: endsAt },
        idToken: idToken === null || (await mayKeep(token, idToken)) ? idToken : '',
      });
      const { name, options } = site.cookie(request);
      const maxAge = Math.max(0, endsAt.getTime() - Date.now()) + AFTERLIFE_MS;
      response.cookie(name, value, { ...options, maxAge });
      if (before !== null) await sessions.drop(before);
      return { signed_in: true, expires_at: endsAt.toISOString() };
    },
    /** What the page asks first. While the database is away, a session counts until its end. */
    async state(request: Request): Promise<SessionState> {
      const cookie = cookieOf(request);
      const endsAt = cookie === null ? null : sessions.endOf(cookie);
      if (cookie === null) return { signed_in: false, reason: null };
      // Signed with another key.
      if (endsAt === null) return { signed_in: false, reason: 'ended' };
      const expires_at = endsAt.toISOString();
      const isOver = endsAt.getTime() <= Date.now();
      const found = isOver ? null : await sessions.find(cookie).catch(() => undefined);
      const session = found === null ? null : found?.session;
      // The keys may have been changed since, or the names of roles.
      const isRefused =
        session === null ||
        (session !== undefined && (await authentication.refuses(session.token)));
      return isRefused
        ? { signed_in: false, reason: 'ended', expires_at }
        : { signed_in: true, expires_at };
    },
    /**
     * Signs a browser out: the cookie goes in any case.
     *
     * @returns the ID token of its session, if there is one
     * @throws DatabaseUnavailableError when the row stays
     */
    async end(request: Request, response: Response): Promise<string | null> {
      const { name, options } = site.cookie(request);
      const cookie = cookieOf(request);
      if (cookie === null) return null;
      response.clearCookie(name, options);
      const found = await sessions.find(cookie);
      await sessions.drop(cookie);
      return found?.session?.idToken ?? null;
    },
  };
}

export type SignIn = ReturnType<typeof makeSignIn>;
