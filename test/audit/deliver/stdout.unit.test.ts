import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { makeStdoutSink } from '../../../src/audit/delivery/sinks/stdout.ts';
import { makeEvent, makeEvents } from '../../support/audit_events.ts';
import { hasProgram } from '../../support/processes.ts';

const never = new AbortController().signal;

/** A stream that keeps what it was given and takes the next chunk when told. */
function makeGate() {
  const taken: string[] = [];
  let release: ((error?: Error) => void) | undefined;
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      taken.push(chunk.toString());
      release = done;
    },
  });
  return { stream, taken, release: (error?: Error) => release?.(error) };
}

/** Runs a program that has `sink` on its real standard output and `send(count)`, and reports on stderr. */
function runChild(
  program: string,
  shell: (node: string) => string = (node) => node,
): ChildProcessByStdio<null, Readable, Readable> {
  const stdout = new URL('../../../src/audit/delivery/sinks/stdout.ts', import.meta.url).href;
  const events = new URL('../../support/audit_events.ts', import.meta.url).href;
  const source = `
    import { makeStdoutSink } from '${stdout}';
    import { makeEvents } from '${events}';
    const sink = makeStdoutSink(undefined, { stallTimeoutMs: 300 });
    const send = (count) => sink.send(makeEvents(count, 0), new AbortController().signal)
      .then(() => 'sent', (error) => error.cause?.code ?? 'stalled');
    const tell = (what) => process.stderr.write(what + '\\n');
    ${program}`;
  const child = spawn('sh', ['-c', shell('exec "$NODE" --input-type=module -e "$SOURCE"')], {
    env: { ...process.env, NODE: process.execPath, SOURCE: source },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

const linesOf = (count: number) => makeEvents(count, 0).map(({ message }) => `${message}\n`);

test('prints each message exactly, a line each, in the order given', async () => {
  const stream = new PassThrough();
  const events = [
    makeEvent(3, { message: '{"a":  1.0, "b": "\\u0000 \\" \\\\ %s %d 100%"}' }),
    makeEvent(1, { message: '{"text": "é 🚢 \u2028 ' + 'x'.repeat(100) + '"}' }),
    makeEvent(2),
  ];
  await makeStdoutSink(stream).send(events, never);
  stream.end();
  expect(await text(stream)).toBe(events.map(({ message }) => `${message}\n`).join(''));
});

test('prints nothing for no events', async () => {
  const stream = new PassThrough();
  await makeStdoutSink(stream).send([], never);
  expect(stream.readableLength).toBe(0);
});

test('resolves only when the stream has taken the lines', async () => {
  const gate = makeGate();
  let sent = false;
  const sending = makeStdoutSink(gate.stream)
    .send([makeEvent(1)], never)
    .then(() => (sent = true));
  await expect.poll(() => gate.taken.length).toBe(1);
  expect(sent).toBe(false);
  gate.release();
  await sending;
});

test('rejects with the cause when the stream fails', async () => {
  const gate = makeGate();
  const sending = makeStdoutSink(gate.stream).send([makeEvent(1)], never);
  await expect.poll(() => gate.taken.length).toBe(1);
  gate.release(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  await expect(sending).rejects.toMatchObject({ cause: { code: 'EPIPE' } });
});

test('rejects when nothing is taken for too long', async () => {
  const gate = makeGate();
  const sink = makeStdoutSink(gate.stream, { stallTimeoutMs: 20 });
  await expect(sink.send([makeEvent(1)], never)).rejects.toThrow();
  await expect(sink.send([makeEvent(1)], never)).rejects.toThrow();
});

test('a slice given up is waited for, so that a repeat keeps lines whole and memory bounded', async () => {
  const gate = makeGate();
  const sink = makeStdoutSink(gate.stream);
  for (const reason of ['first', 'second']) {
    const abort = new AbortController();
    const sending = sink.send([makeEvent(1)], abort.signal);
    await expect.poll(() => gate.taken.length).toBe(1);
    abort.abort(reason);
    await expect(sending).rejects.toBe(reason);
  }
  expect(gate.stream.writableLength).toBe(Buffer.byteLength(`${makeEvent(1).message}\n`));
  const again = sink.send([makeEvent(1)], never);
  gate.release();
  await expect.poll(() => gate.taken.length).toBe(2);
  gate.release();
  await again;
});

test('abort and close give up a send at once', async () => {
  const gate = makeGate();
  const sink = makeStdoutSink(gate.stream);
  const reason = new Error('shutting down');
  const abort = new AbortController();
  const sending = sink.send([makeEvent(1)], abort.signal);
  await expect.poll(() => gate.taken.length).toBe(1);
  abort.abort(reason);
  await expect(sending).rejects.toBe(reason);
  await expect(sink.send([makeEvent(1)], abort.signal)).rejects.toBe(reason);

  const next = sink.send([makeEvent(1)], never);
  await sink.close();
  await expect(next).rejects.toThrow();
});

test('close leaves the stream open and takes its listener away', async () => {
  const stream = new PassThrough();
  const sink = makeStdoutSink(stream);
  await sink.send([makeEvent(1)], never);
  await sink.close();
  expect(stream.writable).toBe(true);
  await expect.poll(() => stream.listenerCount('error')).toBe(0);
});

test('a failure that comes after close ends nothing else', async () => {
  const gate = makeGate();
  const sink = makeStdoutSink(gate.stream);
  const sending = sink.send([makeEvent(1)], never);
  await expect.poll(() => gate.taken.length).toBe(1);
  await sink.close();
  await expect(sending).rejects.toThrow();
  gate.release(new Error('write EPIPE'));
  await expect.poll(() => gate.stream.listenerCount('error')).toBe(0);
});

test('a real pipe gets every byte', async () => {
  const child = runChild(`tell(await send(2_000)); await sink.close();`);
  const [output, report] = await Promise.all([text(child.stdout), text(child.stderr)]);
  expect(report).toBe('sent\n');
  expect(output).toBe(linesOf(2_000).join(''));
});

test('a pipe whose reader is gone rejects with EPIPE each time, and the process lives on', async () => {
  const child = runChild(`process.once('SIGUSR2', async () => {
    tell(await send(1)); tell(await send(1)); await sink.close(); clearInterval(alive); });
    const alive = setInterval(() => {}, 1_000);
    tell('ready');`);
  const report = text(child.stderr);
  child.stdout.destroy();
  await once(child.stdout, 'close');
  await once(child.stderr, 'data');
  child.kill('SIGUSR2');
  await once(child, 'exit');
  expect({ code: child.exitCode, report: await report }).toEqual({
    code: 0,
    report: 'ready\nEPIPE\nEPIPE\n',
  });
});

test('a pipe that nobody reads rejects in time, without holding up the process', async () => {
  const child = runChild(`let turns = 0; const timer = setInterval(() => turns++, 10);
    tell(await send(5_000)); clearInterval(timer); tell(turns > 0 ? 'alive' : 'held up'); process.exit();`);
  expect(await text(child.stderr)).toBe('stalled\nalive\n');
});

test('tells after each slice how many lines are taken', async () => {
  const gate = makeGate();
  const counts: number[] = [];
  const sending = makeStdoutSink(gate.stream).send(makeEvents(500), never, (count) =>
    counts.push(count),
  );
  await expect.poll(() => gate.taken.length).toBe(1);
  expect(counts).toEqual([]);
  gate.release();
  await expect.poll(() => gate.taken.length).toBe(2);
  expect(counts).toEqual([gate.taken[0]?.split('\n').slice(0, -1).length]);
  gate.release(new Error('write EPIPE'));
  await expect(sending).rejects.toThrow();
  expect(counts).toHaveLength(1);
});

test.skipIf(!hasProgram('prlimit'))(
  'a file takes lines again as soon as there is room, and a line cut short stands by itself',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'halyard-stdout-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, 'out');
    // A soft limit, which its own process may raise: a disk that fills up and is cleared.
    const child = runChild(
      `process.on('SIGXFSZ', () => {});
     const { execFileSync } = await import('node:child_process');
     tell(await send(20)); tell(await send(20));
     execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=1000000:']);
     tell(await send(20)); tell(await send(1));`,
      (node) => `ulimit -S -f 4; ${node} > '${file}'`,
    );
    expect(await text(child.stderr)).toBe('EFBIG\nEFBIG\nsent\nsent\n');
    const output = await readFile(file, 'utf8');
    expect(output.endsWith(`\n${linesOf(20).join('')}${linesOf(1).join('')}`)).toBe(true);
    expect(linesOf(20).join('').startsWith(output.slice(0, 2_048))).toBe(true);
  },
);

test('a file that can grow no more rejects instead of losing the rest of a write', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-stdout-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'out');
  const child = runChild(
    `process.on('SIGXFSZ', () => {}); tell(await send(5)); tell(await send(20));`,
    (node) => `ulimit -f 4; ${node} > '${file}'`,
  );
  expect(await text(child.stderr)).toBe('sent\nEFBIG\n');
  expect((await readFile(file, 'utf8')).startsWith(linesOf(5).join(''))).toBe(true);
});
