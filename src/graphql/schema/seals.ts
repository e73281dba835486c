import { get, lambda, type FieldArgs, type Step } from 'postgraphile/grafast';
import type { SQL } from 'postgraphile/pg-sql2';
import { loadOneWithPgClient, type PgSelectSingleStep } from 'postgraphile/@dataplan/pg';
import { extendSchema, gql } from 'postgraphile/utils';
import { proofText } from '../../audit/seals/proof.ts';
import { PROVE, readProof } from '../../audit/seals/prove.ts';

/** The place of events in the sealed trail: number, seal and proof. */
export const seals = extendSchema((build) => {
  const { sql, pgExecutor } = build;
  const { TYPES } = build.dataplanPg;

  /** Something of the event's row in the ledger, in the statement that reads the page: one look into an index for each event. */
  const ofLedger = ($event: PgSelectSingleStep, what: SQL, type: 'bigint' | 'jsonb') =>
    $event.select(
      sql`(select ${what} from audit.ledger l where l.event_id = ${$event.getClassStep().alias}.id)`,
      TYPES[type],
    );

  const sealOf = ($event: PgSelectSingleStep) => {
    const { alias } = $event.getClassStep();
    const problem = sql`app_private.alteration_of(${alias})`;
    return ofLedger(
      $event,
      sql`app_private.seal_of(l.seq) || jsonb_build_object('problem', ${problem})`,
      'jsonb',
    );
  };

  return {
    typeDefs: gql`
      extend type AuditEvent {
        "Its number in the trail: from 1, without gaps. Null while it isn’t sealed."
        seq: BigInt
        "The seal that covers it. Null while it isn’t sealed: a second, while a worker runs."
        seal: AuditEventSeal
      }

      "What covers up to 1,000 events, so that none of them can be changed or taken out without being noticed."
      type AuditEventSeal {
        "The seal’s number."
        number: BigInt!
        "The hash of all that was sealed up to it, in hexadecimal."
        head: String!
        "When it was made."
        sealedAt: Datetime!
        "Whether a destination has confirmed that it has this seal: an anchor, if no administrator of the database can change it there."
        anchored: Boolean!
        """
        What audit verify calls it where the event isn’t what was sealed: event_altered or column_differs. Null where it is,
        by the database’s own word: the proof needs no such word.
        """
        problem: String
      }

      extend type Query {
        """
        The proof that an event is in its seal, as the command audit prove writes it and audit verify-proof checks it.
        Null while no event with this id is sealed. For admins and auditors whose token isn’t limited to environments.
        """
        auditProof("The event’s id." eventId: UUID!): String
      }
    `,
    objects: {
      AuditEvent: {
        plans: {
          seq: ($event: PgSelectSingleStep) => ofLedger($event, sql`l.seq`, 'bigint'),
          seal: sealOf,
        },
      },
      AuditEventSeal: {
        plans: Object.fromEntries(
          ['number', 'head', 'sealedAt', 'anchored', 'problem'].map((name) => [
            name,
            ($seal: Step) => get($seal as never, name as never),
          ]),
        ),
      },
      Query: {
        plans: {
          auditProof(_$root: Step, args: FieldArgs) {
            const $proof = loadOneWithPgClient(
              pgExecutor,
              args.getRaw('eventId'),
              (client, ids: readonly unknown[]) =>
                ids.map((id) =>
                  readProof(() => client.query({ ...PROVE, values: [id as string] })),
                ),
            );
            return lambda($proof, (proof) => (proof === null ? null : proofText(proof)), true);
          },
        },
      },
    },
  };
});
