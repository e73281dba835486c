import type { lookup, LookupAddress } from 'node:dns';
import { describe, expect, test } from 'vitest';
import { destinationsOf } from '../../../src/audit/delivery/sinks/index.ts';
import {
  isPublic,
  literalAddress,
  publicLookup,
} from '../../../src/audit/delivery/sinks/webhook/address.ts';
import { slackText } from '../../../src/audit/delivery/sinks/webhook/slack.ts';
import type { ConfigError } from '../../../src/config/config.ts';
import { loadConfig } from '../../../src/config/config.ts';
import { makeEvent } from '../../support/audit_events.ts';
import { makeTestWebhook, SECRET, startWebhookServer } from '../../support/webhook_server.ts';

const never = new AbortController().signal;

describe('the address rule', () => {
  test.for([
    ...['127.0.0.1', '10.1.2.3', '172.31.255.255', '192.168.0.1', '169.254.169.254', '0.0.0.0'],
    ...['100.64.0.1', '224.0.0.1', '255.255.255.255', '198.18.0.1', '192.0.0.8'],
    ...['::1', '::', 'fe80::1', 'fe80::1%eth0', 'fc00::1', 'fd12::1', 'ff02::1', '64:ff9b::7f00:1'],
    ...['::ffff:127.0.0.1', '::ffff:8.8.8.8', '2002:7f00:1::', '2001:0:1::', '2001:db8::1'],
    ...['', 'localhost', '127.1'],
  ])('%j is not public', (address) => {
    expect(isPublic(address)).toBe(false);
  });

  test.for(['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700:4700::1111', '2a00:1450:4001::5'])(
    '%s is public',
    (address) => {
      expect(isPublic(address)).toBe(true);
    },
  );

  test.for([
    ['http://2130706433/', '127.0.0.1'],
    ['http://0x7f.1/', '127.0.0.1'],
    ['http://0177.0.0.1/', '127.0.0.1'],
    ['http://[::ffff:127.0.0.1]/', '::ffff:7f00:1'],
    ['https://example.com/', null],
  ])('%s is %s', ([url, address]) => {
    expect(literalAddress(new URL(url ?? ''))).toBe(address);
  });

  /** As the DNS would answer. */
  const answering = (addresses: LookupAddress[]) =>
    ((_name: string, _options: object, callback: (error: null, all: LookupAddress[]) => void) =>
      callback(null, addresses)) as unknown as typeof lookup;
  const resolve = (all: boolean, addresses: LookupAddress[]) =>
    new Promise<unknown>((done, fail) =>
      publicLookup(answering(addresses))('example.com', { all }, (error, address) =>
        error ? fail(error) : done(address),
      ),
    );
  const there = { address: '93.184.215.14', family: 4 };
  const here = { address: '10.0.0.8', family: 4 };

  test('looks at every address of a name', async () => {
    expect(await resolve(true, [there])).toEqual([there]);
    expect(await resolve(false, [there])).toBe(there.address);
    await expect(resolve(true, [there, here])).rejects.toThrow("10.0.0.8, which isn't a public");
    await expect(resolve(false, [here])).rejects.toThrow('WEBHOOK_ALLOW_PRIVATE=true');
    await expect(resolve(true, [])).rejects.toThrow('no address');
  });

  test('holds for the connection itself: localhost gets no post', async () => {
    const server = await startWebhookServer();
    const url = new URL(server.url.replace('127.0.0.1', 'localhost'));
    const { sink } = makeTestWebhook(server, { url, allowPrivate: false });
    await expect(sink.send([makeEvent(1)], never)).rejects.toThrow(/localhost leads to/);
    expect([server.posted.length, server.connections]).toEqual([0, 0]);
  });
});

describe('the configuration', () => {
  const GOOD = {
    AUDIT_SINK: 'webhook',
    WEBHOOK_URL: 'https://example.com/a',
    WEBHOOK_SECRET: SECRET,
  };
  const problems = (env: NodeJS.ProcessEnv) => {
    try {
      loadConfig({ ...GOOD, ...env }, 'worker');
      return [];
    } catch (error) {
      return (error as ConfigError).problems;
    }
  };

  test.for<[NodeJS.ProcessEnv, RegExp]>([
    [{ WEBHOOK_URL: '' }, /^Set WEBHOOK_URL: AUDIT_SINK=webhook needs it/],
    [{ WEBHOOK_URL: 'ftp://hunter2.example' }, /^Set WEBHOOK_URL to an https address/],
    [{ WEBHOOK_URL: 'http://hunter2.example' }, /^Set WEBHOOK_URL to an https address/],
    [{ WEBHOOK_URL: 'https://10.0.0.8/hunter2' }, /^Set WEBHOOK_URL to a public address/],
    [{ WEBHOOK_URL: 'https://2130706433/hunter2' }, /^Set WEBHOOK_URL to a public address/],
    [{ WEBHOOK_URL: 'https://[::ffff:8.8.8.8]/' }, /^Set WEBHOOK_URL to a public address/],
    [{ WEBHOOK_SECRET: '' }, /^Set WEBHOOK_SECRET: receivers verify/],
    [{ WEBHOOK_SECRET: 'whsec_aHVudGVyMg==' }, /^Set WEBHOOK_SECRET to whsec_ and 24 to 64/],
    [{ WEBHOOK_SECRET: `${SECRET} hunter2` }, /^Set WEBHOOK_SECRET to whsec_/],
    [{ WEBHOOK_SECRET: `whsec_${'A'.repeat(88)}` }, /^Set WEBHOOK_SECRET to whsec_/],
    [
      { WEBHOOK_EVENTS: 'feature_flag.updated,feature_flag.toggled' },
      /^Set WEBHOOK_EVENTS to types .* no type "feature_flag.toggled": of feature_flag there are/,
    ],
    [{ WEBHOOK_FORMAT: 'teams' }, /^Set WEBHOOK_FORMAT to one of standard, slack/],
    [{ WEBHOOK_FORMAT: 'slack', WEBHOOK_EVENTS: 'audit.sealed' }, /^Take audit.sealed out/],
    [{ WEBHOOK_ALLOW_PRIVATE: 'yes' }, /^Set WEBHOOK_ALLOW_PRIVATE to one of true, false/],
    [{ AUDIT_SINK: 'stdout,webhok' }, /^Set AUDIT_SINK to some of stdout, .*webhook.*, each/],
  ])('with %j says what is wrong, and no secret', ([env, problem]) => {
    expect(problems(env)).toEqual([expect.stringMatching(problem)]);
    expect(problems(env).join('')).not.toContain('hunter2');
  });

  test.for<NodeJS.ProcessEnv>([
    {},
    { WEBHOOK_SECRET: `${SECRET} whsec_${Buffer.alloc(24).toString('base64')}` },
    { WEBHOOK_SECRET: `whsec_${Buffer.alloc(64).toString('base64')}` },
    { WEBHOOK_EVENTS: 'feature_flag.updated, audit.sealed' },
    { WEBHOOK_FORMAT: 'slack', WEBHOOK_SECRET: '' },
    { WEBHOOK_URL: 'http://10.0.0.8/', WEBHOOK_ALLOW_PRIVATE: 'true' },
    { AUDIT_SINK: 'stdout', WEBHOOK_SECRET: '', WEBHOOK_URL: '' },
  ])('with %j is whole', (env) => {
    expect(problems(env)).toEqual([]);
  });

  const named = (url: string) =>
    destinationsOf(
      loadConfig({ ...GOOD, AUDIT_SINK: 'stdout,webhook', WEBHOOK_URL: url }, 'worker'),
    );

  test('names the destination by host and a hash of the path, and by no secret', () => {
    const [stdout, name = ''] = named('https://u:hunter2@hooks.example:8443/T0/hunter2');
    expect(stdout).toBe('stdout');
    expect(name).toMatch(/^webhook:hooks\.example:8443#[0-9a-f]{8}$/);
    expect(named('https://other:pw@hooks.example:8443/T0/hunter2')[1]).toBe(name);
    expect(named('https://hooks.example:8443/T0/hunter3')[1]).not.toBe(name);
  });
});

describe('for Slack', () => {
  const event = (eventType: string, metadata: object, more: object = {}) =>
    JSON.stringify({
      ...{ eventType, timestamp: '2030-01-31T09:00:00.123456Z', environment: 'staging' },
      ...{ actorKind: 'admin', metadata, ...more },
    });

  test('an event says who, what, when, how late and why', () => {
    const applied = { flagKey: 'checkout', requestedBy: 'alice', latenessMs: 12, reason: 'launch' };
    expect(slackText(event('flag_schedule.applied', applied, { actorKind: 'system' }))).toBe(
      '*schedule applied* checkout (staging) by Halyard for alice, 2030-01-31 09:00:00 UTC\n“launch”, 12 ms late',
    );
    const created = {
      ...{ flagKey: 'checkout', adminUserId: 'bob', updates: { enabled: true } },
      scheduledAt: '2030-02-01T00:00:00Z',
    };
    expect(slackText(event('flag_schedule.created', created))).toBe(
      '*schedule created* checkout (staging) by bob, 2030-01-31 09:00:00 UTC\nenabled: true, at 2030-02-01 00:00:00 UTC',
    );
    expect(slackText(event('audit.sealed', {}))).toBeNull();
  });

  test('is escaped, so that nothing in it mentions anyone', async () => {
    const server = await startWebhookServer();
    const { sink } = makeTestWebhook(server, { format: 'slack', keys: [] });
    const message = event('feature_flag.created', { adminUserId: '<!channel> & co', flagKey: 'x' });
    await sink.send([makeEvent(1, { message })], never);
    const [posted] = server.posted;
    const { text } = JSON.parse(posted?.body ?? '{}') as { text: string };
    expect(text).toContain('by &lt;!channel&gt; &amp; co,');
    expect(posted?.headers['webhook-signature']).toBeUndefined();
  });
});
