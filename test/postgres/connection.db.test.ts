import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { withConnection } from '../../src/postgres/connection.ts';
import type { ConnectionError } from '../../src/postgres/error.ts';
import { CERTIFICATE, startTlsServer } from '../support/tls_server.ts';

test('a connection that is lost while nobody asks ends no process, and fails the next query', async () => {
  const url = inject('rootUrl');
  const pid = (client: { query: (sql: string) => Promise<{ rows: { pid: number }[] }> }) =>
    client.query('select pg_backend_pid() as pid').then(({ rows }) => rows[0]?.pid);
  const lost = withConnection(url, 'halyard test', async (client) => {
    const ended = new Promise((resolve) => client.once('end', resolve));
    const victim = await pid(client);
    await withConnection(url, 'halyard test', (other) =>
      other.query('select pg_terminate_backend($1)', [victim]),
    );
    await ended;
    await pid(client);
  });
  await expect(lost).rejects.toThrow();
});

test('each reason why TLS is refused is one sentence that says what to do', async () => {
  await using server = await startTlsServer();
  const folder = await mkdtemp(join(tmpdir(), 'halyard-tls-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const authority = join(folder, 'ca.pem');
  await writeFile(authority, CERTIFICATE);
  const said = async (query: string) => {
    const given = `postgres://u:gr8secret@127.0.0.1:${server.port}/halyard?${query}`;
    const url = loadConfig({ DATABASE_URL: given }, 'migrate').databaseUrl ?? '';
    const error: unknown = await withConnection(url, 'halyard test', () => Promise.resolve()).catch(
      (reason: unknown) => reason,
    );
    const { message } = error as ConnectionError;
    expect(message).not.toMatch(/gr8secret|\n/);
    return message;
  };
  const root = `sslrootcert=${encodeURIComponent(authority)}`;
  for (const mode of ['sslmode=verify-full', 'sslmode=require', 'ssl=true'])
    expect(await said(mode)).toMatch(/can't be used: self-signed certificate: .*sslrootcert=/);
  expect(await said(`sslmode=verify-full&${root}`)).toMatch(
    /can't be used: Hostname\/IP does not match .*: put a host name into the address that the server's certificate is for\.$/,
  );
  expect(await said('sslmode=verify-full&sslrootcert=/absent/ca.pem')).toMatch(
    /can't be used: \/absent\/ca\.pem, which the address names, can't be read \(ENOENT\)/,
  );
  // TLS stands; the server is none.
  const past = /can't be reached: Connection terminated unexpectedly\.$/;
  expect(await said('sslmode=no-verify')).toMatch(past);
  expect(await said('uselibpqcompat=true&sslmode=require')).toMatch(past);
  expect(await said(`uselibpqcompat=true&sslmode=verify-ca&${root}`)).toMatch(past);
});

test('an address of a socket without a host, as Cloud SQL has it, leads to the socket', async () => {
  const given = 'postgres://u:gr8secret@/halyard?host=/cloudsql/project:region:instance';
  const url = loadConfig({ DATABASE_URL: given }, 'migrate').databaseUrl ?? '';
  await expect(withConnection(url, 'halyard test', () => Promise.resolve())).rejects.toThrow(
    "The database /cloudsql/project:region:instance:5432/halyard can't be reached: there is no socket /cloudsql/project:region:instance/.s.PGSQL.5432: ",
  );
});
