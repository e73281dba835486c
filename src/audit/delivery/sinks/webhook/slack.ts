import { describeEvent } from '../../../event_text.ts';

/**
 * An event as a message of Slack: what happened to which flag, plan or environment, who did it, when, and what else there is to say: how late, why.
 *
 * @returns null for a seal
 */
export function slackText(message: string): string | null {
  const event = describeEvent(message, utc);
  if (event === null) return null;
  const { at, what, subject, who, more } = event;
  const first = [`*${escape(what)}*`, escape(subject), escape(who)].filter((part) => part !== '');
  return `${first.join(' ')}, ${escape(utc(at))}${more === '' ? '' : `\n${escape(more)}`}`;
}

/** Readers are in any time zone. */
function utc(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** As Slack asks for it: what isn't escaped could mention people and channels. */
function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
