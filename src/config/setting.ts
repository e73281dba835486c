import type { z } from '../lib/zod.ts';

/** Every command that a setting may be for. */
export const COMMANDS = [
  'setup',
  'migrate',
  'start',
  'api',
  'worker',
  'token',
  'audit',
  'settings',
  'restore',
  'plan',
  'stop',
  'resume',
] as const;

/** What loads a configuration: a command, or `schema`, the tools of graphile-migrate and PostGraphile, which need nothing. */
export type Command = (typeof COMMANDS)[number] | 'schema';

/** The commands that deliver the trail. */
export const FORWARDERS = ['start', 'worker'] as const;

/** An environment variable that Halyard reads. */
export interface Setting {
  /** Reads the variable's text; its error completes the sentence "Set NAME to …". */
  readonly schema: z.ZodMiniType<unknown, string>;
  /** The text that counts when the variable is unset. */
  readonly default?: string;
  /** What being unset means, for people, when there is no default. */
  readonly unset?: string;
  /** The commands that use it. All commands check it. */
  readonly processes: readonly Command[];
  /** Those of them that can't do without it in production. */
  readonly required?: readonly Command[];
  /** What it is, for docs/configuration.md. */
  readonly doc: string;
}

/** Settings by the names of their variables. */
export type Settings = Readonly<Record<string, Setting>>;

/** What was read, by name; null for what is unset and has no default. */
export type ValuesOf<S extends Settings> = {
  readonly [N in keyof S]:
    z.output<S[N]['schema']> | (S[N] extends { default: string } ? never : null);
};
