/** The fields of a flag, as migrations/fixtures/flags/fields.sql has them for the database. */
import { z } from '../lib/zod.ts';

import { LIMITS, text } from '../http/schema_parts.ts';

interface FlagField {
  /** A value of the field, null among them where the column may be null. */
  readonly schema: z.ZodMiniType;
  /** What a value must be, for GraphQL's error: it completes a sentence that begins with the column's name. */
  readonly rule: string;
  /** Whether a schedule may change it. */
  readonly schedulable: boolean;
  /** Its type in PostgreSQL and in GraphQL. */
  readonly sql: string;
  readonly graphql: 'Boolean' | 'Int' | 'String';
  /** What setting it does. */
  readonly description: string;
}

export const rolloutPercentageSchema = z.int().check(z.minimum(0), z.maximum(100));

/** By column. The shapes of REST, the columns of its statements and the types of GraphQL come from here. */
export const FLAG_FIELDS = {
  enabled: {
    schema: z.boolean(),
    rule: 'must be true or false',
    schedulable: true,
    sql: 'boolean',
    graphql: 'Boolean',
    description: 'Turn the flag on or off.',
  },
  rollout_percentage: {
    schema: rolloutPercentageSchema,
    rule: 'must be a whole number from 0 to 100',
    schedulable: true,
    sql: 'integer',
    graphql: 'Int',
    description: 'Set the share of users that get the feature, 0 to 100.',
  },
  description: {
    schema: z.nullable(text(LIMITS.description)),
    rule: 'may have 2,000 characters at most',
    schedulable: false,
    sql: 'text',
    graphql: 'String',
    description: 'Say what the flag is for.',
  },
} as const satisfies Readonly<Record<string, FlagField>>;

type Fields = typeof FLAG_FIELDS;

const entries: readonly [string, FlagField][] = Object.entries(FLAG_FIELDS);

export const FLAG_COLUMNS: readonly string[] = entries.map(([name]) => name);

/** The fields that a schedule may change. */
export const SCHEDULABLE_FIELDS = entries.filter(([, { schedulable }]) => schedulable);

/** Every field, as a flag has it. */
export const flagShape = Object.fromEntries(
  entries.map(([name, { schema }]) => [name, schema]),
) as {
  [K in keyof Fields]: Fields[K]['schema'];
};

/** Every field, each of which may be left out. */
export const flagPatchShape = z.partial(z.object(flagShape)).shape;

/** The fields of a schedule's updates, each of which may be left out. */
export const updatesShape = z.partial(
  z.object(
    Object.fromEntries(SCHEDULABLE_FIELDS.map(([name, field]) => [name, withoutNull(field)])) as {
      [K in keyof Fields as Fields[K]['schedulable'] extends true ? K : never]: Fields[K]['schema'];
    },
  ),
).shape;

/** A schedule sets a field to a value, and can't set it to null: updates_problem() refuses null, and patch_flags() passes it over. */
function withoutNull({ schema }: FlagField): z.ZodMiniType {
  return schema instanceof z.ZodMiniNullable ? (schema.def.innerType as z.ZodMiniType) : schema;
}

/**
 * An object with at least one of these fields. No other key is let through.
 *
 * @param counted the fields of which one must be there; all of them unless given
 */
export function someOf<T extends z.core.$ZodShape>(
  fields: T,
  counted: readonly string[] = Object.keys(fields),
): z.ZodMiniObject<T, z.core.$strict> {
  return z
    .strictObject(fields)
    .check(
      z.refine(
        (given) => counted.some((name) => (given as Record<string, unknown>)[name] !== undefined),
        `must have at least one of: ${counted.join(', ')}`,
      ),
    );
}
