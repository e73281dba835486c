import { isErrno } from '../lib/errno.ts';

/** pg's words for an address without a password, which name a step of the protocol. */
const NO_PASSWORD = /client password must be a (non-empty )?string$/;
/** pg gives it no code. */
const NO_TLS = /^The server does not support SSL connections$/;

const OTHER_AUTHORITY =
  'name the file of its certificate authority in the address, sslrootcert=/path/ca.pem (sslmode=no-verify encrypts, and takes any server for this one)';

/** Advice by Node's code. Node's own message precedes it. */
const ADVICE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there, so start the server, or correct host and port',
  ENOTFOUND: 'correct the host in the address',
  EAI_AGAIN: 'the name server gives no answer, so see to that, or correct the host',
  ETIMEDOUT: 'see to a firewall between, or correct host and port',
  EHOSTUNREACH: 'see to the route there, or correct the host',
  ENETUNREACH: 'see to the route there, or correct the host',
  DEPTH_ZERO_SELF_SIGNED_CERT: OTHER_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: OTHER_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: OTHER_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: OTHER_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: OTHER_AUTHORITY,
  CERT_HAS_EXPIRED: "renew the server's certificate",
  CERT_NOT_YET_VALID: "see to the clocks of this host and the server's",
  ERR_TLS_CERT_ALTNAME_INVALID:
    "put a host name into the address that the server's certificate is for",
};

/** Advice by SQLSTATE. The server's own message, in its language, precedes it. */
const STATE_ADVICE: Readonly<Record<string, string>> = {
  '28P01': "correct the password in the address (setup sets those of Halyard's own logins)",
  '28000':
    "let setup make the role, or let the server's pg_hba.conf take this login from here, by TLS if it asks for that (sslmode in the address)",
  '3D000': 'let setup make it, or correct the name in the address',
  '42501': 'use the login that the address is for, or grant it the right',
  '53300':
    "end other connections, or raise the server's max_connections or the login's limit (docs/operations.md, Deploying)",
  '57P03': 'wait until the server has started',
};

/** pg's messages for a server that is there and doesn't answer. */
const SILENT =
  /^(timeout expired|Connection terminated due to connection timeout|Query read timeout)$/;

/**
 * Why a connection can't be had, and what to do about it, for the end of a sentence. Nothing of the login's address but host, port, user
 * and database is in it.
 */
export function reasonOf(error: unknown): string {
  // Node reports a refused connection to a name with two addresses as one error with no message.
  if (error instanceof AggregateError && error.errors.length > 0) return ofSeveral(error.errors);
  if (!(error instanceof Error)) return String(error);
  const { message } = error;
  if (NO_PASSWORD.test(message))
    return "the server asks for a password, and the login's address has none";
  if (NO_TLS.test(message))
    return 'the server offers no TLS: switch it on there or, where the network is your own, put sslmode=disable into the address';
  if (SILENT.test(message)) return `no answer in time: ${ADVICE.ETIMEDOUT}`;
  // Node's own advice names an option that none of the ways to start Halyard gives it.
  const said = message.replace(/; if the root CA is installed locally.*|\.$/, '');
  return isErrno(error) ? ofCode(error, said) : said;
}

/** All that was tried, and what to do about the last. */
function ofSeveral(errors: readonly unknown[]): string {
  const said = errors.map((error) => (error instanceof Error ? error.message : String(error)));
  return [...said.slice(0, -1), reasonOf(errors.at(-1))].join('; ');
}

function ofCode(error: Error & { readonly code: string }, said: string): string {
  const { syscall, path, address } = error as NodeJS.ErrnoException & { address?: string };
  // It is a certificate or key; for a socket the call is connect.
  if (syscall === 'open')
    return `${path ?? 'a file'}, which the address names, can't be read (${error.code}): correct its name, or let this user read it`;
  if (error.code === 'EISDIR')
    return 'a file that the address names, as sslrootcert, is a folder: name the file in it';
  if (error.code === 'ENOENT' && syscall === 'connect')
    return `there is no socket ${address ?? ''}: start the server or the proxy that makes it, or correct the address`;
  const advice = 'severity' in error ? STATE_ADVICE[error.code] : ADVICE[error.code];
  return advice === undefined ? said : `${said}: ${advice}`;
}
