import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';

// Format, lint and types at the same time: each is one thread most of the time, and none of them needs another. What they
// say is printed one after the other, and the status is 1 unless all are content.

const CHECKS = ['format:check', 'lint', 'types'];

async function check(name: string): Promise<boolean> {
  // By a shell: on Windows npm is a script.
  const child = spawn(`npm run --silent ${name}`, {
    shell: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const good = (await ended) === 0;
  process.stdout.write(`${good ? '✓' : '✗'} ${name}\n${good ? '' : out + err}`);
  return good;
}

const results = await Promise.all(CHECKS.map(check));
process.exitCode = results.every(Boolean) ? 0 : 1;
