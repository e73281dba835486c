import pg from 'pg';
import { scrub } from '../lib/log.ts';
import { withLogin } from './audit/connect.ts';
import { reasonOf } from './audit/exit_codes.ts';
import { BAD_ARGUMENTS } from './exit_codes.ts';

/** A row of app_private.settings, with the default of its name. */
interface SettingRow {
  readonly name: string;
  readonly value: string;
  readonly default: string;
  readonly revision: string;
}

/** What the database calls a name that it doesn't know or a value that it refuses: invalid_parameter_value. */
const REFUSED = '22023';

/** `halyard settings list`: prints every setting of the database. Exit status 1 when they can't be read. */
export function list(): Promise<void> {
  return asOwner(async (pool) => {
    const { rows } = await pool.query<SettingRow>(
      `select s.name, s.value, d.default_value as default, s.revision
       from app_private.settings s join app_private.setting_definitions() d using (name) order by s.name`,
    );
    const table = [['name', 'value', 'default', 'revision'], ...rows.map(cells)];
    const widths = [0, 1, 2].map((i) => Math.max(...table.map((line) => line[i]?.length ?? 0)));
    for (const line of table)
      process.stdout.write(`${line.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}\n`);
  });
}

/**
 * `halyard settings set NAME VALUE`: sets a setting of the database, as its owner. Exit status 2 for a name or a value that the
 * database refuses, 1 when it can't be set.
 */
export function set(name: string, value: string): Promise<void> {
  return asOwner(async (pool) => {
    const { rows } = await pool.query<{ revision: string }>(
      'select app_private.set_setting($1, $2) as revision',
      [name, value],
    );
    process.stdout.write(`${name} is set; revision ${rows[0]?.revision ?? ''}.\n`);
  });
}

async function asOwner(work: (pool: pg.Pool) => Promise<void>): Promise<void> {
  try {
    await withLogin('owner', work, 'settings');
  } catch (error) {
    process.stderr.write(`${scrub(reasonOf(error))}\n`);
    process.exitCode =
      error instanceof pg.DatabaseError && error.code === REFUSED ? BAD_ARGUMENTS : 1;
  }
}

/** An empty value is shown, so that the columns stay columns. */
function cells(row: SettingRow): string[] {
  return [row.name, row.value || '""', row.default || '""', row.revision];
}
