import type { Schedule } from '../../schedules/schemas.ts';

/** What a change sets. */
interface Updates {
  readonly enabled?: boolean;
  readonly rollout_percentage?: number;
}

interface Change {
  readonly environment?: string;
  readonly updates: Updates;
  readonly reason?: string;
}

/** What a change of a plan sets, and expects to find before. */
interface PlannedChange {
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: Updates;
  readonly expects?: Updates;
  readonly on_conflict?: 'keep' | 'suspend';
}

/** One person's requests to the REST API. */
export type Client = ReturnType<typeof makeClient>;

/**
 * @param url of the API
 * @param signal ends what is under way
 * @returns requests that reject with an Error when the API refuses them
 */
export function makeClient(url: string, token: string, signal: AbortSignal) {
  async function send<T>(method: string, path: string, body: object, known?: string): Promise<T> {
    const answer = await fetch(`${url}/api/admin${path}`, {
      ...{ method, signal, body: JSON.stringify(body) },
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    const found = (await answer.json()) as T & { code?: string; detail?: string };
    if (!answer.ok && found.code !== known)
      throw new Error(`${method} ${path}: ${found.detail ?? answer.statusText}`);
    return found;
  }
  const flagPath = (key: string, tail = '', environment?: string): string =>
    `/flags/${key}${tail}${environment === undefined ? '' : `?environment=${environment}`}`;

  return {
    /** Leaves one that is there already. */
    makeEnvironment: (name: string, reason: string) =>
      send('POST', '/environments', { name, reason }, 'environment_exists'),
    /** Leaves one that is there already. */
    makeFlag: (
      key: string,
      flag: Updates & { environment?: string; description?: string; reason?: string },
    ) => send('POST', '/flags', { flag_key: key, ...flag }, 'flag_exists'),
    change: (key: string, { environment, updates, reason }: Change) =>
      send('PATCH', flagPath(key, '', environment), { ...updates, reason }),
    /** @param at milliseconds since 1970 */
    schedule: (key: string, at: number, { environment, updates, reason }: Change) =>
      send<Schedule>('POST', flagPath(key, '/schedule', environment), {
        ...{ scheduled_at: new Date(at).toISOString(), updates, reason },
      }),
    /** @param at milliseconds since 1970 */
    plan: (title: string, at: number, changes: readonly PlannedChange[], reason?: string) =>
      send('POST', '/plans', {
        ...{ title, starts_at: new Date(at).toISOString(), steps: [{ changes }], reason },
      }),
    /** @param at milliseconds since 1970 */
    move: ({ id, flag_key: key, environment }: Schedule, at: number, reason: string) =>
      send('PATCH', flagPath(key, `/schedule/${id}`, environment), {
        ...{ scheduled_at: new Date(at).toISOString(), reason },
      }),
    cancel: ({ id, flag_key: key, environment }: Schedule, reason: string) =>
      send('DELETE', flagPath(key, `/schedule/${id}`, environment), { reason }),
  };
}
