import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedPostgresError } from './error.ts';
import { readOwnFile } from '../../lib/own_files.ts';

/**
 * The superuser's password, made at the first start and kept in the data folder, for its owner's eyes.
 *
 * @param mayMake false when a cluster exists, which a new password would not open
 * @throws EmbeddedPostgresError PASSWORD_MISSING; UntrustedPathError
 */
export async function superuserPassword(dataDir: string, mayMake: boolean): Promise<string> {
  const file = join(dataDir, 'postgres.password');
  const known = readOwnFile(file);
  if (known !== null) {
    await chmod(file, 0o600); // a backup or a copy may have loosened it
    return known.trim();
  }
  if (!mayMake)
    throw new EmbeddedPostgresError(
      'PASSWORD_MISSING',
      `${file} is gone, and with it the way into the database. Put it back, or remove ${join(dataDir, 'postgres')} ` +
        'to begin with an empty database.',
    );
  // A rename: a crash leaves the whole password or none.
  const password = randomBytes(32).toString('base64url');
  const partial = `${file}.${randomUUID()}`;
  await writeSecret(partial, `${password}\n`);
  await rename(partial, file);
  return password;
}

/** Writes a new file that only its owner may read, and waits until it is on disk. */
export async function writeSecret(file: string, text: string): Promise<void> {
  await using handle = await open(file, 'wx', 0o600);
  await handle.writeFile(text);
  await handle.sync();
}
