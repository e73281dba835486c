import { execFileSync } from 'node:child_process';
import type { User } from './daemon.ts';

/** Who runs the servers when the test runs as root: postgres, who comes with Debian's package. Null for anybody else. */
export function serversUser(): User | null {
  if (process.getuid?.() !== 0) return null;
  const ask = (flag: string) =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: ask('-u'), gid: ask('-g') };
}
