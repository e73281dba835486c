import { creatingBy } from '../creating.ts';

export const createGraphql = creatingBy({
  name: 'create_graphql',
  description:
    'How many schedules a second are created by GraphQL, and where does the time of a request go?',
  create: 'mutation',
  target: 0.4,
  steps: [
    { work: 'typename', what: 'HTTP, token and GraphQL without a database ({ __typename })' },
    { work: 'query', what: 'and claims, transaction (query of one schedule)' },
  ],
});
