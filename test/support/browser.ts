import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';

export interface Page {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON. */
  readonly body: Record<string, unknown>;
}

interface Visit {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, by the page's own script. */
  readonly json?: unknown;
  /** Whether a script of the page sends it, with the headers that make it so; a navigation otherwise. */
  readonly byPage?: boolean;
}

/** The headers of a request by the console's own script. */
export const OWN_PAGE = { 'sec-fetch-site': 'same-origin', 'x-halyard-console': '1' };

/** A browser as far as cookies go: it keeps them for one server. fetch() would set Sec-Fetch-Mode by itself. */
export class Browser {
  readonly cookies = new Map<string, string>();
  /** The attributes with which each cookie was set. */
  readonly attributes = new Map<string, string>();
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  get cookie(): string {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  /** @param target method and path, or the whole address */
  async visit(target: string, { headers = {}, json, byPage = false }: Visit = {}): Promise<Page> {
    const [method = '', path = ''] = target.split(/ (.*)/s);
    const sent = request(new URL(path, this.#url), {
      // A connection of its own: the server closes one whose body it refuses unread.
      agent: false,
      method,
      headers: {
        ...(this.cookie !== '' && { cookie: this.cookie }),
        ...(byPage && OWN_PAGE),
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
    });
    sent.end(json === undefined ? undefined : JSON.stringify(json));
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve).once('error', reject);
    });
    const { statusCode = 0, headers: received } = response;
    for (const line of received['set-cookie'] ?? []) this.#keep(line);
    const said = await text(response);
    const isJson = received['content-type']?.includes('json') === true;
    const body = (isJson ? JSON.parse(said) : {}) as Record<string, unknown>;
    return { status: statusCode, headers: received, text: said, body };
  }

  #keep(line: string): void {
    const [, name = '', value = '', attributes = ''] = /^([^=]+)=([^;]*);? ?(.*)$/.exec(line) ?? [];
    this.attributes.set(name, attributes);
    if (value === '') this.cookies.delete(name);
    else this.cookies.set(name, value);
  }
}
