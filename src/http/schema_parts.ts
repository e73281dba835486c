/** Parts of the shapes of the REST API. */
import { z } from '../lib/zod.ts';

import { readInstant } from './instant.ts';

/** The database's limits; a test compares them. Lengths are in characters (code points). */
export const LIMITS = {
  flagKey: 100,
  environment: 20,
  description: 2000,
  reason: 500,
  userId: 255,
  planTitle: 200,
  /** Changes of a plan. */
  changes: 200,
  /** Items of one page of a list. */
  page: 100,
} as const;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const NAME_RULE =
  'must begin with a letter or digit and have only letters, digits, dots, hyphens and underscores';
const TIME_RULE =
  'must be a time with seconds and an offset, such as 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00';

const TIME_LENGTH = 64;

/** A key, an environment: what the database's own rule lets through. */
function name(maximum: number) {
  return z
    .string()
    .check(
      z.minLength(1),
      z.maxLength(maximum, `must have ${maximum} characters at most`),
      z.regex(NAME, NAME_RULE),
    );
}

/** PostgreSQL stores no NUL, and half a surrogate pair would be stored as another character. */
export function text(maximum: number) {
  // Half a pair is matched by a pattern, because some engines lack String.isWellFormed.
  const isStorable = (value: string) =>
    Array.from(value).length <= maximum && !/\0|\p{Surrogate}/u.test(value);
  return z
    .string()
    .check(z.refine(isStorable, `must be text of ${maximum} characters at most, without NUL`));
}

/**
 * Why a person makes a change. The blanks round it go, and nothing but blanks is no reason. As claims, it has no control characters,
 * which would forge lines where it is printed.
 */
export const reasonSchema = z.nullish(
  z.pipe(
    z.string().check(
      z.trim(),
      z.refine(
        (value) =>
          Array.from(value).length <= LIMITS.reason && !/[\p{Cc}\p{Surrogate}]/u.test(value),
        `must be text of ${LIMITS.reason} characters at most, without control characters`,
      ),
    ),
    z.transform((value) => (value === '' ? null : value)),
  ),
);

/** The reason of a change that needs one. */
export const requiredReasonSchema = z
  .string(`must say why: text of 1 to ${LIMITS.reason} characters`)
  .check(
    z.trim(),
    z.refine(
      (value) =>
        value !== '' &&
        Array.from(value).length <= LIMITS.reason &&
        !/[\p{Cc}\p{Surrogate}]/u.test(value),
      `must be text of 1 to ${LIMITS.reason} characters, without control characters`,
    ),
  );

/** The revision of a row: 1 when it was created, and one more for each change that the trail has. */
export const revisionSchema = z.int().check(z.minimum(1));

const EXPECTED_RULE = 'must be the revision of the row, a whole number from 1 on';

/** The revision that the client saw: where the row has another one, nothing is changed. */
export const expectedRevisionSchema = z.optional(
  z.int(EXPECTED_RULE).check(z.minimum(1, EXPECTED_RULE)),
);

export const flagKeySchema = name(LIMITS.flagKey);
export const environmentSchema = name(LIMITS.environment);
export const userIdSchema = z.string().check(z.maxLength(LIMITS.userId));

/** A time that a client gives, as RFC 3339 allows it; it comes out in UTC with T and Z. */
export const instantSchema = z.pipe(
  z.string(TIME_RULE).check(z.maxLength(TIME_LENGTH, TIME_RULE)),
  z.transform((input: string, { issues }): string => {
    const instant = readInstant(input);
    if (instant !== null) return instant;
    issues.push({ code: 'custom', input, message: TIME_RULE });
    return z.NEVER;
  }),
);

/**
 * Refuses a list's query whose `to` (exclusive) isn't after its `from` (inclusive): nothing lies between, and an empty list would say
 * that nothing happened.
 */
export function withSpan<
  S extends z.ZodMiniType<{ from?: string | undefined; to?: string | undefined }>,
>(query: S): S {
  return query.check(
    z.refine(
      ({ from = '', to = '' }) =>
        from === '' || (from !== to && !(Date.parse(to) < Date.parse(from))),
      { path: ['to'], message: 'must be after from' },
    ),
  );
}

/** A whole number in a query, whose values are texts. */
export function wholeNumberSchema(minimum: number, maximum: number, rule: string) {
  return z.pipe(
    z.pipe(z.string().check(z.regex(/^\d{1,15}$/, rule)), z.transform(Number)),
    z.number().check(z.minimum(minimum, rule), z.maximum(maximum, rule)),
  );
}

/** A time that the server answers. */
export const timeSchema = z.iso.datetime({ precision: 3 });

const DEFAULT_PAGE = 50;
const PAGE_RULE = `must be a whole number from 1 to ${LIMITS.page}`;

/** The parts of a list's query that choose its page. */
export const pageShape = {
  limit: z._default(wholeNumberSchema(1, LIMITS.page, PAGE_RULE), DEFAULT_PAGE),
  /** The opaque cursor of the `Link` of the page before. */
  after: z.optional(z.string().check(z.minLength(1), z.maxLength(400))),
};

/** An error, as `application/problem+json` (RFC 9457). Act on `code`; docs/errors.md lists them. */
export const problemSchema = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  request_id: z.string(),
  errors: z.optional(z.array(z.strictObject({ path: z.string(), message: z.string() }))),
  /** Of flag_changed, schedule_changed and plan_changed: the row as it is now. */
  current: z.optional(
    z.strictObject({
      revision: revisionSchema,
      /** When it came to be, and the e-mail address or id of the admin who changed it; null where that is not known, or it was no admin. */
      changed_at: z.nullable(timeSchema),
      changed_by: z.nullable(z.string()),
    }),
  ),
  /** Of change_conflict: the fields that aren't as the changes expect. */
  conflicts: z.optional(
    z.array(
      z.strictObject({
        flag_key: z.string(),
        environment: z.string(),
        field: z.string(),
        expected: z.unknown(),
        found: z.unknown(),
      }),
    ),
  ),
});

export type ProblemBody = z.infer<typeof problemSchema>;
