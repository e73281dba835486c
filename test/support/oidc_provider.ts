import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Provider } from 'oidc-provider';
import { makeRsaPair } from './tokens.ts';

export const CLIENT = { id: 'halyard-console', secret: 'a-secret-of-the-console-at-its-provider' };
/** The API, to which access tokens are made. */
export const AUDIENCE = 'https://halyard.example.com';

/** Who signs in next, and what of the token. */
interface Person {
  readonly userId: string;
  readonly groups: readonly string[];
}

/**
 * A real OpenID Connect provider on a free port of 127.0.0.1, where the next person signs in without a form. Its address is known before it
 * serves: until `serve` it refuses connections' requests with 503.
 */
export async function startProvider() {
  let handle: ((request: IncomingMessage, response: ServerResponse) => unknown) | undefined;
  const server = createServer((request, response) => {
    if (handle === undefined) response.writeHead(503).end('down');
    else void handle(request, response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const pair = makeRsaPair('of-the-provider');
  const state = {
    person: { userId: 'alice', groups: ['halyard-admin'] } as Person,
    /** Whether access tokens are JWTs for the API. */
    hasJwt: true,
    /** Whether the person refuses. */
    refuses: false,
    /** What the provider answers to a code, in place of tokens. */
    answer: null as object | null,
  };
  const claimsOf = (accountId: string) => ({
    ...{ sub: `sub-of-${accountId}`, uid: accountId, email: `${accountId}@example.com` },
    groups: state.person.groups,
  });

  /** @param api the address of the console */
  function serve(api: string): void {
    const provider: Provider = new Provider(issuer, {
      clients: [
        {
          client_id: CLIENT.id,
          client_secret: CLIENT.secret,
          redirect_uris: [`${api}/console/callback`],
          post_logout_redirect_uris: [`${api}/console/sign-in?reason=signed_out`],
        },
      ],
      cookies: { keys: ['of the tests'] },
      jwks: { keys: [{ ...pair.privateKey.export({ format: 'jwk' }), kid: pair.kid, use: 'sig' }] },
      claims: { openid: ['sub', 'groups', 'uid', 'email'] },
      conformIdTokenClaims: false,
      pkce: { required: () => true },
      findAccount: (_context: unknown, accountId: string) => ({
        accountId,
        claims: () => claimsOf(accountId),
      }),
      extraTokenClaims: (_context: unknown, token: { accountId: string }) =>
        claimsOf(token.accountId),
      interactions: { url: () => '/interaction' },
      loadExistingGrant: async (context: {
        oidc: { session: { accountId: string }; client: { clientId: string } };
      }) => {
        const { session, client } = context.oidc;
        const grant = new provider.Grant({
          accountId: session.accountId,
          clientId: client.clientId,
        });
        grant.addOIDCScope('openid profile email');
        await grant.save();
        return grant;
      },
      features: {
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => (state.hasJwt ? AUDIENCE : undefined),
          useGrantedResource: () => true,
          getResourceServerInfo: () => ({
            ...{ scope: '', audience: AUDIENCE, accessTokenTTL: 600, accessTokenFormat: 'jwt' },
            jwt: { sign: { alg: 'RS256' } },
          }),
        },
      },
    });
    const callback = provider.callback();
    handle = async (request, response) => {
      if (state.answer !== null && request.url === '/token')
        return response
          .setHeader('Content-Type', 'application/json')
          .end(JSON.stringify(state.answer));
      if (request.url?.startsWith('/interaction') !== true) return callback(request, response);
      await provider.interactionDetails(request, response);
      const result = state.refuses
        ? { error: 'access_denied', error_description: 'The person refused.' }
        : { login: { accountId: state.person.userId } };
      return provider.interactionFinished(request, response, result);
    };
  }

  return {
    issuer,
    state,
    serve,
    /** Answers 503 from now on. */
    fail: () => (handle = undefined),
    async close(): Promise<void> {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
