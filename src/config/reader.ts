import { SETTINGS, type Setting, type Values } from './settings.ts';

/**
 * Reads all settings out of an environment.
 *
 * @returns the values, null in place of a bad one, and a sentence for each mistake
 */
export function readSettings(env: NodeJS.ProcessEnv): { values: Values; problems: string[] } {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const setting of SETTINGS as readonly Setting[]) {
    const { name, schema, secret = false } = setting;
    const given = env[name] ?? '';
    const text = given.trim();
    // A secret that was read from a file often ends in a newline, and then no signature matches.
    if (given !== text) problems.push(`${name} has white space around its value: remove it.`);
    const counts = text === '' ? setting.default : text;
    values[name] = null;
    if (counts === null) continue;
    const result = schema.safeParse(counts);
    if (result.success) values[name] = result.data;
    else {
      const quoted = secret ? '' : `; it is ${JSON.stringify(text)}`;
      problems.push(
        `Set ${name} to ${result.error.issues[0]?.message ?? 'another value'}${quoted}.`,
      );
    }
  }
  return { values: values as Values, problems };
}
