import type { TrailEvent } from '../../../console/src/trail/documents.ts';

export const ID = 'af067ef1-aa96-803d-a74b-d2c8fac2a905';

/** A change of a flag by alice, but for what is given. */
export const event = (rest: Partial<TrailEvent> = {}): TrailEvent => ({
  ...{
    id: ID,
    seq: '7',
    occurredAt: '2026-11-26T11:00:00.018Z',
    eventType: 'feature_flag.updated',
  },
  ...{ level: 'info', environment: 'production', flagKey: 'checkout-v2', scheduleId: null },
  ...{
    requestId: null,
    clientRequestId: null,
    actorKind: 'admin',
    adminEmail: 'alice@example.com',
  },
  ...{ adminUserId: '00u1', databaseUser: 'halyard_authenticator', metadata: {}, seal: null },
  ...rest,
});
