/** The shapes of GET /api/admin/audit/events and of `halyard audit export`. */
import { z } from '../../lib/zod.ts';

import { EVENT_LEVELS, eventTypeProblem } from '../event_types.ts';
import {
  environmentSchema,
  flagKeySchema,
  instantSchema,
  text,
  withSpan,
} from '../../http/schema_parts.ts';

/** Events of one JSON page. */
export const AUDIT_PAGE = { default: 100, most: 1_000 } as const;

/** Types that one request may name. */
const MAX_TYPES = 20;
/** An e-mail address is the longest of the names that an actor can have. */
const ACTOR_LENGTH = 320;

/** 15 digits fit into a JavaScript number, and no trail has more events. */
const numberSchema = z.pipe(
  z.string().check(z.regex(/^\d{1,15}$/, 'must be a whole number')),
  z.transform(Number),
);

const typeSchema = z.string().check(
  z.refine((type) => eventTypeProblem(type) === null, {
    error: ({ input }) => eventTypeProblem(String(input)) ?? '',
  }),
);

const typesSchema = z.pipe(
  z.pipe(
    z.union([z.string(), z.array(z.string())]),
    z.transform((given) => [given].flat().flatMap((list) => list.split(','))),
  ),
  z.array(typeSchema).check(z.maxLength(MAX_TYPES, `must name ${MAX_TYPES} types at most`)),
);

const filters = {
  /** Inclusive, by occurred_at. */
  from: z.optional(instantSchema),
  /** Exclusive, by occurred_at. */
  to: z.optional(instantSchema),
  flag: z.optional(flagKeySchema),
  environment: z.optional(environmentSchema),
  /** An admin's user id or e-mail address, `system` for the worker, or a login that ran SQL of its own. */
  actor: z.optional(text(ACTOR_LENGTH).check(z.minLength(1))),
  /** Repeated or with commas: any of them. */
  type: z.optional(typesSchema),
  /** Only after this seq. */
  after: z.optional(numberSchema),
  /** Only up to this seq; the `Link` of a page has it, so that the pages end. */
  until: z.optional(numberSchema),
  /** By seq; `asc` unless given. */
  order: z.optional(z.enum(['asc', 'desc'])),
};

/** Query of GET /api/admin/audit/events for a page of JSON. */
export const listAuditEventsQuerySchema = withSpan(
  z.strictObject({
    ...filters,
    limit: z._default(
      z.pipe(numberSchema, z.number().check(z.minimum(1), z.maximum(AUDIT_PAGE.most))),
      AUDIT_PAGE.default,
    ),
    /** The export that a page continues; the `Link` of a page has it. */
    export: z.optional(z.guid()),
    follow: z.pipe(
      z.optional(
        z.literal('false', 'waits for events only with Accept: application/x-ndjson or text/csv'),
      ),
      z.transform(() => undefined),
    ),
  }),
);

/** Query of GET /api/admin/audit/events for a stream of NDJSON or CSV. */
export const exportAuditEventsQuerySchema = withSpan(
  z
    .strictObject({
      ...filters,
      limit: z.optional(z.pipe(numberSchema, z.number().check(z.minimum(1)))),
      follow: z.optional(z.enum(['true', 'false'])),
    })
    .check(
      z.refine(({ follow, until }) => follow !== 'true' || until === undefined, {
        path: ['follow'],
        message: 'waits for new events, and so goes without until',
      }),
      z.refine(({ follow, order }) => follow !== 'true' || order !== 'desc', {
        path: ['follow'],
        message: 'waits for new events, and so goes without order=desc',
      }),
    ),
);

const instantTextSchema = z.iso.datetime({ precision: 6 });

/**
 * An event of the trail: the columns of audit.events, its seq, and the very text that was shipped, whose hash is the event's
 * leaf. Times are ISO 8601 in UTC with microseconds. CSV has the same fields in this order, but no message.
 */
export const auditEventSchema = z.strictObject({
  seq: z.int().check(z.minimum(1)),
  id: z.guid(),
  occurred_at: instantTextSchema,
  event_type: z.string(),
  level: z.enum(EVENT_LEVELS),
  flag_id: z.nullable(z.guid()),
  flag_key: z.nullable(z.string()),
  environment: z.nullable(z.string()),
  schedule_id: z.nullable(z.guid()),
  actor_kind: z.enum(['admin', 'system', 'database']),
  admin_user_id: z.nullable(z.string()),
  admin_email: z.nullable(z.string()),
  request_id: z.nullable(z.string()),
  client_request_id: z.nullable(z.string()),
  database_user: z.string(),
  application_name: z.string(),
  reconciled: z.boolean(),
  metadata: z.record(z.string(), z.unknown()),
  message: z.string(),
});

export type AuditEvent = z.infer<typeof auditEventSchema>;
export type ExportAuditEventsQuery = z.output<typeof exportAuditEventsQuerySchema>;
export type ListAuditEventsQuery = z.output<typeof listAuditEventsQuerySchema>;
