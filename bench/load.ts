import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { COMPILE_CACHE } from '../test/support/compile_cache.ts';

/** What requests work, or isn't measured itself, in a process of its own, so that it isn't timed. */
export interface Load<Task, Answer> {
  /** @throws Error when the process ends instead of answering; why stands on its stderr */
  run(task: Task): Promise<Answer>;
  stop(): Promise<void>;
}

/** How long a load goes on: a time, or a number of requests where only that it runs is of interest, however busy the machine is. */
export type Extent = { readonly seconds: number } | { readonly requests: number };

/** How requests were answered, one after another on each of some connections. */
export interface Answered {
  readonly perSecond: number;
  /** Milliseconds from sending a request to having its whole answer. */
  readonly p50: number;
  readonly p99: number;
}

/**
 * Starts a file of bench/load, and resolves once it is ready for `run`.
 *
 * @param options what it needs to know for all its work; its file says what
 */
export async function startLoad<Task extends object, Answer>(
  file: string,
  options: object,
): Promise<Load<Task, Answer>> {
  const child = fork(fileURLToPath(new URL(`load/${file}.ts`, import.meta.url)), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, ...COMPILE_CACHE },
  });
  const exited = once(child, 'exit');
  const failed = exited.then(() => {
    throw new Error(`The load of ${file} ended before it had answered.`);
  });
  failed.catch(() => undefined);
  const ask = async (message: object): Promise<unknown> => {
    const answer = once(child, 'message');
    child.send(message);
    const [value] = (await Promise.race([answer, failed])) as [unknown];
    return value;
  };
  await ask(options);
  return {
    run: async (task) => (await ask(task)) as Answer,
    async stop() {
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}
