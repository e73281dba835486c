import { closeSync, openSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, vi } from 'vitest';
import { withClient } from '../database.ts';
import type { TestDatabase } from '../database.ts';
import { insertFlag } from '../factory.ts';
import { TEST_SECRET } from '../tokens.ts';
import { breakFlag } from '../trail.ts';
import { linesOf } from './copies.ts';
import { collectFacts } from './facts.ts';
import type { Copy } from './facts.ts';
import { findBreaches } from './invariant.ts';
import type { Breach } from './invariant.ts';
import { makeJournal } from './journal.ts';
import type { Journal } from './journal.ts';
import { startPostgresProxy } from './postgres_proxy.ts';
import type { PostgresProxy } from './postgres_proxy.ts';
import { startHalyard } from './process.ts';
import type { ChaosProcess } from './process.ts';

/** Where the workers of a site send the trail, and what has arrived there. */
export interface Destination {
  /** The cursor's name. */
  readonly name: string;
  readonly env: Record<string, string>;
  copy(): Promise<Copy>;
}

/** A whole Halyard: a database, processes, a destination, and what clients were told. */
export interface Site {
  readonly database: TestDatabase;
  readonly proxy: PostgresProxy;
  readonly journal: Journal;
  /** Those that are ready. */
  readonly workers: ChaosProcess[];
  readonly apis: ChaosProcess[];
  /** Where each of the APIs listens. */
  readonly urls: string[];
  /** @param env what is added to its environment */
  startWorker(env?: Record<string, string>): Promise<ChaosProcess>;
  startApi(): Promise<ChaosProcess>;
  /** Kills a process, and puts another one in its place. */
  replace(process: ChaosProcess): Promise<void>;
  /** What has arrived at the destination. */
  copy(): Promise<Copy>;
  /** Waits until nothing is due, queued or on its way. */
  settle(deadlineMs?: number): Promise<void>;
  /** Settles, and gives what is broken in the invariant. */
  breaches(deadlineMs?: number): Promise<Breach[]>;
  /** Settles, and expects the invariant to hold. */
  check(deadlineMs?: number): Promise<void>;
}

/** A flag of each site that refuses every change: its schedules fail for good. */
export const BROKEN_FLAG = 'chaos-broken';

/** What a site is like. */
export interface SiteOptions {
  /** Processes reach the database at the address of its URLs, and not through the site's proxy. */
  readonly direct?: boolean;
  /** What is added to the environment of every process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Is given every line that a process logs. */
  readonly onLine?: (line: string) => void;
}

/** Opens it in that database; every process is killed after the test. */
export async function openSite(
  database: TestDatabase,
  to?: Destination,
  { direct = false, env: siteEnv = {}, onLine }: SiteOptions = {},
): Promise<Site> {
  // Not by the database alone: on servers of their own these have the same name.
  const file = join(tmpdir(), `halyard-chaos-${database.name}-${process.pid}.ndjson`);
  const stdout = openSync(file, 'a');
  const proxy = await startPostgresProxy({ port: Number(new URL(database.rootUrl).port) });
  const processes: ChaosProcess[] = [];
  onTestFinished(async () => {
    await Promise.all(processes.map((process) => process.kill()));
    await proxy[Symbol.asyncDispose]();
    closeSync(stdout);
    await rm(file);
  });
  await prepare(database);
  const address = (url: string) => (direct ? url : proxy.through(url));

  const destination = to ?? stdoutDestination(file);
  const journal = makeJournal();
  const workers: ChaosProcess[] = [];
  const apis: ChaosProcess[] = [];
  const urls: string[] = [];

  async function startWorker(env: Record<string, string> = {}): Promise<ChaosProcess> {
    const worker = startHalyard('worker', {
      stdout,
      onLine,
      env: {
        WORKER_DATABASE_URL: address(database.workerUrl),
        ...destination.env,
        ...siteEnv,
        ...env,
      },
    });
    processes.push(worker);
    await worker.said(/the worker is running/);
    workers.push(worker);
    return worker;
  }

  async function startApi(): Promise<ChaosProcess> {
    const api = startHalyard('api', {
      onLine,
      env: {
        AUTH_DATABASE_URL: address(database.authenticatorUrl),
        JWT_SECRET: TEST_SECRET,
        PORT: '0',
        ...siteEnv,
      },
    });
    processes.push(api);
    const [, url = ''] = await api.said(/"url":"([^"]+)".*the API is listening/);
    apis.push(api);
    urls.push(url);
    return api;
  }

  async function replace(process: ChaosProcess): Promise<void> {
    const api = apis.indexOf(process);
    await process.kill();
    if (api >= 0) {
      apis.splice(api, 1);
      urls.splice(api, 1);
      await startApi();
    } else {
      workers.splice(workers.indexOf(process), 1);
      await startWorker();
    }
  }

  async function settle(deadlineMs = 30_000): Promise<void> {
    const idle = { due: 0, queued: 0, behind: 0 };
    await vi
      .waitFor(async () => expect(await unsettled(database, destination.name)).toEqual(idle), {
        timeout: deadlineMs,
        interval: 100,
      })
      .catch((error: unknown) => {
        const logs = [...workers, ...apis].map(
          (process) => `--- ${process.name}\n${process.lines.slice(-15).join('\n')}`,
        );
        throw new Error(`The site did not settle.\n${logs.join('\n')}`, { cause: error });
      });
  }

  async function breaches(deadlineMs?: number): Promise<Breach[]> {
    await settle(deadlineMs);
    return findBreaches(await collectFacts(database, [await destination.copy()], journal.promises));
  }

  async function check(deadlineMs?: number): Promise<void> {
    expect(await breaches(deadlineMs)).toEqual([]);
  }

  return {
    ...{ database, proxy, journal, workers, apis, urls },
    ...{ startWorker, startApi, replace, settle, breaches, check },
    copy: () => destination.copy(),
  };
}

function stdoutDestination(file: string): Destination {
  return {
    name: 'stdout',
    env: {},
    copy: async () => ({ destination: 'stdout', lines: linesOf(await readFile(file, 'utf8')) }),
  };
}

/** Retries come quickly, and one flag refuses every change. */
async function prepare(database: TestDatabase): Promise<void> {
  await withClient(database.rootUrl, async (client) => {
    await client.query('set role halyard_owner');
    await client.query(`select app_private.set_setting('retry_base', '20 ms')`);
    await insertFlag(client, { flag_key: BROKEN_FLAG });
    await breakFlag(client, BROKEN_FLAG);
  });
}

async function unsettled(
  database: TestDatabase,
  destination: string,
): Promise<Record<string, number> | undefined> {
  return withClient(database.rootUrl, async (client) => {
    const { rows } = await client.query<Record<string, number>>(
      `select
         (select count(*) from app_public.feature_flag_schedules s
           where s.status = 'pending' and least(s.next_attempt_at, s.scheduled_at) < clock_timestamp() + interval '3 seconds')::int as due,
         (select count(*) from audit.queue)::int as queued,
         (select coalesce(max(l.seq), 0) from audit.ledger l)::int - app_private.audit_cursor($1)::int as behind`,
      [destination],
    );
    return rows[0];
  });
}
