import { describe, expect, test } from 'vitest';
import { makeAuthentication } from '../../src/auth/auth.ts';
import {
  claimsFromPayload,
  InvalidClaimsError,
  OWN_CLAIM_NAMES,
  type ClaimNames,
} from '../../src/auth/claims.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken } from '../support/tokens.ts';
import { HS256, refusal, unauthorized } from '../support/auth.ts';

describe('claimsFromPayload', () => {
  test.for<[object, object]>([
    [{}, { userId: null, email: null, role: null, environments: null, expiresAt: null }],
    [{ sub: 'alice' }, { userId: 'alice' }],
    [{ userId: 'alice', sub: 'auth0|1' }, { userId: 'alice' }],
    [{ userId: null, sub: 'alice' }, { userId: 'alice' }],
    [
      { userId: '', email: ' ' },
      { userId: null, email: null },
    ],
    [{ userId: '𠮷'.repeat(255) }, { userId: '𠮷'.repeat(255) }],
    [{ userId: 'Åsa Öberg' }, { userId: 'Åsa Öberg' }],
    [{ userId: 'Алиса' }, { userId: 'Алиса' }],
    [{ userId: '田中 kenji' }, { userId: '田中 kenji' }],
    [{ email: 'jürgen+flags@example.com' }, { email: 'jürgen+flags@example.com' }],
    [{ role: 'viewer' }, { role: 'viewer' }],
    [{ role: ['viewer', 'admin'] }, { role: 'admin' }],
    [{ roles: 'auditor' }, { role: 'auditor' }],
    [{ roles: ['viewer', 'auditor', 'x'] }, { role: 'auditor' }],
    [{ role: 'viewer', roles: ['admin'] }, { role: 'admin' }],
    [{ role: 'root' }, { role: null }],
    [{ role: 'Admin' }, { role: null }],
    [{ role: 'halyard_admin' }, { role: null }],
    [{ role: null, roles: [] }, { role: null }],
    [{ environments: [] }, { environments: [] }],
    [{ environments: ['a', 'b'] }, { environments: ['a', 'b'] }],
    [{ exp: 1.5 }, { expiresAt: 1.5 }],
  ])('%j gives %j', ([payload, claims]) => {
    expect(claimsFromPayload(payload)).toMatchObject(claims);
  });

  test.for<unknown>([
    null,
    'admin',
    [],
    { userId: 42 },
    { userId: true },
    { userId: ['alice'] },
    { userId: {} },
    { userId: 'x'.repeat(256) },
    { userId: 'a\u0000b' },
    { userId: 'a\nb' },
    { userId: '\ud800' },
    { userId: 'ali\u200bce' },
    { userId: 'alice\ufeff' },
    { userId: 'alice\u202ecila' },
    { userId: 'alice\u3164' },
    { userId: 'alice\ufe0f' },
    { userId: 'alice\ue000' },
    { userId: 'alice\u00a0b' },
    { userId: 'alice ' },
    { userId: ' alice' },
    { userId: 'ａlice' },
    { userId: 'A\u030asa' },
    { userId: '\u0430lice' },
    { userId: '\u03b1lice' },
    { userId: 'alice\u2800' },
    { userId: '\u2800' },
    { userId: 'al\u{1d159}ice' },
    { userId: '\u15c5lice' },
    { userId: '\u{10428}lice' },
    { userId: '\u0391\u043b\u0438\u0441\u0430' },
    { sub: 'ali\u00adce' },
    { email: 'alic\u0435@example.com' },
    { email: 'alice@exam\u200dple.com' },
    { sub: 42 },
    { email: 42 },
    { email: 'a\u0000@example.com' },
    { email: 'x'.repeat(321) },
    { role: 1 },
    { role: {} },
    { roles: ['admin', 1] },
    { roles: [null] },
    { environments: null },
    { environments: 'staging' },
    { environments: { 0: 'staging' } },
    { environments: ['staging', 1] },
    { environments: ['a\u0000'] },
    { environments: ['\udfff'] },
    { exp: 'tomorrow' },
  ])('%j is refused', (payload) => {
    expect(() => claimsFromPayload(payload)).toThrow(InvalidClaimsError);
  });
});

describe('claims under other names', () => {
  const names = (changes: Partial<ClaimNames>): ClaimNames => ({ ...OWN_CLAIM_NAMES, ...changes });
  const roleMap = new Map([
    ['platform admins', 'admin'],
    ['ops', 'viewer'],
  ] as const);

  test.for<[string, object, string | null]>([
    ['groups', { groups: ['viewer'] }, 'viewer'],
    ['groups', { groups: 'viewer' }, 'viewer'],
    ['groups', { groups: ['x', 'viewer', 'admin', 'auditor'] }, 'admin'],
    // They stand in for role and roles.
    ['groups', { role: 'admin', roles: ['admin'] }, null],
    ['groups', { role: 'admin', groups: ['viewer'] }, 'viewer'],
    ['https://example.com/roles', { 'https://example.com/roles': ['admin'] }, 'admin'],
    ['cognito:groups', { 'cognito:groups': ['auditor'] }, 'auditor'],
    ['realm_access.roles', { realm_access: { roles: ['viewer'] } }, 'viewer'],
    ['a.b.c', { a: { b: { c: 'viewer' } } }, 'viewer'],
    // The exact name is there: the path isn't looked at.
    ['a.b', { 'a.b': ['viewer'], a: { b: ['admin'] } }, 'viewer'],
    ['a.b', { 'a.b': null, a: { b: ['admin'] } }, null],
    ['a.b', { a: { 'b.c': 'admin' } }, null],
    ['a.b', { a: 'b' }, null],
    ['a.b', { a: null }, null],
    ['a.0', { a: ['admin'] }, null],
    ['a.length', { a: ['admin'] }, null],
    ['groups', { groups: [] }, null],
    ['groups', { groups: null }, null],
    // A list in a string is one name.
    ['groups', { groups: 'admin viewer' }, null],
    ['groups', { groups: 'admin,viewer' }, null],
    // Only what the token itself holds.
    ['constructor', {}, null],
    ['constructor.name', {}, null],
    ['__proto__', {}, null],
    ['a.__proto__.b', { a: {} }, null],
    ['toString', {}, null],
  ])('JWT_ROLE_CLAIM=%s with %j is %s', ([role, payload, expected]) => {
    expect(claimsFromPayload(payload, names({ role })).role).toBe(expected);
  });

  test.for<[object, string | null]>([
    [{ role: 'platform admins' }, 'admin'],
    [{ roles: ['ops', 'other'] }, 'viewer'],
    [{ roles: ['ops', 'platform admins'] }, 'admin'],
    [{ role: 'admin' }, null],
    [{ role: 'viewer', roles: ['admin', 'auditor'] }, null],
    [{ role: 'Ops' }, null],
    [{ role: 'constructor' }, null],
  ])('of a role map only the left sides count: %j is %s', ([payload, expected]) => {
    expect(claimsFromPayload(payload, names({ roleMap })).role).toBe(expected);
  });

  test.for<[Partial<ClaimNames>, object, string]>([
    [{ role: 'groups' }, { groups: 7 }, 'groups'],
    [{ role: 'groups' }, { groups: true }, 'groups'],
    [{ role: 'groups' }, { groups: { admin: true } }, 'groups'],
    [{ role: 'groups' }, { groups: [['admin']] }, 'groups'],
    [{ role: 'groups' }, { groups: ['admin', 7] }, 'groups'],
    [{ userId: 'oid' }, { oid: 7 }, 'oid'],
    [{ userId: 'oid' }, { oid: ['x'] }, 'oid'],
    [{ userId: 'act.sub' }, { act: { sub: 'a\u200bb' } }, 'act.sub'],
    [{ email: 'upn' }, { upn: 'x'.repeat(321) }, 'upn'],
    [{ environments: 'envs' }, { envs: 'staging' }, 'envs'],
    [{ environments: 'envs' }, { envs: 'staging production' }, 'envs'],
    [{ environments: 'envs' }, { envs: 7 }, 'envs'],
    [{ environments: 'envs' }, { envs: null }, 'envs'],
    [{ environments: 'envs' }, { envs: ['staging', 7] }, 'envs'],
  ])('%j refuses %j, and names the claim', ([changes, payload, name]) => {
    const read = () => claimsFromPayload(payload, names(changes));
    expect(read).toThrow(InvalidClaimsError);
    expect(read).toThrow(name);
  });

  test('a user id and an e-mail are those of the claims named, and of no others', () => {
    const given = names({ userId: 'oid', email: 'profile.mail' });
    const own = { userId: 'alice', sub: 'alice', email: 'alice@example.com' };
    expect(claimsFromPayload(own, given)).toMatchObject({ userId: null, email: null });
    const payload = { ...own, oid: 'o-1', profile: { mail: 'o@example.com' } };
    expect(claimsFromPayload(payload, given)).toMatchObject({
      userId: 'o-1',
      email: 'o@example.com',
    });
    expect(
      claimsFromPayload({ name: 'x' }, names({ userId: 'constructor.name' })).userId,
    ).toBeNull();
  });

  test.for<[object, readonly string[]]>([
    [{}, []],
    [{ environments: ['production'] }, []],
    [{ envs: [] }, []],
    [{ envs: ['staging'] }, ['staging']],
  ])('with JWT_ENVIRONMENTS_CLAIM=envs %j reaches %j', ([payload, environments]) => {
    expect(claimsFromPayload(payload, names({ environments: 'envs' })).environments).toEqual(
      environments,
    );
  });

  test.for<[unknown, boolean]>([
    ['halyard', true],
    [['other', 'halyard'], true],
    ['other halyard', false],
    [7, false],
    [{ halyard: true }, false],
    [undefined, false],
  ])('with JWT_AUDIENCE_CLAIM=client_id the client_id %j counts: %s', async ([given, counts]) => {
    const { verifyToken } = makeAuthentication(
      { ...HS256, audience: 'halyard', claims: names({ audience: 'client_id' }) },
      makeTestLog().log,
    );
    const token = adminToken({ client_id: given, aud: 'halyard' });
    expect(await refusal(verifyToken(token))).toEqual(
      counts ? null : unauthorized('token_invalid'),
    );
  });
});
