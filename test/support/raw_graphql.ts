import type { TestApi } from './graphql.ts';
import { adminToken } from './tokens.ts';

/** Sends a body as it is. */
export async function sendRaw(
  to: TestApi,
  body: string | Buffer,
  headers: Record<string, string> = {},
  method = 'POST',
): Promise<{ status: number; code: string | undefined; headers: Headers }> {
  const response = await fetch(to.url, {
    method,
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${adminToken()}`,
      ...headers,
    },
    ...(method === 'GET' || method === 'HEAD' ? {} : { body: new Uint8Array(Buffer.from(body)) }),
  });
  const text = await response.text();
  const json = (text === '' ? {} : JSON.parse(text)) as {
    errors?: { extensions: { code: string } }[];
  };
  return {
    status: response.status,
    code: json.errors?.[0]?.extensions.code,
    headers: response.headers,
  };
}
