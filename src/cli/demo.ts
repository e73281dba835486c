import type { Config } from '../config/config.ts';
import { withConnection } from '../postgres/connection.ts';
import { isFilled, markFilled } from './demo/config.ts';
import { makeClient } from './demo/client.ts';
import { NAMES, roleOf, tokensOf, type Name } from './demo/people.ts';
import { playStory, RULE } from './demo/story.ts';

export { claimDataDir, demoConfig } from './demo/config.ts';

interface Options {
  readonly config: Config;
  /** Of the API, which runs. */
  readonly url: string;
  readonly ownerUrl: string;
  /** The link that signs in with a token, once. */
  readonly enterUrl: (token: string) => string;
  readonly signal: AbortSignal;
}

/**
 * Fills a new demo, and leaves one that is filled as it is: what was planned goes on. One that was filled in part is filled again,
 * and keeps what it has.
 *
 * @returns what the person at the terminal can do
 * @throws Error when the API refuses a step, or the signal's reason
 */
export async function openDemo(options: Options): Promise<string> {
  const { config, url, ownerUrl, enterUrl, signal } = options;
  const tokens = tokensOf(config);
  const client = (name: Name) => makeClient(url, tokens[name], signal);
  const isNew = !isFilled(config);
  if (isNew) {
    await addRule(ownerUrl);
    await playStory({ alice: client('alice'), bob: client('bob'), carol: client('carol') });
    markFilled(config);
  }
  const links = NAMES.map((name) => `  ${name.padEnd(7)} ${enterUrl(tokens[name])}`);
  const exports = NAMES.map((name) => `export ${name.toUpperCase()}=${tokens[name]}`);
  return `The demo: 12 flags in production and staging, and what three people do with them: ${NAMES.map((name) => `${name}, ${roleOf(name)}`).join('; ')}.
Each signs in by a link, once, within 10 minutes:

${links.join('\n')}

${isNew ? soonText(url) : ''}For requests, a token for each, good for 12 hours:

${exports.join('\n')}
`;
}

const soonText = (url: string): string =>
  `In 90 seconds three flags change at one instant, and then one flag each minute, for ten minutes. Once signed in, watch them:

  ${url}/console/timeline?span=30m

`;

/** A rule of the database's own, by which one change fails. */
async function addRule(ownerUrl: string): Promise<void> {
  await withConnection(ownerUrl, 'halyard demo', async (client) => {
    await client.query(`
      alter table app_public.feature_flags
        drop constraint if exists ${RULE.name},
        add constraint ${RULE.name} check (${RULE.check})`);
  });
}
