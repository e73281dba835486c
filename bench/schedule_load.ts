import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROCESS = fileURLToPath(new URL('schedule_load_process.ts', import.meta.url));

/** Creating schedules that come due while others are created. */
export interface ScheduleLoad {
  /** Where APIs listen; each gets the same share of the connections. */
  readonly urls: readonly string[];
  readonly token: string;
  /** Keys of flags that there are, to take in turn. */
  readonly flags: readonly string[];
  /** Over all APIs. */
  readonly connections: number;
  readonly seconds: number;
  /** How long after it is asked for each is due, in milliseconds. */
  readonly dueInMs: number;
}

/** What the clients were answered. */
export interface ScheduleLoadAnswers {
  readonly created: number;
  readonly perSecond: number;
  /** Answers that were no 2xx, and connections that failed. */
  readonly refused: number;
}

/**
 * Creates schedules by REST from a process of its own.
 *
 * @throws Error when the process ends without an answer
 */
export async function createSchedules(load: ScheduleLoad): Promise<ScheduleLoadAnswers> {
  const child = fork(PROCESS, [JSON.stringify(load)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit').then(() => {
    throw new Error('The load ended without an answer: its standard error says why.');
  });
  const [answers] = (await Promise.race([once(child, 'message'), exited])) as [ScheduleLoadAnswers];
  await exited.catch(() => undefined);
  return answers;
}
