/** A schedule of nobody's. */
export const FOREIGN = '00000000-0000-4000-8000-000000000000';

/** What a session may say of itself, for the flag that it changes. */
export const forged = (flagId: string): Record<string, string> => ({
  application_name: 'halyard-worker',
  'jwt.claims.role': 'admin',
  'jwt.claims.user_id': 'alice',
  'jwt.claims.email': 'alice@example.com',
  'halyard.actor': 'system',
  'halyard.applying': JSON.stringify({ [flagId]: FOREIGN }).replace(':', ': '),
  'halyard.reason': 'forged',
  'halyard.recording': 'on',
  'halyard.request_id': 'forged-request',
  'halyard.client_request_id': 'forged-client-request',
});
