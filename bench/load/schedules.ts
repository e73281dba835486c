import autocannon from 'autocannon';
import { serve } from './serve.ts';

/** Creating schedules by REST that come due while others are created. */
export interface SchedulesOptions {
  /** Where APIs listen; each gets the same share of the connections. */
  readonly urls: readonly string[];
  readonly token: string;
  /** Keys of flags that there are, to take in turn. */
  readonly flags: readonly string[];
  /** Over all APIs. */
  readonly connections: number;
  /** How long after it is asked for each is due, in milliseconds. */
  readonly dueInMs: number;
}

export interface SchedulesTask {
  readonly seconds: number;
}

/** What the clients were answered. */
export interface SchedulesAnswer {
  readonly created: number;
  readonly perSecond: number;
  /** Answers that were no 2xx, and connections that failed. */
  readonly refused: number;
}

serve(({ urls, token, flags, connections, dueInMs }: SchedulesOptions) => {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  let asked = 0;

  /** The next request. */
  function setupRequest(request: autocannon.Request): autocannon.Request {
    const flag = flags[asked++ % flags.length] ?? '';
    return {
      ...request,
      path: `/api/admin/flags/${flag}/schedule`,
      body: JSON.stringify({
        scheduled_at: new Date(Date.now() + dueInMs).toISOString(),
        updates: { rollout_percentage: asked % 101 },
      }),
    };
  }

  return Promise.resolve(async ({ seconds }: SchedulesTask): Promise<SchedulesAnswer> => {
    const results = await Promise.all(
      urls.map((url) =>
        autocannon({
          url,
          connections: connections / urls.length,
          duration: seconds,
          // How often it checks whether the time is over: once a second by default.
          sampleInt: 20,
          headers,
          requests: [{ method: 'POST', setupRequest }],
        }),
      ),
    );
    const sum = (of: (result: autocannon.Result) => number) =>
      results.reduce((total, result) => total + of(result), 0);
    return {
      created: sum((result) => result['2xx']),
      perSecond: sum((result) => result['2xx'] / result.duration),
      refused: sum((result) => result.non2xx + result.errors),
    };
  });
});
