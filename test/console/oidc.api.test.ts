import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { startTestApi, type TestApi } from '../support/api.ts';
import { Browser, type Page } from '../support/browser.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { AUDIENCE, CLIENT, startProvider } from '../support/oidc_provider.ts';
import { makeRsaPair, nowInSeconds, sign } from '../support/tokens.ts';

const database = useDatabase();
let provider: Awaited<ReturnType<typeof startProvider>>;
let api: TestApi;

/** As docs/identity.md has them for Okta. */
const ROLES = {
  JWT_ROLE_CLAIM: 'groups',
  JWT_ROLE_MAP: 'halyard-admin=admin,halyard-auditor=auditor,halyard-viewer=viewer',
  JWT_USER_ID_CLAIM: 'uid',
};

const start = (env: Record<string, string> = {}, url = database.authenticatorUrl) =>
  startTestApi(url, {
    env: {
      ...{ JWT_SECRET: '', JWT_JWKS_URI: `${provider.issuer}/jwks`, JWT_ISSUER: provider.issuer },
      ...{ ...ROLES, JWT_AUDIENCE: AUDIENCE, OIDC_ISSUER: provider.issuer },
      ...{
        OIDC_CLIENT_ID: CLIENT.id,
        OIDC_CLIENT_SECRET: CLIENT.secret,
        OIDC_NAME: 'Example Corp',
      },
      SESSION_KEY: Buffer.alloc(32, 7).toString('base64'),
      ...env,
    },
  });

beforeAll(async () => {
  // The provider says at each start that it is for development.
  vi.spyOn(console, 'warn').mockReturnValue(undefined);
  vi.spyOn(console, 'info').mockReturnValue(undefined);
  provider = await startProvider();
  api = await start();
});
afterAll(async () => {
  await api.close();
  await provider.close();
  vi.restoreAllMocks();
});
beforeEach(() => {
  provider.serve(api.url);
  Object.assign(provider.state, {
    ...{
      person: { userId: 'alice', groups: ['halyard-admin'] },
      hasJwt: true,
      refuses: false,
      answer: null,
    },
  });
});

/** A person's browser: the console's cookies and the provider's. */
const makePerson = (url = api.url) => ({
  there: new Browser(url),
  atProvider: new Browser(provider.issuer),
});

/** Follows redirects from the console to the provider and back. @returns the answer of the console that isn't followed */
async function signIn(
  { there, atProvider }: ReturnType<typeof makePerson>,
  to?: string,
): Promise<Page> {
  const query = to === undefined ? '' : `?${new URLSearchParams({ to }).toString()}`;
  let page = await there.visit(`GET /console/sign-in/oidc${query}`);
  for (let hops = 0; hops < 10; hops++) {
    const { location } = page.headers;
    if (location?.startsWith('/console/') === true) return page;
    const next = new URL(location ?? '', provider.issuer);
    const browser = next.origin === provider.issuer ? atProvider : there;
    page = await browser.visit(`GET ${next.href}`);
  }
  throw new Error(`The way doesn't end: ${page.text}`);
}

const placeOf = ({ status, headers }: Page) => [status, headers.location];

describe('signing in at the identity provider', () => {
  test('leads back to the page that one came from, as the user of the token', async () => {
    const person = makePerson();
    const page = await signIn(person, '/console/flags/production/checkout?tz=UTC#now');
    expect(placeOf(page)).toEqual([303, '/console/flags/production/checkout?tz=UTC#now']);
    // What it began with is over.
    expect([...person.there.cookies.keys()]).toEqual(['halyard-dev']);
    const state = await person.there.visit('GET /console/session');
    expect(state.body).toMatchObject({
      ...{ signed_in: true, sign_in: { oidc: 'Example Corp', token: true } },
    });
    const call = { json: { flag_key: 'by-alice' }, byPage: true };
    expect((await person.there.visit('POST /api/admin/flags', call)).status).toBe(201);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query(
        `select admin_user_id, admin_email from audit.events where flag_key = 'by-alice'`,
      ),
    );
    expect(rows).toEqual([{ admin_user_id: 'alice', admin_email: 'alice@example.com' }]);
  });

  test('asks for a code with PKCE, state and nonce, and for the API', async () => {
    const { headers } = await makePerson().there.visit('GET /console/sign-in/oidc');
    const { searchParams } = new URL(headers.location ?? '');
    expect(Object.fromEntries(searchParams)).toEqual({
      ...{ client_id: CLIENT.id, redirect_uri: `${api.url}/console/callback` },
      ...{ response_type: 'code', scope: 'openid profile email', audience: AUDIENCE },
      ...{ code_challenge: expect.stringMatching(/^[\w-]{43}$/) as string },
      ...{ code_challenge_method: 'S256' },
      state: expect.stringMatching(/^[\w-]{43}$/) as string,
      nonce: expect.stringMatching(/^[\w-]{43}$/) as string,
    });
  });

  test.each([
    'https://elsewhere.example/console/',
    '//elsewhere.example/console/',
    '/\\elsewhere.example/console/',
    '/console/../../elsewhere',
    '/console/%2e%2e/api',
    '/api/admin/flags',
    '/console/enter?code=x',
    '/console/sign-in?reason=refused',
    'javascript:alert(1)',
  ])('never leads to %s', async (to) => {
    expect(placeOf(await signIn(makePerson(), to))).toEqual([303, '/console/']);
  });

  test('is refused without a role, and when the person refuses; the page comes back to it', async () => {
    const refused = [303, '/console/sign-in?reason=refused&to=%2Fconsole%2Ftrail'];
    provider.state.person = { userId: 'nina', groups: ['others'] };
    expect(placeOf(await signIn(makePerson(), '/console/trail'))).toEqual(refused);
    expect(api.logText()).toContain('Ask for a token whose claim groups');
    provider.state.refuses = true;
    expect(placeOf(await signIn(makePerson(), '/console/trail'))).toEqual(refused);
    expect(api.logText()).toContain(
      'The identity provider refused it: access_denied: The person refused',
    );
  });

  test('isn’t finished in another browser, twice, or with another state', async () => {
    const { there, atProvider } = makePerson();
    const begun = await there.visit('GET /console/sign-in/oidc');
    let page = await atProvider.visit(`GET ${begun.headers.location ?? ''}`);
    while (page.headers.location?.startsWith(api.url) === false)
      page = await atProvider.visit(
        `GET ${new URL(page.headers.location, provider.issuer).pathname}`,
      );
    const back = page.headers.location ?? '';
    const refused = [303, '/console/sign-in?reason=refused'];
    expect(placeOf(await new Browser(api.url).visit(`GET ${back}`))).toEqual(refused);
    const another = new Browser(api.url);
    await another.visit('GET /console/sign-in/oidc');
    expect(placeOf(await another.visit(`GET ${back}`))).toEqual(refused);
    // Before the provider is asked, which would find that the verifier is another one.
    expect(api.logText()).toContain('unexpected \\"state\\" response parameter value');
    expect(placeOf(await there.visit(`GET ${back}`))).toEqual([303, '/console/']);
    expect(placeOf(await there.visit(`GET ${back}`))).toEqual(refused);
    expect(another.cookies.has('halyard-dev')).toBe(false);
  });

  test('says that the provider is down, and works once it is back', async () => {
    const other = await start();
    try {
      provider.fail();
      const person = makePerson(other.url);
      expect((await person.there.visit('GET /readyz')).status).toBe(200);
      const down = [303, '/console/sign-in?reason=provider_down&to=%2Fconsole%2Ftonight'];
      expect(placeOf(await signIn(person, '/console/tonight'))).toEqual(down);
      provider.serve(other.url);
      expect(placeOf(await signIn(person, '/console/tonight'))).toEqual([303, '/console/tonight']);
    } finally {
      await other.close();
    }
  });

  test('says that the database is away', async () => {
    const other = await start({}, 'postgres://nobody@127.0.0.1:1/nothing');
    try {
      provider.serve(other.url);
      const away = [303, '/console/sign-in?reason=unavailable&to=%2Fconsole%2Ftrail'];
      expect(placeOf(await signIn(makePerson(other.url), '/console/trail'))).toEqual(away);
    } finally {
      await other.close();
    }
  });

  test('logs why it was refused, and nothing of tokens and persons', async () => {
    const refused = [303, '/console/sign-in?reason=refused'];
    const answer = {
      token_type: 'bearer',
      access_token: 'opaque-of-alice',
      refresh_token: 'for-more',
    };
    provider.state.answer = answer;
    expect(placeOf(await signIn(makePerson()))).toEqual(refused);
    const claims = {
      iss: provider.issuer,
      sub: 'a',
      aud: 'another',
      nonce: 'x',
      email: 'ann@example.com',
    };
    const [iat, secret] = [nowInSeconds(), makeRsaPair('x').privateKey];
    const id_token = sign({ ...claims, iat }, { algorithm: 'RS256', secret });
    provider.state.answer = { ...answer, id_token };
    expect(placeOf(await signIn(makePerson()))).toEqual(refused);
    const [text, said] = [api.logText(), ['id_token', '(audience) claim value']];
    expect(said.filter((each) => !text.includes(each))).toEqual([]);
    const kept = ['opaque-of-alice', 'for-more', 'ann@example.com', '"claims"'];
    expect(kept.filter((each) => text.includes(each))).toEqual([]);
  });

  test('ends at the provider too', async () => {
    const person = makePerson();
    await signIn(person);
    const out = await person.there.visit('DELETE /console/session', { byPage: true });
    const url = new URL(String(out.body.end_session_url));
    expect(url.origin).toBe(provider.issuer);
    expect(url.searchParams.get('post_logout_redirect_uri')).toBe(
      `${api.url}/console/sign-in?reason=signed_out`,
    );
    // The provider knows the session and the address.
    expect((await person.atProvider.visit(`GET ${url.href}`)).status).toBe(200);
    const state = await person.there.visit('GET /console/session');
    expect(state.body).toMatchObject({ signed_in: false, reason: null });
  });
});

test('tokens of many groups are a session as long as there is room for the one that counts', async () => {
  const withGroups = (characters: number) => {
    provider.state.person = { userId: 'alice', groups: ['halyard-admin', 'x'.repeat(characters)] };
    return signIn(makePerson());
  };
  expect(placeOf(await withGroups(7_000))).toEqual([303, '/console/']);
  expect(placeOf(await withGroups(12_000))).toEqual([303, '/console/sign-in?reason=refused']);
  expect(api.logText()).toContain('too long for a session');
});

describe('a provider whose access tokens are opaque', () => {
  test('is in the log, and signs no one in', async () => {
    provider.state.hasJwt = false;
    const page = await signIn(makePerson());
    expect(placeOf(page)).toEqual([303, '/console/sign-in?reason=refused']);
    expect(api.logText()).toContain('access token is opaque');
  });

  test('signs in by its ID token where that is the one that JWT_AUDIENCE names', async () => {
    const other = await start({ JWT_AUDIENCE: CLIENT.id });
    try {
      provider.serve(other.url);
      provider.state.hasJwt = false;
      const person = makePerson(other.url);
      expect(placeOf(await signIn(person))).toEqual([303, '/console/']);
      const answer = await person.there.visit('GET /api/admin/flags', { byPage: true });
      expect(answer.status).toBe(200);
      // The page gets this address, and must get no token that the API takes.
      const out = await person.there.visit('DELETE /console/session', { byPage: true });
      const { searchParams } = new URL(String(out.body.end_session_url));
      expect([...searchParams.keys()].sort()).toEqual(['client_id', 'post_logout_redirect_uri']);
    } finally {
      await other.close();
    }
  });
});
