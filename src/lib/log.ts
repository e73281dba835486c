import { pino } from 'pino';
import { ExplainedError } from './explained.ts';
import { makeTextStream } from './log_text.ts';

export type Logger = pino.Logger;

const CENSOR = '[Redacted]';

/** Fields that hold credentials wherever a caller may have put them, at the top or one level down. */
const SECRET_FIELDS = [
  ...['authorization', 'cookie', 'token', 'secret', 'password', 'connectionString', 'databaseUrl'],
  ...['authDatabaseUrl', 'workerDatabaseUrl', 'auditorDatabaseUrl', 'rootDatabaseUrl'],
];

/**
 * A logger that writes JSON lines to stderr, or short ones for people: stdout belongs to the audit sink. Credentials are removed twice: as fields, and
 * from the finished line, because error messages and request URLs quote what they were given.
 *
 * @param options.logLevel the least severe level that is logged, as pino names it; `silent` for none
 * @param options.nodeEnv in every line, as `env`
 * @param options.logFormat how lines are written; JSON by default
 * @param name the process or part, such as `api`
 * @param destination where lines go, for tests
 */
export function makeLogger(
  options: {
    readonly logLevel: string;
    readonly nodeEnv: string;
    readonly logFormat?: 'json' | 'text' | null;
  },
  name: string,
  // Synchronous, so that the last lines before a crash are not lost.
  destination: pino.DestinationStream = pino.destination({ dest: 2, sync: true }),
): Logger {
  const settings: pino.LoggerOptions = {
    name,
    level: options.logLevel,
    base: { pid: process.pid, env: options.nodeEnv },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: (error) => serialise(error), error: (error) => serialise(error) },
    redact: {
      paths: [
        ...SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
        'req.headers.authorization',
        'req.headers.cookie',
      ],
      censor: CENSOR,
    },
    hooks: { streamWrite: scrub },
  };
  return pino(settings, options.logFormat === 'text' ? makeTextStream(destination) : destination);
}

/** Takes tokens and URL passwords out of a text. The look-behind keeps the time linear in the length of what a client sent. */
export function scrub(text: string): string {
  return text
    .replace(/(?<![\w-])eyJ[\w-]*\.[\w-]*(?:\.[\w-]*)?/g, CENSOR)
    .replace(/\b(Bearer\s+)[\w.~+/=-]{8,}/gi, `$1${CENSOR}`)
    .replace(/(:\/\/[^\s:@/"]{0,255}:)[^\s@/"]{1,1024}@/g, `$1${CENSOR}@`);
}

/**
 * What is logged of an error. Not all its properties: `detail` and `where` quote rows, and pool errors carry their client. Of what a person
 * can put right the message says all, and neither it nor its causes have a stack.
 */
function serialise(error: unknown, isDefect = true): unknown {
  if (!(error instanceof Error)) return error;
  const withStack = isDefect && !(error instanceof ExplainedError);
  const fields: Record<string, unknown> = {
    type: error.name,
    message: error.message,
    ...(withStack && { stack: error.stack }),
  };
  for (const key of ['code', 'status', 'severity', 'schema', 'table', 'column', 'constraint']) {
    const value: unknown = Reflect.get(error, key);
    if (typeof value === 'string' || typeof value === 'number') fields[key] = value;
  }
  if (error.cause !== undefined) fields.cause = serialise(error.cause, withStack);
  // Node reports a refused connection to a name with two addresses as one error with no message.
  if (error instanceof AggregateError)
    fields.errors = error.errors.map((one) => serialise(one, withStack));
  return fields;
}
