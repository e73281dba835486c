import { constant, get, type Step } from 'postgraphile/grafast';
import { loadOneWithPgClient } from 'postgraphile/@dataplan/pg';
import { extendSchema, gql } from 'postgraphile/utils';

/** As JSON, whose times have the form of Datetime. */
const STATUS = {
  name: 'trail_status',
  text: 'select to_jsonb(s) as status from audit.trail_status() s',
} as const;

/** The fields of TrailStatus by their names in GraphQL, each with its column. */
const COLUMNS = {
  lastSeq: 'last_seq',
  sealedSeq: 'sealed_seq',
  sealNo: 'seal_no',
  sealedAt: 'sealed_at',
  anchoredSealNo: 'anchored_seal_no',
  anchoredAt: 'anchored_at',
  problems: 'problems',
} as const;

/** How far the trail reaches, and what is known to be wrong with it. */
export const trailStatus = extendSchema(({ pgExecutor }) => ({
  typeDefs: gql`
    extend type Query {
      "How far the trail reaches, and what is known to be wrong with it. It verifies nothing. For admins and auditors."
      trailStatus: TrailStatus
    }

    "How far the trail reaches, and what is known to be wrong with it."
    type TrailStatus {
      "The number of the last event; 0 when there is none."
      lastSeq: BigInt!
      "The number up to which events are sealed; 0 when none is."
      sealedSeq: BigInt!
      "The last seal."
      sealNo: BigInt
      "When it was made."
      sealedAt: Datetime
      "The last seal that a destination has confirmed: of all destinations, the one that has most."
      anchoredSealNo: BigInt
      "When that destination last confirmed something."
      anchoredAt: Datetime
      "What is known to be wrong, a sentence each, in the words of docs/audit.md. None: nothing is known, which audit verify may change."
      problems: [String!]!
    }
  `,
  objects: {
    Query: {
      plans: {
        trailStatus: () =>
          loadOneWithPgClient(
            pgExecutor,
            constant(null),
            async (client, asked: readonly null[]) => {
              const { rows } = await client.query<{ status: object }>(STATUS);
              return asked.map(() => rows[0]?.status ?? null);
            },
          ),
      },
    },
    TrailStatus: {
      plans: Object.fromEntries(
        Object.entries(COLUMNS).map(([field, column]) => [
          field,
          ($status: Step) => get($status as never, column as never),
        ]),
      ),
    },
  },
}));
