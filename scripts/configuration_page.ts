import { format, resolveConfig } from 'prettier';
import { COMMANDS } from '../src/config/setting.ts';
import { SETTINGS } from '../src/config/settings.ts';

/** A row of app_private.setting_definitions(). */
export interface SettingDefinition {
  readonly name: string;
  readonly default_value: string;
  readonly description: string;
}

/**
 * docs/configuration.md with its two tables as the code and the database have them; `npm run schema` writes it.
 *
 * @param page the page as it is
 * @param definitions the settings in the database
 * @throws Error when the page lacks one of the tables
 */
export async function withTables(
  page: string,
  definitions: readonly SettingDefinition[],
): Promise<string> {
  const variables = Object.entries(SETTINGS).map(([name, setting]) => [
    `\`${name}\``,
    setting.default === undefined ? (setting.unset ?? 'none') : `\`${setting.default}\``,
    setting.processes.length === COMMANDS.length ? 'every command' : setting.processes.join(', '),
    setting.doc,
  ]);
  const settings = definitions.map(({ name, default_value: value, description }) => [
    `\`${name}\``,
    value === '' ? 'empty' : `\`${value}\``,
    description,
  ]);
  const first = withTable(page, ['variable', 'default', 'used by', 'meaning'], variables);
  const text = withTable(first, ['setting', 'default', 'meaning'], settings);
  return format(text, { ...(await resolveConfig(import.meta.filename)), parser: 'markdown' });
}

function withTable(page: string, head: readonly string[], rows: readonly string[][]): string {
  const old = new RegExp(`^\\| ${head[0] ?? ''} [\\s\\S]*?\\n\\n`, 'm');
  if (!old.test(page))
    throw new Error(`The page has no table that begins with | ${head[0] ?? ''}.`);
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |\n`);
  // A function: a $ in a text is no reference to the match.
  return page.replace(old, () => `${lines.join('')}\n`);
}
