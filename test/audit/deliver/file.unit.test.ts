import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { makeFileSink } from '../../../src/audit/delivery/sinks/file.ts';
import { messagesOf, readMessage } from '../../../src/audit/verification/copy.ts';
import * as events from '../../support/audit_events.ts';

const makeEvent = (seq: number, message?: string) =>
  events.makeEvent(seq, { at: 0, ...(message === undefined ? {} : { message }) });
const never = new AbortController().signal;
const root = mkdtempSync(join(tmpdir(), 'halyard-file-sink-'));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, 'data-'));
  file = join(folder, 'trail.log');
});

const text = () => readFileSync(file, 'utf8');
const linesOf = (given: readonly { message: string }[]) =>
  given.map(({ message }) => `${message}\n`).join('');
/** The numbers of the events that `audit verify` finds in the file. */
const verifiable = () =>
  text()
    .split('\n')
    .flatMap(messagesOf)
    .map(readMessage)
    .flatMap((found) => (found !== null && 'seq' in found ? [found.seq] : []));

test('appends each message exactly, a line each, to a file of its owner only', async () => {
  const sink = makeFileSink(file);
  const first = [makeEvent(1), makeEvent(2, '{"text": "é 🚢 \u2028 100%"}')];
  await sink.send(first, never);
  await makeFileSink(file).send([makeEvent(3)], never);
  expect(text()).toBe(linesOf([...first, makeEvent(3)]));
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test('takes many events, more than one slice of them', async () => {
  const many = events.makeEvents(1_000);
  await makeFileSink(file).send(many, never);
  expect(text()).toBe(linesOf(many));
});

test('a last line that a crash cut short is ended, and its event is whole in a line of its own', async () => {
  const sink = makeFileSink(file);
  await sink.send([makeEvent(1)], never);
  const torn = makeEvent(2).message.slice(0, 40);
  appendFileSync(file, torn);
  await sink.send([makeEvent(2), makeEvent(3)], never);
  expect(text()).toBe(
    `${linesOf([makeEvent(1)])}${torn}\n${linesOf([makeEvent(2), makeEvent(3)])}`,
  );
  expect(verifiable()).toEqual([1, 2, 3]);
});

test('a file that was moved away or removed is made again', async () => {
  const sink = makeFileSink(file);
  await sink.send([makeEvent(1)], never);
  renameSync(file, `${file}.1`);
  await sink.send([makeEvent(2)], never);
  expect(text()).toBe(linesOf([makeEvent(2)]));
});

test('what was given up before is not written', async () => {
  const sink = makeFileSink(file);
  await expect(sink.send([makeEvent(1)], AbortSignal.abort(new Error('over')))).rejects.toThrow(
    'over',
  );
  expect(text()).toBe('');
});

describe('is refused', () => {
  const refusal = expect.objectContaining({ name: 'UntrustedPathError' }) as unknown;
  const refused = () => {
    expect(() => makeFileSink(file)).toThrow(refusal);
  };

  test('a link, and nothing is made where it leads', () => {
    symlinkSync(join(folder, 'elsewhere'), file);
    refused();
    expect(existsSync(join(folder, 'elsewhere'))).toBe(false);
  });

  test('a file that others may write to, and it stays as it is', () => {
    writeFileSync(file, 'planted\n');
    chmodSync(file, 0o666);
    refused();
    expect(text()).toBe('planted\n');
  });

  test('a folder, with a sentence for the person who started it', () => {
    mkdirSync(file);
    expect(() => makeFileSink(file)).toThrow(
      expect.objectContaining({ name: 'ConfigError' }) as Error,
    );
  });

  test('a pipe, without waiting for its reader', () => {
    execFileSync('mkfifo', [file]);
    refused();
  });
});

describe('the end of the file', () => {
  const TRAIL = '11111111-1111-4111-8111-111111111111';
  const OTHER = '22222222-2222-4222-8222-222222222222';
  const HASH = 'ab'.repeat(32);
  const sealed = (seal: number, first: number, last: number, trail = TRAIL) =>
    `{"eventType": "audit.sealed", "timestamp": "2026-01-01T00:00:0${seal}Z", "eventId": "e", "metadata": {"seal": ${seal}, "trail": "${trail}", "incarnation": "${trail}", "firstSeq": ${first}, "lastSeq": ${last}, "root": "${HASH}", "previousHead": "${HASH}", "head": "${HASH}"}}`;
  const read = async () => {
    const tail = await makeFileSink(file).readTail?.(TRAIL, never);
    return {
      seals: tail?.seals.map(({ seal }) => seal),
      events: tail?.events.map(({ seq }) => seq),
      unsure: tail?.unsure !== undefined,
    };
  };
  const write = (...messages: readonly string[]) =>
    writeFileSync(file, messages.map((message) => `${message}\n`).join(''));

  test('has the last seal and what is behind it, and passes over a torn line', async () => {
    write(makeEvent(1).message, sealed(1, 1, 1), makeEvent(2).message);
    appendFileSync(file, makeEvent(3).message.slice(0, 40));
    expect(await read()).toEqual({ seals: [1], events: [2], unsure: false });
  });

  test('of a new file, or one of another trail, holds nothing', async () => {
    expect(await read()).toEqual({ seals: [], events: [], unsure: false });
    write(makeEvent(1).message, sealed(1, 1, 1, OTHER));
    expect(await read()).toEqual({ seals: [], events: [], unsure: false });
  });

  test('is read backwards as far as a seal, and no further than 8 MB', async () => {
    const large = (seq: number) => makeEvent(seq).message.replace('wishlist', 'x'.repeat(700_000));
    write(sealed(1, 1, 1), large(2), large(3), large(4));
    expect(await read()).toEqual({ seals: [1], events: [2, 3, 4], unsure: false });
    write(sealed(1, 1, 1), ...Array.from({ length: 13 }, (_, i) => large(i + 2)));
    expect(await read()).toMatchObject({ seals: [], unsure: true });
  });
});
