import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { isErrno } from '../../lib/errno.ts';
import { withConnection } from '../connection.ts';
import { isVerifierOf, ITERATIONS, scramVerifier } from './scram.ts';

/** A role of Halyard's that logs in. An empty password is one that others set. */
export interface Login {
  readonly role: string;
  readonly password: string;
}

/**
 * Gives a login its password, as a verifier, unless it has it: the server's log never holds the password.
 *
 * @param client of an administrator
 * @param rootUrl that administrator's
 * @throws the database's error, as where the server takes no verifiers
 */
export async function setPassword(
  client: pg.Client,
  rootUrl: string,
  { role, password }: Login,
): Promise<void> {
  if (password === '' || (await hasPassword(client, rootUrl, { role, password }))) return;
  const { rows } = await client.query<{ iterations: number | null }>(
    `select current_setting('scram_iterations', true)::int as iterations`,
  );
  const iterations = rows[0]?.iterations ?? ITERATIONS;
  const verifier = scramVerifier(password, { iterations });
  await client.query(`alter role ${role} with password ${client.escapeLiteral(verifier)}`);
}

async function hasPassword(client: pg.Client, rootUrl: string, login: Login): Promise<boolean> {
  const { rows } = await client.query<{ readable: boolean }>(
    `select has_column_privilege('pg_authid', 'rolpassword', 'select') as readable`,
  );
  if (rows[0]?.readable !== true) return isTaken(rootUrl, login);
  const known = await client.query<{ rolpassword: string | null }>(
    'select rolpassword from pg_authid where rolname = $1',
    [login.role],
  );
  return isVerifierOf(known.rows[0]?.rolpassword ?? '', login.password);
}

/** Whether the server takes the password from here, and another one not: where it trusts each login, that says nothing. */
async function isTaken(rootUrl: string, login: Login): Promise<boolean> {
  const other = { ...login, password: randomBytes(16).toString('base64url') };
  return (await logsIn(rootUrl, login)) && !(await logsIn(rootUrl, other));
}

async function logsIn(rootUrl: string, { role, password }: Login): Promise<boolean> {
  const url = new URL(rootUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  try {
    await withConnection(url.href, { name: 'halyard setup' }, () => Promise.resolve());
    return true;
  } catch (error) {
    // Past the password the server may still refuse the database.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return isErrno(cause) && ['42501', '3D000'].includes(cause.code);
  }
}
