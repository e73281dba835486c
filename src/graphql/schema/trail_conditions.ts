import type {} from 'postgraphile';
import { addPgTableCondition } from 'postgraphile/utils';
import { typesMatching } from '../../audit/event_types.ts';
import { requireValue } from './values.ts';

const EVENTS = { schemaName: 'audit', tableName: 'events' };

/** What `actorKind` may be: the column's kinds, and of the kind system what the worker's login did. filters.ts refuses others. */
export const ACTOR_KINDS = ['admin', 'system', 'database', 'worker'] as const;

/** Types by a pattern. The types are in a catalogue, so a pattern is a list of them, which an index serves. */
const eventTypePattern = addPgTableCondition(
  EVENTS,
  'eventTypePattern',
  ({ graphql }) => ({
    description:
      'Only of the types with this beginning, behind which stands an asterisk: `flag_schedule.*`. Without one, only of this type.',
    type: graphql.GraphQLString,
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
    requireValue('eventTypePattern', value);
    const { listOfCodec, TYPES } = build.dataplanPg;
    const types = sqlValueWithCodec(typesMatching(String(value)), listOfCodec(TYPES.text));
    return sql`${sqlTableAlias}.event_type = any (${types})`;
  },
);

/** A kind is written into the statement and not given to it: the index of what was typed at a prompt is for its kind alone. */
const actorKind = addPgTableCondition(
  EVENTS,
  'actorKind',
  ({ graphql }) => ({
    description:
      'Only what actors of this kind did: admin, system, database, or worker, which is the system by the worker’s login.',
    type: graphql.GraphQLString,
  }),
  (value, { sql, sqlTableAlias }) => {
    requireValue('actorKind', value);
    const kind = ACTOR_KINDS.find((known) => known === value);
    if (kind === 'worker')
      return sql`(${sqlTableAlias}.actor_kind = 'system' and ${sqlTableAlias}.database_user = 'halyard_worker')`;
    return sql`${sqlTableAlias}.actor_kind = ${sql.literal(kind ?? null)}`;
  },
);

/** What a plan was and did: its own events, those of its schedules, and those of the flags that they changed. */
const planId = addPgTableCondition(
  EVENTS,
  'planId',
  ({ getInputTypeByName }) => ({
    description:
      'Only the events of this plan, of its schedules, and of the flags that they changed.',
    type: getInputTypeByName('UUID'),
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
    requireValue('planId', value);
    const wanted = sqlValueWithCodec(value, build.dataplanPg.TYPES.uuid);
    // As the index events_plan_idx has it.
    return sql`(${sqlTableAlias}.metadata ? 'planId' and ${sqlTableAlias}.metadata ->> 'planId' = ${wanted}::text)`;
  },
);

/** The event with a number: looked up first, so that its partition is the only one that is read. */
const seq = addPgTableCondition(
  EVENTS,
  'seq',
  ({ getInputTypeByName, inflection }) => ({
    description: 'Only the event with this number.',
    type: getInputTypeByName(inflection.builtin('BigInt')),
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
    requireValue('seq', value);
    const wanted = sqlValueWithCodec(value, build.dataplanPg.TYPES.bigint);
    return sql`(${sqlTableAlias}.id, ${sqlTableAlias}.occurred_at) = (
      select l.event_id, l.occurred_at from audit.ledger l where l.seq = ${wanted}
    )`;
  },
);

/** What a search of the trail narrows it to, besides the columns that exposure.ts lists. */
export const trailConditions: GraphileConfig.Plugin[] = [eventTypePattern, actorKind, planId, seq];
