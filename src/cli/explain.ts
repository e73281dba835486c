import { inspect } from 'node:util';
import { isErrno } from '../lib/errno.ts';
import { ExplainedError } from '../lib/explained.ts';

/** What to do, by the system's code for what keeps a file from being used. */
const FILE_ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'free space on its disk',
  EDQUOT: "raise this user's quota, or free space",
  EROFS: 'its file system is read only, so choose another place',
  EACCES: 'let this user use it, or choose another place',
  EPERM: 'let this user use it, or choose another place',
  EEXIST: 'something else is there, so choose another place',
  ENOTDIR: 'a file is where a folder should be, so choose another place',
  ENOENT: 'it is not there',
  EISDIR: 'it is a folder',
  EMFILE: 'this process has too many files open: raise its limit (ulimit -n)',
  ENFILE: 'the system has too many files open',
};

/** Classes of SQLSTATE, and codes, that say what an operator can put right. The server's own words come before it. */
const STATE_ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^53300$/, 'end other connections to the server, or raise its max_connections'],
  [/^53/, 'the server has no disk or memory left, so make room there and run it again'],
  [/^58/, "the server's disk or system fails: its log says more"],
  [/^25006$/, 'the address must lead to the primary, and its sessions must be allowed to write'],
  [/^(55P03|40P01|57014)$/, 'other sessions were in the way, so run it again'],
  [
    /^42501$/,
    'use the login that the command is for, and run setup and migrate if that is what it lacks',
  ],
];

/** Why a command failed: one sentence where a person can put it right. Anything else may be a defect and keeps its stack and causes. */
export function explain(error: unknown): string {
  if (error instanceof ExplainedError) return error.message;
  // Node reports a refused connection to a name with two addresses as one error with no message.
  if (error instanceof AggregateError && error.message === '' && error.errors.length > 0)
    return error.errors.map(explain).join('; ');
  if (!isErrno(error)) return inspect(error);
  if ('severity' in error) return explainState(error) ?? inspect(error);
  const { syscall, path } = error as NodeJS.ErrnoException;
  const advice = FILE_ADVICE[error.code];
  if (syscall === undefined || advice === undefined) return inspect(error);
  return `${path ?? 'A file'} can't be used (${error.code}): ${advice}.`;
}

function explainState(error: Error & { readonly code: string }): string | null {
  const advice = STATE_ADVICE.find(([state]) => state.test(error.code))?.[1];
  return advice === undefined
    ? null
    : `The database refuses: ${error.message.replace(/\.$/, '')} (${advice}).`;
}
