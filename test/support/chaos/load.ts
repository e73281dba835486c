import { setTimeout as pause } from 'node:timers/promises';
import type { Schedule } from '../../../src/schemas.ts';
import { callApi } from '../api.ts';
import type { Call } from '../api.ts';
import { adminToken } from '../tokens.ts';
import { byForm } from './form.ts';
import type { Random } from './random.ts';
import { BROKEN_FLAG } from './site.ts';
import type { Site } from './site.ts';

/** Clients that change things through the APIs until they are stopped. */
export interface Load {
  /** Answers of 2xx to changes so far. */
  promised(): number;
  /** Lets requests in flight end. */
  stop(): Promise<void>;
}

/** How long a client waits for an answer, and before it asks again after none came. */
const ANSWER_MS = 10_000;
const RETRY_MS = 50;

/** Starts that many clients, each of which asks again a moment after it is answered. */
export function startLoad(site: Site, random: Random, clients = 4): Load {
  const stopping = new AbortController();
  const running = Array.from({ length: clients }, (_, i) =>
    runClient(site, random, `${random.seed}-${i}`, stopping.signal),
  );
  // Looked at by stop(); until then nobody else may be alarmed.
  const done = Promise.all(running);
  done.catch(() => undefined);
  return {
    promised: () => site.journal.promises.length,
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

async function runClient(
  site: Site,
  random: Random,
  name: string,
  stopping: AbortSignal,
): Promise<void> {
  const client = makeClient(site, random, name);
  await client.createFlag();
  while (!stopping.aborted) {
    const what = random.pick(['flag', 'patch', 'patch', 'soon', 'soon', 'later', 'cancel', 'fail']);
    if (what === 'flag') await client.createFlag();
    else if (what === 'patch') await client.patch();
    else if (what === 'soon') await client.schedule(random.between(50, 1_500));
    else if (what === 'later') await client.schedule(3_600_000);
    else if (what === 'cancel') await client.cancel();
    else await client.scheduleFailure();
    await pause(random.between(0, byForm({ short: 100, full: 30 })));
  }
}

function makeClient(site: Site, random: Random, name: string) {
  const token = adminToken({ userId: name });
  const flags: string[] = [];
  const cancellable: { flag: string; id: string }[] = [];
  let requests = 0;

  /** Sends a request, and keeps in the journal what the answer promises. */
  async function ask(
    target: string,
    eventType: string,
    json: unknown,
  ): Promise<Schedule | undefined> {
    const requestId = `chaos-${name}-${++requests}`;
    const url = site.urls.at(random.between(0, site.urls.length - 1));
    const call: Call = { token, json, headers: { 'x-request-id': requestId } };
    const answer = await within(ANSWER_MS, callApi(url ?? 'http://127.0.0.1:1', target, call));
    if (answer !== null) site.journal.answered(answer.status);
    if (answer === null || answer.status >= 500) {
      site.journal.unanswered(requestId);
      await pause(RETRY_MS);
      return undefined;
    }
    if (answer.status >= 300) return undefined;
    const row = answer.body as unknown as Schedule;
    site.journal.promised({ requestId, eventType, rowId: row.id });
    return row;
  }

  const flag = () => flags[random.between(0, flags.length - 1)];

  async function schedule(flagKey: string, inMs: number): Promise<void> {
    const made = await ask(`POST /api/admin/flags/${flagKey}/schedule`, 'flag_schedule.created', {
      scheduled_at: new Date(Date.now() + inMs).toISOString(),
      updates: { rollout_percentage: random.between(0, 100) },
    });
    if (made !== undefined && inMs > 60_000) cancellable.push({ flag: flagKey, id: made.id });
  }

  return {
    async createFlag(): Promise<void> {
      const flag_key = `chaos-${name}-${requests}`;
      const made = await ask('POST /api/admin/flags', 'feature_flag.created', { flag_key });
      if (made !== undefined) flags.push(flag_key);
    },
    async patch(): Promise<void> {
      const key = flag();
      if (key === undefined) return;
      // Never what it is already, so that there is an event.
      const description = `${name}-${requests}`;
      await ask(`PATCH /api/admin/flags/${key}`, 'feature_flag.updated', { description });
    },
    async schedule(inMs: number): Promise<void> {
      const key = flag();
      if (key !== undefined) await schedule(key, inMs);
    },
    scheduleFailure: () => schedule(BROKEN_FLAG, 200),
    async cancel(): Promise<void> {
      const one = cancellable.pop();
      if (one === undefined) return;
      const target = `DELETE /api/admin/flags/${one.flag}/schedule/${one.id}`;
      await ask(target, 'flag_schedule.cancelled', undefined);
    },
  };
}

/** Null when there is no answer: refused, cut off, cut short, or too late. */
async function within<T>(ms: number, answer: Promise<T>): Promise<T | null> {
  const late = pause(ms, null, { ref: false });
  return Promise.race([answer.catch(() => null), late]);
}
