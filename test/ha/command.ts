import { CHECKOUT, startProcess } from '../support/processes.ts';

/** How a command ended. */
export interface Ended {
  readonly status: number | null;
  /** Both outputs, for a failure. */
  readonly output: string;
}

/** Runs `halyard …` to its end, with those variables and no others. */
export async function runHalyard(env: Record<string, string>, ...args: string[]): Promise<Ended> {
  const command = startProcess(process.execPath, [`${CHECKOUT}/src/main.ts`, ...args], {
    env: { NODE_ENV: 'production', ...env },
  });
  const status = await command.exited;
  return { status, output: command.stdout() + command.stderr() };
}
