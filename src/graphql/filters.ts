import { Kind, visit } from 'postgraphile/graphql';
import type { DocumentNode, FieldNode, OperationDefinitionNode } from 'postgraphile/graphql';
import type pg from 'pg';
import { EVENT_LEVELS, eventTypePatternProblem, eventTypeProblem } from '../audit/event_types.ts';
import type { Claims } from '../auth/claims.ts';
import { ProblemError } from '../lib/errors.ts';
import type { Settings } from '../postgres/request_settings.ts';
import { queryAs } from '../postgres/transaction.ts';
import { PLAN_STATUSES } from '../plans/schemas.ts';
import { SCHEDULE_STATUSES } from '../schedules/schemas.ts';
import { ACTOR_KINDS } from './schema/trail_conditions.ts';
import { argumentsIn, type Values } from './variables.ts';

/** An environment that a list is narrowed to. */
interface NamedEnvironment {
  readonly name: string;
  /** Whether it narrows the trail, which keeps the events of deleted environments. */
  readonly inTrail: boolean;
}

/** Environments that are known to exist. One that is deleted later answers empty lists until the process ends. */
const MAX_KNOWN = 1_000;

/**
 * Checks what lists are narrowed to, in conditions and arguments of fields: a misspelt value would give an empty list, which reads as an
 * answer.
 *
 * @returns the environments that are named, for makeEnvironmentCheck
 * @throws ProblemError invalid_value for a status, an event type, a level or a kind of actor that there isn't, null among them: every row has each
 */
export function checkFilters(
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Values,
): NamedEnvironment[] {
  const named = new Map<string, NamedEnvironment>();
  const enter = (field: FieldNode) => {
    const inTrail = field.name.value.startsWith('auditEvent');
    const statuses = field.name.value === 'plans' ? PLAN_STATUSES : SCHEDULE_STATUSES;
    for (const { environment, ...condition } of filtersOf(field, variables)) {
      requireKnown('status', condition.status, oneOf(statuses));
      requireKnown('level', condition.level, oneOf(EVENT_LEVELS));
      requireKnown('eventType', condition.eventType, eventTypeProblem);
      requireKnown('eventTypePattern', condition.eventTypePattern, eventTypePatternProblem);
      requireKnown('actorKind', condition.actorKind, oneOf(ACTOR_KINDS));
      if (typeof environment === 'string')
        named.set(JSON.stringify([environment, inTrail]), { name: environment, inTrail });
    }
  };
  for (const definition of document.definitions)
    if (definition === operation || definition.kind === Kind.FRAGMENT_DEFINITION)
      visit(definition, { Field: enter });
  return [...named.values()];
}

/** The condition of a field, and its own arguments. Those of a mutation are in `input`, and checked by the database. */
function filtersOf(field: FieldNode, variables: Values): Values[] {
  const { condition, environment } = argumentsIn(field, variables);
  const isObject = typeof condition === 'object' && condition !== null;
  return [{ environment }, ...(isObject ? [condition as Values] : [])];
}

/**
 * A variable of null would find nothing; one that is left out narrows nothing.
 *
 * @param problemWith what is wrong with a text, or null
 */
function requireKnown(
  name: string,
  value: unknown,
  problemWith: (text: string) => string | null,
): void {
  const problem =
    value === null ? 'can’t be null' : typeof value === 'string' ? problemWith(value) : null;
  if (problem !== null) throw new ProblemError('invalid_value', `${name} ${problem}.`);
}

function oneOf(known: readonly string[]) {
  return (text: string) => (known.includes(text) ? null : `must be one of: ${known.join(', ')}`);
}

/** Makes the check that environments exist, and that the token reaches them. It asks the database only for names that are new to it. */
export function makeEnvironmentCheck(pool: pg.Pool) {
  const known = new Set<string>();

  /** @throws the database's ZF014 for the first that doesn't */
  return async (
    named: readonly NamedEnvironment[],
    { environments }: Claims,
    settings: Settings,
  ): Promise<void> => {
    for (const { name, inTrail } of named) {
      const isReached = environments === null || environments.includes(name);
      if (isReached && known.has(name)) continue;
      const statement = {
        name: 'require_environment_in',
        text: 'select exists (select from app_public.environments e where e.name = $1) as exists, app_private.require_environment($1, $2)',
        values: [name, inTrail],
      };
      const { rows } = await queryAs<{ exists: boolean }>(pool, settings, statement);
      if (rows[0]?.exists === true && known.size < MAX_KNOWN) known.add(name);
    }
  };
}
