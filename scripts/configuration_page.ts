import { format, resolveConfig } from 'prettier';
import { COMMANDS, SETTINGS, type Setting } from '../src/config/settings.ts';

const TABLE = /^\| variable [\s\S]*?\n\n/m;

/** docs/configuration.md with its table of environment variables as the code has them (`npm run schema` writes it). */
export async function withSettingsTable(page: string): Promise<string> {
  if (!TABLE.test(page)) throw new Error('The page has no table that begins with | variable.');
  const rows = (SETTINGS as readonly Setting[]).map(
    (setting) =>
      `| \`${setting.name}\` | ${defaultOf(setting)} | ${usersOf(setting)} | ${setting.doc} |\n`,
  );
  const head = '| variable | default | used by | meaning |\n| --- | --- | --- | --- |\n';
  const options = await resolveConfig(import.meta.filename);
  // A function: a $ in a text is no reference to the match.
  const text = page.replace(TABLE, () => `${head}${rows.join('')}\n`);
  return format(text, { ...options, parser: 'markdown' });
}

function defaultOf({ default: text, unset = 'none' }: Setting): string {
  return text === null ? unset : `\`${text}\``;
}

function usersOf({ processes }: Setting): string {
  return processes.length === COMMANDS.length ? 'every command' : processes.join(', ');
}
