import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';

// Format, lint and types at the same time: each is one thread most of the time, and none of them needs another. The status is 1 unless
// all are content. `node test/checks.ts COMMAND …` runs a command beside them, whose output is printed as it comes: npm test runs Vitest
// so, which begins with files that wait more than they compute. What failed of the checks is printed last, where it is seen.

const CHECKS = ['format:check', 'lint', 'types'];

/** @returns what it said, if it failed */
async function check(name: string): Promise<string | null> {
  // By a shell: on Windows npm is a script.
  const child = spawn(`npm run --silent ${name}`, {
    shell: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const good = (await ended) === 0;
  process.stdout.write(`${good ? '✓' : '✗'} ${name}\n`);
  return good ? null : `✗ ${name}\n${out}${err}`;
}

/** @returns a sentence, if it failed */
function runBeside(command: string): Promise<string | null> {
  const child = spawn(command, { shell: true, stdio: 'inherit' });
  return new Promise((resolve) => {
    child.on('close', (code) => resolve(code === 0 ? null : `✗ ${command}: see above\n`));
  });
}

const command = process.argv.slice(2).join(' ');
const failures = await Promise.all([
  ...(command === '' ? [] : [runBeside(command)]),
  ...CHECKS.map(check),
]);
for (const failure of failures) if (failure !== null) process.stdout.write(failure);
process.exitCode = failures.every((failure) => failure === null) ? 0 : 1;
