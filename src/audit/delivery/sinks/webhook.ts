import { hash } from 'node:crypto';
import { z } from '../../../lib/zod.ts';
import { read } from '../../../config/read.ts';
import { oneOf } from '../../../config/schemas.ts';
import { FORWARDERS } from '../../../config/setting.ts';
import { eventTypeProblem } from '../../event_types.ts';
import { defineSink } from './kind.ts';
import { isPublic, literalAddress } from './webhook/address.ts';
import { webhookSecrets } from './webhook/signature.ts';

/** A path may be a secret, as Slack's, and the user and password are: no message quotes the value. */
const webhookUrl = read((text) => {
  const url = URL.parse(text);
  if (url !== null && /^https?:$/.test(url.protocol) && url.hash === '') return { value: url };
  return 'an https address without a fragment (#…)';
}).register(z.globalRegistry, { secret: true });

/** Seals are records of the trail, and no events: they are sent where they are named. */
const SEALED = 'audit.sealed';

const webhookEvents = read((text) => {
  const types = text.split(',').map((type) => type.trim());
  const problem = types
    .filter((type) => type !== SEALED)
    .map(eventTypeProblem)
    .find((found) => found !== null);
  if (problem === undefined) return { value: types };
  return `types of events, separated by commas; the trail ${problem}`;
});

/** Any HTTP receiver that takes Standard Webhooks, or an incoming webhook of Slack's. */
export const webhook = defineSink({
  name: 'webhook',
  title: 'The webhook',
  settings: {
    WEBHOOK_URL: {
      schema: webhookUrl,
      unset: 'none; required with AUDIT_SINK=webhook',
      processes: FORWARDERS,
      doc: 'https address that each event is posted to (webhook.md)',
    },
    WEBHOOK_SECRET: {
      schema: webhookSecrets,
      unset: 'none; required unless WEBHOOK_FORMAT=slack',
      processes: FORWARDERS,
      doc: 'secret that posts are signed with, whsec_ and 24 to 64 bytes in base64; several, separated by blanks, sign each',
    },
    WEBHOOK_EVENTS: {
      schema: webhookEvents,
      unset: 'all events, and no seals',
      processes: FORWARDERS,
      doc: 'comma-separated types of the events that are posted; audit.sealed among them posts seals too',
    },
    WEBHOOK_FORMAT: {
      schema: oneOf(['standard', 'slack']),
      default: 'standard',
      processes: FORWARDERS,
      doc: 'standard posts the shipped text, slack a sentence for an incoming webhook of Slack’s',
    },
    WEBHOOK_ALLOW_PRIVATE: {
      schema: z.pipe(
        oneOf(['true', 'false']),
        z.transform((text) => text === 'true'),
      ),
      default: 'false',
      processes: FORWARDERS,
      doc: 'true also allows private, loopback and link-local addresses, and http',
    },
  },
  *problems({ WEBHOOK_URL, WEBHOOK_EVENTS, WEBHOOK_FORMAT, WEBHOOK_ALLOW_PRIVATE }, isSet) {
    const isSlack = WEBHOOK_FORMAT === 'slack';
    if (!isSet('WEBHOOK_URL')) yield 'Set WEBHOOK_URL: AUDIT_SINK=webhook needs it.';
    if (!isSet('WEBHOOK_SECRET') && !isSlack)
      yield 'Set WEBHOOK_SECRET: receivers verify posts by it. echo "whsec_$(openssl rand -base64 32)" prints one.';
    if (isSlack && WEBHOOK_EVENTS?.includes(SEALED))
      yield `Take ${SEALED} out of WEBHOOK_EVENTS, or set WEBHOOK_FORMAT to standard: Slack gets no seals.`;
    if (WEBHOOK_URL === null || WEBHOOK_ALLOW_PRIVATE) return;
    const address = literalAddress(WEBHOOK_URL);
    if (address !== null && !isPublic(address))
      yield 'Set WEBHOOK_URL to a public address, or WEBHOOK_ALLOW_PRIVATE to true.';
    else if (WEBHOOK_URL.protocol !== 'https:')
      yield 'Set WEBHOOK_URL to an https address, or WEBHOOK_ALLOW_PRIVATE to true.';
  },
  destination: ({ values }) => destinationOf(values.WEBHOOK_URL),
  async make({ values }, log) {
    const { makeWebhookSink } = await import('./webhook/sink.ts');
    if (values.WEBHOOK_URL === null) throw new Error('WEBHOOK_URL is not set.');
    return makeWebhookSink({
      url: values.WEBHOOK_URL,
      keys: values.WEBHOOK_SECRET ?? [],
      types: values.WEBHOOK_EVENTS,
      format: values.WEBHOOK_FORMAT,
      allowPrivate: values.WEBHOOK_ALLOW_PRIVATE,
      destination: destinationOf(values.WEBHOOK_URL),
      log,
    });
  },
});

/** By host, and a hash for the path and the query, which may be secrets. Another password is no other destination. */
function destinationOf(url: URL | null): string {
  if (url === null) return 'webhook:';
  return `webhook:${url.host}#${hash('sha256', url.pathname + url.search).slice(0, 8)}`;
}
