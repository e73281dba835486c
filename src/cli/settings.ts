import type pg from 'pg';
import { withLogin } from './audit/connect.ts';
import { asUsageError, exitWith } from './audit/exit_with.ts';
import { formatTable } from './table.ts';

/** invalid_parameter_value: a name that the database doesn't know, or a value that it refuses. */
const REFUSED = '22023';

/** `halyard settings list`: prints every setting of the database. Exit status 1 when they can't be read. */
export function list(): Promise<void> {
  return asOwner(async (pool) => {
    const { rows } = await pool.query<string[]>({
      text: `select s.name, s.value, d.default_value, s.revision
        from app_private.settings s join app_private.setting_definitions() d using (name) order by s.name`,
      rowMode: 'array',
    });
    // An empty value is shown, so that the columns stay columns.
    const cells = rows.map((row) => row.map((cell) => cell || '""'));
    process.stdout.write(formatTable(['name', 'value', 'default', 'revision'], cells));
  });
}

/**
 * `halyard settings set NAME VALUE`: sets a setting of the database, as its owner. Exit status 2 for a name or a value that the
 * database refuses, 1 when it can't be set.
 */
export function set(name: string, value: string): Promise<void> {
  return asOwner(async (pool) => {
    const { rows } = await pool
      .query<{ revision: string }>('select app_private.set_setting($1, $2) as revision', [
        name,
        value,
      ])
      .catch(asUsageError(REFUSED));
    process.stdout.write(`${name} is set; revision ${rows[0]?.revision ?? ''}.\n`);
  });
}

function asOwner(work: (pool: pg.Pool) => Promise<void>): Promise<void> {
  return exitWith(() => withLogin('owner', work, 'settings').then(() => 0), '', 1);
}
