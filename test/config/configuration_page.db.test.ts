import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { withTables, type SettingDefinition } from '../../scripts/configuration_page.ts';
import { useDatabase, withClient } from '../support/database.ts';

const database = useDatabase();

test('docs/configuration.md has the settings of the code and of the database', async () => {
  const file = fileURLToPath(new URL('../../docs/configuration.md', import.meta.url));
  const { rows } = await withClient(database.ownerUrl, (client) =>
    client.query<SettingDefinition>('select * from app_private.setting_definitions()'),
  );
  await expect(
    await withTables(await readFile(file, 'utf8'), rows),
    'docs/configuration.md differs from the settings: run `npm run schema`',
  ).toMatchFileSnapshot(file);
});
