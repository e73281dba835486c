import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../config/config.ts';

/**
 * Has a server listen.
 *
 * @param at `port` 0 takes any free one
 * @param settings how the names of its settings begin
 * @returns its URL, as clients on this machine reach it
 * @throws ConfigError when the address can't be listened on
 */
export async function listen(
  server: Server,
  at: { readonly host: string; readonly port: number },
  settings = '',
): Promise<string> {
  server.listen(at.port, at.host);
  await once(server, 'listening').catch((error: unknown) => {
    const { message } = error as Error;
    throw new ConfigError([
      `Set ${settings}HOST and ${settings}PORT to a free address: can't listen on ${at.host}:${at.port} (${message}).`,
    ]);
  });
  const { address, family, port } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
