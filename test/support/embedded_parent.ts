/**
 * A process that starts an embedded server and then waits to be killed. Imports nothing but the server's own
 * module, so that it also runs from a copy that holds little more.
 *
 * Arguments: the module's URL, the data folder. Prints one line of JSON when the server is ready.
 */
import type * as Module from '../../src/postgres/embedded/postgres.ts';
import type { Logger } from '../../src/lib/log.ts';

const [moduleUrl, dataDir] = process.argv.slice(2);
if (moduleUrl === undefined || dataDir === undefined) throw new Error('Two arguments are wanted.');

const { startEmbeddedPostgres } = (await import(moduleUrl)) as typeof Module;

const ignore = () => undefined;
const log = { info: ignore, warn: ignore } as unknown as Logger;
const settings = { fsync: 'off' };

process.on('SIGINT', () => process.stdout.write('interrupted\n'));
const server = await startEmbeddedPostgres({ dataDir, log, settings });
const { port, superuserUrl } = server;
process.stdout.write(`${JSON.stringify({ port, superuserUrl, pgdata: server.dataDir })}\n`);
