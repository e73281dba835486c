import { format, resolveConfig } from 'prettier';
import type { EventType } from '../src/audit/event_types.ts';

/** What the head of the page ends with. */
const MARK = '<!-- From here on `npm run schema` prints audit.event_types. -->\n';

/**
 * docs/events.md with the types of events as the catalogue has them; `npm run schema` writes it.
 *
 * @param page the page as it is
 * @param types the catalogue
 * @param examples an event of each type, as JSON
 * @throws Error when the page lacks the mark, or a type its example
 */
export async function withEventTypes(
  page: string,
  types: readonly EventType[],
  examples: ReadonlyMap<string, string>,
): Promise<string> {
  const end = page.indexOf(MARK);
  if (end < 0) throw new Error(`The page lacks the line ${MARK}`);
  const rows = types.map(
    ({ type, level, description }) =>
      `| [\`${type}\`](#${type.replace('.', '')}) | ${level} | ${firstSentence(description)} |`,
  );
  const table = ['| type | level | written when |', '| --- | --- | --- |', ...rows].join('\n');
  const sections = types.map((type) => sectionOf(type, examples.get(type.type)));
  const text = [page.slice(0, end + MARK.length), table, ...sections].join('\n\n');
  return format(text, { ...(await resolveConfig(import.meta.filename)), parser: 'markdown' });
}

function sectionOf(
  { type, level, description, metadata_keys: keys }: EventType,
  example: string | undefined,
): string {
  if (example === undefined)
    throw new Error(`There is no event of ${type}: write one in test/support/every_event.ts.`);
  const list = keys.map((key) => `\`${key}\``).join(', ');
  return `## ${type}\n\n${description}\n\nLevel \`${level}\`. Metadata: ${list}.\n\n\`\`\`json\n${example}\n\`\`\``;
}

function firstSentence(text: string): string {
  return /^.*?\.(?= |$)/.exec(text)?.[0] ?? text;
}
