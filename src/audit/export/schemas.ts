/** The shapes of GET /api/admin/audit/events and of `halyard audit export`. */
import { z } from 'zod';

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
const numberSchema = z
  .string()
  .regex(/^\d{1,15}$/, 'must be a whole number')
  .transform(Number);

const typesSchema = z
  .union([z.string(), z.array(z.string())])
  .transform((given) => [given].flat().flatMap((list) => list.split(',')))
  .pipe(
    z
      .array(
        z.string().refine((type) => eventTypeProblem(type) === null, {
          error: ({ input }) => eventTypeProblem(String(input)) ?? '',
        }),
      )
      .max(MAX_TYPES, `must name ${MAX_TYPES} types at most`),
  );

const filters = {
  /** Inclusive, by occurred_at. */
  from: instantSchema.optional(),
  /** Exclusive, by occurred_at. */
  to: instantSchema.optional(),
  flag: flagKeySchema.optional(),
  environment: environmentSchema.optional(),
  /** An admin's user id or e-mail address, `system` for the worker, or a login that ran SQL of its own. */
  actor: text(ACTOR_LENGTH).min(1).optional(),
  /** Repeated or with commas: any of them. */
  type: typesSchema.optional(),
  /** Only after this seq. */
  after: numberSchema.optional(),
  /** Only up to this seq; the `Link` of a page has it, so that the pages end. */
  until: numberSchema.optional(),
  /** By seq; `asc` unless given. */
  order: z.enum(['asc', 'desc']).optional(),
};

/** Query of GET /api/admin/audit/events for a page of JSON. */
export const listAuditEventsQuerySchema = withSpan(
  z.strictObject({
    ...filters,
    limit: numberSchema.pipe(z.number().min(1).max(AUDIT_PAGE.most)).default(AUDIT_PAGE.default),
    /** The export that a page continues; the `Link` of a page has it. */
    export: z.guid().optional(),
    follow: z
      .literal('false', 'waits for events only with Accept: application/x-ndjson or text/csv')
      .optional()
      .transform(() => undefined),
  }),
);

/** Query of GET /api/admin/audit/events for a stream of NDJSON or CSV. */
export const exportAuditEventsQuerySchema = withSpan(
  z
    .strictObject({
      ...filters,
      limit: numberSchema.pipe(z.number().min(1)).optional(),
      follow: z.enum(['true', 'false']).optional(),
    })
    .refine(({ follow, until }) => follow !== 'true' || until === undefined, {
      path: ['follow'],
      message: 'waits for new events, and so goes without until',
    })
    .refine(({ follow, order }) => follow !== 'true' || order !== 'desc', {
      path: ['follow'],
      message: 'waits for new events, and so goes without order=desc',
    }),
);

const instantTextSchema = z.iso.datetime({ precision: 6 });

/**
 * An event of the trail: the columns of audit.events, its seq, and the very text that was shipped, whose hash is the event's
 * leaf. Times are ISO 8601 in UTC with microseconds. CSV has the same fields in this order, but no message.
 */
export const auditEventSchema = z.strictObject({
  seq: z.int().min(1),
  id: z.guid(),
  occurred_at: instantTextSchema,
  event_type: z.string(),
  level: z.enum(EVENT_LEVELS),
  flag_id: z.guid().nullable(),
  flag_key: z.string().nullable(),
  environment: z.string().nullable(),
  schedule_id: z.guid().nullable(),
  actor_kind: z.enum(['admin', 'system', 'database']),
  admin_user_id: z.string().nullable(),
  admin_email: z.string().nullable(),
  request_id: z.string().nullable(),
  client_request_id: z.string().nullable(),
  database_user: z.string(),
  application_name: z.string(),
  reconciled: z.boolean(),
  metadata: z.record(z.string(), z.unknown()),
  message: z.string(),
});

export type AuditEvent = z.infer<typeof auditEventSchema>;
export type ExportAuditEventsQuery = z.output<typeof exportAuditEventsQuerySchema>;
export type ListAuditEventsQuery = z.output<typeof listAuditEventsQuerySchema>;
