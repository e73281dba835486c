import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { isErrno } from '../../src/lib/errno.ts';

/** A process of this machine, whoever's it is. */
export interface ListedProcess {
  readonly pid: number;
  /** Its parent's. */
  readonly ppid: number;
  readonly pgid: number;
  /** The user whose rights it has. */
  readonly uid: number;
  /** One letter, on some systems with more behind it; Z is dead, and not yet collected. */
  readonly state: string;
  /** Its command line, parted by spaces. */
  readonly args: string;
}

/** All processes. Linux is asked itself, since a minimal one lacks the program ps. */
export function listProcesses(): ListedProcess[] {
  if (process.platform !== 'linux') return askPs();
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => readProcess(Number(pid)) ?? []);
}

/** Whether the process runs. */
export function isAlive(pid: number): boolean {
  return listProcesses().some((p) => p.pid === pid && !p.state.startsWith('Z'));
}

/** Linux's proc(5); null when the process is gone, or not for us to see. */
function readProcess(pid: number): ListedProcess | null {
  const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'utf8');
  try {
    const stat = read('stat');
    // The second field, in parentheses, is a name that may hold spaces and parentheses of its own.
    const [state = '', ppid, pgid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(read('status'))?.[1];
    const args = read('cmdline').replaceAll('\0', ' ').trimEnd();
    return { pid, ppid: Number(ppid), pgid: Number(pgid), uid: Number(uid), state, args };
  } catch (error) {
    if (isErrno(error)) return null;
    throw error;
  }
}

function askPs(): ListedProcess[] {
  const text = execFileSync('ps', ['-ww', '-A', '-o', 'pid=,ppid=,pgid=,uid=,state=,args='], {
    encoding: 'utf8',
  });
  return text.split('\n').flatMap((line) => {
    const found = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line);
    if (!found) return [];
    const [, pid, ppid, pgid, uid, state = '', args = ''] = found;
    return [
      { pid: Number(pid), ppid: Number(ppid), pgid: Number(pgid), uid: Number(uid), state, args },
    ];
  });
}
