import { once } from 'node:events';
import type { Server } from 'node:http';
import { createServer, type AddressInfo, type Server as NetServer } from 'node:net';
import { ConfigError } from '../config/config.ts';
import { isErrno } from '../lib/errno.ts';

/** An address to listen on; `port` 0 takes any free one. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/**
 * Has a server listen.
 *
 * @param settings how the names of its settings begin
 * @returns its URL, as clients on this machine reach it
 * @throws ConfigError when the address can't be listened on
 */
export async function listen(server: Server, at: Place, settings = ''): Promise<string> {
  const { address, family, port } = await bind(server, at, settings);
  // All addresses: a browser treats 0.0.0.0 as another machine, and keeps no cookie of a sign-in there.
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[address] ?? address;
  return `http://${family === 'IPv6' ? `[${host}]` : host}:${port}`;
}

/**
 * Makes sure that servers can listen, all at once, before anything is done that would be in vain.
 *
 * @param places by how the names of their settings begin; null for none
 * @throws ConfigError as listen() would
 */
export async function assertCanListen(
  places: Readonly<Record<string, { readonly host: string; readonly port: number | null }>>,
): Promise<void> {
  await using bound = new AsyncDisposableStack();
  for (const [settings, { host, port }] of Object.entries(places)) {
    if (port === null) continue;
    const server = createServer();
    await bind(server, { host, port }, settings);
    bound.defer(() => new Promise((resolve) => server.close(() => resolve())));
  }
}

async function bind(server: NetServer, at: Place, settings: string): Promise<AddressInfo> {
  server.listen(at.port, at.host);
  await once(server, 'listening').catch((error: unknown) => {
    throw new ConfigError([problemOf(error, at, settings)]);
  });
  return server.address() as AddressInfo;
}

function problemOf(error: unknown, { host, port }: Place, settings: string): string {
  const code = isErrno(error) ? error.code : '';
  if (code === 'EADDRINUSE')
    return `Set ${settings}PORT to a free port, or end what listens on ${host}:${port} already (${code}).`;
  if (code === 'EACCES')
    return `Set ${settings}PORT to 1024 or more: this user may not listen on ${host}:${port} (${code}).`;
  if (['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'].includes(code))
    return `Set ${settings}HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0: ${host} is none (${code}).`;
  const reason = error instanceof Error ? error.message : String(error);
  return `Set ${settings}HOST and ${settings}PORT to a free address: can't listen on ${host}:${port} (${reason}).`;
}
