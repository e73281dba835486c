import type pg from 'pg';

/** The tables of the trail that a fault can be put on. */
export type FaultyTable = 'events' | 'dead_letters' | 'ledger';

/** Makes each insert into these tables of the trail fail with an SQLSTATE, as a full disk would. As the owner. */
export async function breakInserts(
  client: pg.ClientBase,
  faults: Partial<Record<FaultyTable, string>>,
): Promise<void> {
  await client.query(
    `create or replace function app_private.tg_test__fault() returns trigger language plpgsql as $$
     begin raise exception 'could not extend the file' using errcode = tg_argv[0]; end $$`,
  );
  for (const [table, sqlState] of Object.entries(faults))
    await client.query(
      `create trigger _300_fault before insert on audit.${table}
       for each row execute function app_private.tg_test__fault('${sqlState}')`,
    );
}

/** Takes those faults away. */
export async function mendInserts(client: pg.ClientBase): Promise<void> {
  await client.query('drop function if exists app_private.tg_test__fault() cascade');
}
