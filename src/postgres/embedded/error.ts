import { ExplainedError } from '../../lib/explained.ts';

/** Why the embedded server did not start; stable, so that callers and tests need not read the sentence. */
type EmbeddedPostgresErrorCode =
  | 'UNSUPPORTED_PLATFORM'
  | 'BINARIES_INCOMPLETE'
  | 'NO_ACCOUNT'
  | 'NO_SHELTER'
  | 'DATA_DIR_IN_USE'
  | 'DATA_DIR_UNUSABLE'
  | 'OTHER_VERSION'
  | 'PASSWORD_MISSING'
  | 'INITDB_FAILED'
  | 'START_FAILED';

/** An error whose message is a sentence for the person who typed `npm start`: what happened and what to do. */
export class EmbeddedPostgresError extends ExplainedError {
  override readonly name = 'EmbeddedPostgresError';
  readonly code: EmbeddedPostgresErrorCode;

  constructor(code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
