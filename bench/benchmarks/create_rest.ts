import { creatingBy } from '../creating.ts';

export const createRest = creatingBy({
  name: 'create_rest',
  description:
    'How many schedules a second are created by REST, and where does the time of a request go?',
  create: 'create',
  target: 0.6,
  steps: [
    { work: 'healthz', what: 'HTTP and Express (GET /healthz)' },
    { work: 'get', what: 'and token, claims, transaction (GET one schedule)' },
  ],
});
