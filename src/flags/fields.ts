/** The fields of a flag, as migrations/fixtures/flags/fields.sql has them for the database. */
import { z } from 'zod';

import { LIMITS, text } from '../http/schema_parts.ts';

interface FlagField {
  /** A value of the field, besides null. */
  readonly schema: z.ZodType;
  readonly nullable: boolean;
  /** Whether a schedule may change it. */
  readonly schedulable: boolean;
  /** Its type in PostgreSQL and in GraphQL. */
  readonly sql: string;
  readonly graphql: 'Boolean' | 'Int' | 'String';
  /** What setting it does. */
  readonly description: string;
}

export const rolloutPercentageSchema = z.int().min(0).max(100);

/** By column. The shapes of REST, the columns of its statements and the types of GraphQL come from here. */
export const FLAG_FIELDS = {
  enabled: {
    schema: z.boolean(),
    nullable: false,
    schedulable: true,
    sql: 'boolean',
    graphql: 'Boolean',
    description: 'Turn the flag on or off.',
  },
  rollout_percentage: {
    schema: rolloutPercentageSchema,
    nullable: false,
    schedulable: true,
    sql: 'integer',
    graphql: 'Int',
    description: 'Set the share of users that get the feature, 0 to 100.',
  },
  description: {
    schema: text(LIMITS.description),
    nullable: true,
    schedulable: false,
    sql: 'text',
    graphql: 'String',
    description: 'Say what the flag is for.',
  },
} as const satisfies Readonly<Record<string, FlagField>>;

type Fields = typeof FLAG_FIELDS;
type Value<F extends FlagField> = F['nullable'] extends true
  ? z.ZodNullable<F['schema']>
  : F['schema'];
type SchedulableName = {
  [K in keyof Fields]: Fields[K]['schedulable'] extends true ? K : never;
}[keyof Fields];

const entries: readonly [string, FlagField][] = Object.entries(FLAG_FIELDS);

function value({ schema, nullable }: FlagField): z.ZodType {
  return nullable ? schema.nullable() : schema;
}

function shape(
  fields: readonly (readonly [string, FlagField])[],
  schemaOf: (field: FlagField) => z.ZodType,
): unknown {
  return Object.fromEntries(fields.map(([name, field]) => [name, schemaOf(field)]));
}

export const FLAG_COLUMNS: readonly string[] = entries.map(([name]) => name);

/** The fields that a schedule may change. */
export const SCHEDULABLE_FIELDS = entries.filter(([, { schedulable }]) => schedulable);

/** Every field, as a flag has it. */
export const flagShape = shape(entries, value) as { [K in keyof Fields]: Value<Fields[K]> };

/** Every field, each of which may be left out. */
export const flagPatchShape = shape(entries, (field) => value(field).optional()) as {
  [K in keyof Fields]: z.ZodOptional<Value<Fields[K]>>;
};

/** The fields of a schedule's updates, each of which may be left out. */
export const updatesShape = shape(SCHEDULABLE_FIELDS, ({ schema }) => schema.optional()) as {
  [K in SchedulableName]: z.ZodOptional<Fields[K]['schema']>;
};

/**
 * An object of some fields, with at least one of them. No other key is let through.
 *
 * @param fields a shape of this file
 */
export function someOf<T extends z.ZodRawShape>(fields: T): z.ZodObject<T, z.core.$strict> {
  return z
    .strictObject(fields)
    .refine(
      (given) => Object.values(given).some((field) => field !== undefined),
      `must have at least one of: ${Object.keys(fields).join(', ')}`,
    );
}
