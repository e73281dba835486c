import autocannon from 'autocannon';
import { makeRandom, type Random } from '../../test/support/chaos/random.ts';
import type { Answered, Extent } from '../load.ts';
import { makeCounter, serve } from './serve.ts';
import { drawChange } from './work.ts';

/** Requests to the API by autocannon: each connection sends the next when it has the answer to the last. */
export interface HttpOptions {
  readonly url: string;
  readonly token: string;
  /** Schedules that may be asked for. */
  readonly schedules: readonly { readonly id: string; readonly flagKey: string }[];
}

export interface HttpTask {
  readonly work: Work;
  readonly connections: number;
  readonly extent: Extent;
  readonly seed: number;
}

/** Different requests of each connection, sent again and again in their order. */
const REQUESTS = 64;

/** What is asked: nothing, one schedule, or to create one; by REST or by GraphQL. */
export type Work = 'healthz' | 'get' | 'create' | 'typename' | 'query' | 'mutation';

const CREATED = `
  id flagId scheduledAt status updates { enabled rolloutPercentage } appliedAt errorMessage attempts createdBy
  cancelledBy cancelledAt cancelReason createdAt updatedAt`;
const MUTATION = `
  mutation ($input: ScheduleFlagChangeInput!) {
    scheduleFlagChange(input: $input) { featureFlagSchedule { ${CREATED} } }
  }`;
const QUERY = `query ($id: UUID!) { featureFlagSchedule(id: $id) { ${CREATED} } }`;

interface Drawn {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: object;
}

const graphql = (query: string, variables: object = {}): Drawn => ({
  method: 'POST',
  path: '/graphql',
  body: { query, variables },
});

/** One request of a kind, drawn at random. */
function draw(work: Work, random: Random, schedules: HttpOptions['schedules']): Drawn {
  switch (work) {
    case 'healthz':
      return { method: 'GET', path: '/healthz' };
    case 'typename':
      return graphql('{ __typename }');
    case 'get':
    case 'query': {
      const schedule = schedules[random.between(0, schedules.length - 1)];
      if (schedule === undefined) throw new Error('Give the load some schedules to ask for.');
      const { id, flagKey } = schedule;
      return work === 'query'
        ? graphql(QUERY, { id })
        : { method: 'GET', path: `/api/admin/flags/${flagKey}/schedule/${id}` };
    }
    case 'create':
    case 'mutation': {
      const { flagKey, scheduledAt, enabled, rolloutPercentage } = drawChange(random);
      if (work === 'mutation') {
        const updates = { enabled, rolloutPercentage };
        return graphql(MUTATION, { input: { flagKey, scheduledAt, updates } });
      }
      return {
        method: 'POST',
        path: `/api/admin/flags/${flagKey}/schedule`,
        body: {
          scheduled_at: scheduledAt,
          updates: { enabled, rollout_percentage: rolloutPercentage },
        },
      };
    }
  }
}

serve(({ url, token, schedules }: HttpOptions) => {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return Promise.resolve(
    async ({ work, connections, extent, seed }: HttpTask): Promise<Answered> => {
      const random = makeRandom(seed);
      const counter = makeCounter();
      const done = Promise.withResolvers<autocannon.Result>();
      const options: autocannon.Options = {
        url,
        connections,
        ...('seconds' in extent ? { duration: extent.seconds } : { amount: extent.requests }),
        // How often it checks whether the time is over; at most as often as whole milliseconds.
        sampleInt: 20,
        // GraphQL tells of errors under any status.
        verifyBody: (body) => !String(body).includes('"errors"'),
        // Drawn before the load begins, which autocannon's own part of the work would otherwise grow by.
        setupClient: (client) =>
          client.setRequests(
            Array.from({ length: REQUESTS }, () => {
              const { method, path, body } = draw(work, random, schedules);
              // Autocannon adds the length of the body to the headers it is given.
              return {
                method,
                path,
                headers: { ...headers },
                ...(body && { body: JSON.stringify(body) }),
              };
            }),
          ),
      };
      const load = autocannon(options, (error: unknown, result) => {
        if (error instanceof Error) done.reject(error);
        else done.resolve(result);
      });
      load.on('response', (_client, _status, _bytes, ms) => counter.count(ms));
      const { non2xx, errors, mismatches, statusCodeStats } = await done.promise;
      if (non2xx + errors + mismatches > 0)
        throw new Error(
          `Of the requests (${work}), ${non2xx} got another status than 2xx (${JSON.stringify(statusCodeStats)}), ${errors} no answer, ${mismatches} an answer with errors.`,
        );
      return counter.answered();
    },
  );
});
