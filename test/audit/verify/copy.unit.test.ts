import { expect, test } from 'vitest';
import { messagesOf, readMessage, readSubstitute } from '../../../src/audit/verification/copy.ts';
import { leafOf } from '../../../src/audit/seals/merkle.ts';

const HASH = 'ab'.repeat(32);
const ID = '0123ab45-6789-4abc-8def-0123456789ab';
const SEALED =
  `{"eventType": "audit.sealed", "timestamp": "2026-11-23T10:00:00.000000Z", "eventId": "e", "level": "info", ` +
  `"environment": null, "requestId": null, "metadata": {"seal": 3, "trail": "${ID}", ` +
  `"incarnation": "${ID}", "firstSeq": 11, "lastSeq": 20, ` +
  `"root": "${HASH}", "previousHead": "${HASH}", "head": "${HASH}"}}`;
const EVENT =
  '{"eventType": "feature_flag.created", "timestamp": "t", "eventId": "e", "seq": 4, "metadata": {"message": "{\\"eventType\\": 1}"}}';

test.for<[string, string]>([
  ['as it was shipped', SEALED],
  ['behind the prefix of a log collector', `worker-1  | 2026-11-23T10:00:00Z ${SEALED}`],
  ['with the white space of another system', `${SEALED}\r`],
  [
    'in the message of a wrapper',
    JSON.stringify({ timestamp: 1, message: SEALED, logStream: 's' }),
  ],
  ['in the log of a container', JSON.stringify({ log: `${SEALED}\n`, stream: 'stdout' })],
  ['in the MESSAGE of a journal', JSON.stringify({ __CURSOR: 's=1', MESSAGE: SEALED })],
  ['in the @message of a query', `  "@message": ${JSON.stringify(SEALED)},`],
])('a message is found %s', ([, line]) => {
  expect(messagesOf(line)).toEqual([SEALED]);
});

test('several messages in one line are all found', () => {
  const line = JSON.stringify({ events: [{ message: SEALED }, { message: EVENT }] });
  expect(messagesOf(line)).toEqual([SEALED, EVENT]);
});

test('an event that has a message in its metadata is itself', () => {
  expect(messagesOf(EVENT)).toEqual([EVENT]);
});

test.for([
  '',
  'hello',
  '{"level":"info","msg":"the worker is running"}',
  '{"message": "hello"}',
  '{',
])('the line %j holds no message', (line) => {
  expect(messagesOf(line).map(readMessage).filter(Boolean)).toEqual([]);
});

test('a sealed record is an anchor, an event a copy with its leaf', () => {
  expect(readMessage(SEALED)).toEqual({
    ...{ trail: ID, incarnation: ID },
    ...{ seal: 3, firstSeq: 11, lastSeq: 20, root: HASH, previousHead: HASH, head: HASH },
    sealedAt: '2026-11-23T10:00:00.000000Z',
  });
  expect(readMessage(EVENT)).toEqual({ seq: 4, eventId: 'e', leaf: leafOf(EVENT).toString('hex') });
});

test('a truncated message, a record without number and a broken one are neither', () => {
  expect(readMessage(EVENT.replace('"seq": 4', '"seq": 4, "truncated": true'))).toBeNull();
  expect(readMessage(EVENT.replace('"seq": 4, ', ''))).toBeNull();
  expect(readMessage(SEALED.replace(HASH, 'zz'))).toBeNull();
  // The database would refuse its time, each time that a worker asks its destination.
  expect(readMessage(SEALED.replace('2026-11-23T', 'yesterday '))).toBeNull();
  expect(readMessage('{"eventType": "audit.sealed"')).toBeNull();
});

test('a sealed record without what a seal has says that it is broken, and which it claims to be', () => {
  const broken = SEALED.replace(HASH, 'zz');
  expect(readSubstitute(broken)).toEqual({ seal: 3, trail: ID });
  expect(readSubstitute('{"eventType": "audit.sealed", "metadata": "none"}')).toEqual({
    ...{ seal: null, trail: null },
  });
  // A torn line is sent again.
  for (const other of [EVENT, broken.slice(0, -1), 'hello'])
    expect(readSubstitute(other)).toBeNull();
});

test('a truncated message and a purged event stand for an event by its number', () => {
  for (const field of ['truncated', 'purged'])
    expect(readSubstitute(EVENT.replace('"seq": 4', `"seq": 4, "${field}": true`))).toEqual({
      seq: 4,
    });
});

test('a line of many megabytes is read', () => {
  const text = `${'\\"'.repeat(20_000_000)}x`;
  expect(messagesOf(`{"message": "${text}`)).toEqual([]);
  expect(messagesOf(`{"message": "${text}"}`)[0]).toHaveLength(20_000_001);
});
