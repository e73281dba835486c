import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { callApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { addMany } from '../support/export.ts';
import { startProcess } from '../support/processes.ts';
import { adminToken, auditorToken, TEST_SECRET } from '../support/tokens.ts';

const database = useDatabase();

const SOCKETS = 60;
const PATH = '/api/admin/audit/events';

/** Resident memory in MiB. */
async function memoryOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1_024;
}

test('sixty exports that no client reads leave the API small, and other users are answered', async () => {
  // More than the buffers between server and client hold, sixty times over.
  await withClient(database.ownerUrl, (client) =>
    addMany(client, 1_200, { text: 'x'.repeat(7_000) }),
  );
  const node = ['--max-semi-space-size=4', '--heap-growing-percent=20'];
  const api = startProcess(process.execPath, [...node, 'src/main.ts', 'api'], {
    env: {
      NODE_ENV: 'production',
      PORT: '0',
      JWT_SECRET: TEST_SECRET,
      AUTH_DATABASE_URL: database.authenticatorUrl,
      STREAMS: String(SOCKETS),
      STREAMS_PER_USER: String(SOCKETS),
    },
  });
  onTestFinished(async () => {
    await api.end('SIGKILL');
  });
  const [, url = ''] = await api.waitFor(/"url":"(http:[^"]+)","msg":"the API is listening"/);
  const { hostname, port } = new URL(url);
  for (let i = 0; i < SOCKETS; i++) {
    const socket = connect(Number(port), hostname).on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    socket.pause();
    socket.write(
      `GET ${PATH} HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nAuthorization: Bearer ${auditorToken()}\r\n\r\n`,
    );
  }
  // All have begun, and each reads as far as it may.
  await withClient(database.ownerUrl, (client) =>
    expect
      .poll(
        async () => {
          const { rows } = await client.query<{ begun: number; busy: number }>(
            `select
               (select count(*)::int from audit.events where event_type = 'audit.exported') as begun,
               (select count(*)::int from pg_stat_activity where datname = current_database()
                and application_name = 'halyard-api'
                and state_change > clock_timestamp() - interval '1 second') as busy`,
          );
          return rows[0];
        },
        { timeout: 60_000, interval: 200 },
      )
      .toEqual({ begun: SOCKETS, busy: 0 }),
  );
  const begun = performance.now();
  const answer = await callApi(url, 'GET /api/admin/flags', { token: adminToken() });
  expect(answer.status).toBe(200);
  expect(performance.now() - begun).toBeLessThan(5_000);
  expect(await memoryOf(Number(api.child.pid))).toBeLessThan(300);
});
