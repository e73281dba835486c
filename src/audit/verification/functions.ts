import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { inTransaction } from '../../postgres/own_transaction.ts';
import type { Problem } from './verify.ts';

/** SHA-256 of each function's definition, in hexadecimal, by its name and arguments. */
export type FunctionHashes = Readonly<Record<string, string>>;

/** Written by `npm run schema`, from a database that has all migrations. */
const EXPECTED = new URL('functions.json', import.meta.url);

/** Settings on which the text of a definition depends. */
const PINNED = [
  `set local search_path to pg_catalog`,
  `set local quote_all_identifiers to off`,
  `set local datestyle to 'ISO'`,
  `set local intervalstyle to 'postgres'`,
  `set local timezone to 'UTC'`,
].join('; ');

/**
 * Reads the functions of Halyard's schemas. This query hashes them, because a function in the database that did could be replaced, too.
 *
 * @param client in a transaction, some of whose settings this sets
 * @throws the database's errors
 */
export async function readFunctions(client: pg.ClientBase): Promise<FunctionHashes> {
  await client.query(PINNED);
  const { rows } = await client.query<{ name: string; hash: string }>(
    `select p.oid::regprocedure::text as name, encode(sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8')), 'hex') as hash
     from pg_proc p
     where p.pronamespace in (select n.oid from pg_namespace n where n.nspname in ('app_public', 'app_private', 'audit'))
       and p.prokind in ('f', 'p')
     order by p.oid::regprocedure::text collate "C"`,
  );
  return Object.fromEntries(rows.map(({ name, hash }) => [name, hash]));
}

/**
 * Compares Halyard's functions with those of this version. A missing one is no problem of its own: the tracking columns can be rolled
 * back, and what needs another one fails.
 *
 * @param pool of any login
 * @returns one problem that names them, or none
 * @throws the database's errors
 */
export async function functionProblems(pool: pg.Pool): Promise<Problem[]> {
  const expected = JSON.parse(await readFile(EXPECTED, 'utf8')) as FunctionHashes;
  const found = await inTransaction(pool, readFunctions, 'begin read only');
  const altered = Object.keys(found).filter((name) => found[name] !== expected[name]);
  if (altered.length === 0) return [];
  const detail = `Of Halyard's functions ${altered.length} aren't as this version makes them: ${altered.slice(0, 10).join(', ')}${altered.length > 10 ? ', …' : ''}. Another version's migrations, or an owner, made them.`;
  return [{ status: 'function_altered', seal: null, seqs: [], detail }];
}
