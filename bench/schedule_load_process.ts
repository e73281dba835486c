// The load of schedule_load.ts, in a process of its own.
import autocannon from 'autocannon';
import type { ScheduleLoad, ScheduleLoadAnswers } from './schedule_load.ts';

const load = JSON.parse(process.argv[2] ?? '{}') as ScheduleLoad;
let asked = 0;

const results = await Promise.all(
  load.urls.map((url) =>
    autocannon({
      url,
      connections: load.connections / load.urls.length,
      duration: load.seconds,
      headers: { authorization: `Bearer ${load.token}`, 'content-type': 'application/json' },
      requests: [
        {
          method: 'POST',
          setupRequest: (request) => {
            const flag = load.flags[asked++ % load.flags.length] ?? '';
            return {
              ...request,
              path: `/api/admin/flags/${flag}/schedule`,
              body: JSON.stringify({
                scheduled_at: new Date(Date.now() + load.dueInMs).toISOString(),
                updates: { rollout_percentage: asked % 101 },
              }),
            };
          },
        },
      ],
    }),
  ),
);
const sum = (of: (result: autocannon.Result) => number) =>
  results.reduce((total, result) => total + of(result), 0);
const answers: ScheduleLoadAnswers = {
  created: sum((result) => result['2xx']),
  perSecond: sum((result) => result['2xx'] / result.duration),
  refused: sum((result) => result.non2xx + result.errors),
};
process.send?.(answers);
