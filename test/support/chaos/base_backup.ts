import { chown, copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ifExists } from '../../../src/lib/errno.ts';
import { withClient } from '../database.ts';
import { one } from '../factory.ts';

// What pg_basebackup does, which the embedded PostgreSQL doesn't bring, by PostgreSQL's own functions:
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP

/** Folders whose contents a server makes anew or, as the log, fetches from the primary. */
const EMPTIED = new Set([
  ...['pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat_tmp'],
  ...['pg_subtrans', 'pg_wal'],
]);
const LEFT_OUT = /^(postmaster\.(pid|opts)|pgsql_tmp.*|pg_internal\.init)$/;

/** PostgreSQL's user, who is another one than the tests' when those run as root. */
interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Copies a running server's data folder, ready to be started as its standby. The log from the backup's begin on is the
 * standby's to fetch, so the server must keep it (wal_keep_size).
 *
 * @param url an administrator's, to that server
 * @param from its data folder
 * @param to where the copy shall be; must not exist
 */
export async function takeBaseBackup(url: string, from: string, to: string): Promise<void> {
  const owner = await stat(from);
  // The backup belongs to this session.
  await withClient(url, async (client) => {
    await client.query(`select pg_backup_start('standby', fast => true)`);
    await copyFolder(from, to, owner);
    const { rows } = await client.query<{ labelfile: string }>(
      'select labelfile from pg_backup_stop(wait_for_archive => false)',
    );
    await writeOwned(join(to, 'backup_label'), one(rows).labelfile, owner);
    await writeOwned(join(to, 'standby.signal'), '', owner);
  });
}

async function copyFolder(from: string, to: string, owner: Owner): Promise<void> {
  await mkdir(to, { mode: 0o700 });
  await chown(to, owner.uid, owner.gid);
  if (EMPTIED.has(from.slice(from.lastIndexOf('/') + 1))) return;
  const entries = await readdir(from, { withFileTypes: true });
  // At once: in turn they take half a minute in a process that is busy with a load.
  await Promise.all(
    entries
      .filter(({ name }) => !LEFT_OUT.test(name))
      .map((entry) => {
        const [source, target] = [join(from, entry.name), join(to, entry.name)];
        return entry.isDirectory()
          ? copyFolder(source, target, owner)
          : copyUnlessGone(source, target, owner);
      }),
  );
}

/** A file that is removed meanwhile isn't missed: the log tells of its end. */
async function copyUnlessGone(from: string, to: string, { uid, gid }: Owner): Promise<void> {
  if ((await ifExists(copyFile(from, to).then(() => true))) !== null) await chown(to, uid, gid);
}

async function writeOwned(path: string, text: string, { uid, gid }: Owner): Promise<void> {
  await writeFile(path, text, { mode: 0o600 });
  await chown(path, uid, gid);
}
