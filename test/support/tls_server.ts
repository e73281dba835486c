import { createServer, type AddressInfo, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** A certificate that signs itself, for the host db.test, until 2126. */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBjTCCATWgAwIBAgIUUKg5+8iM9S3c8ppNLgmy1XLbR/AwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHZGIudGVzdDAgFw0yNjExMjcwNzQwNDRaGA8yMTI2MTEwMzA3
NDA0NFowEjEQMA4GA1UEAwwHZGIudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABFqDdTpfHwe2L83V8bO0NjlF0feKiM0hHM4ZJc3EL5JezxJorz3kT+Lsq4vU
Sn3HMK1kWwsjgXmFISpvhOv2NnijZzBlMB0GA1UdDgQWBBSUg+9+UOVwKZgf6uF9
Vb1zAXXYBDAfBgNVHSMEGDAWgBSUg+9+UOVwKZgf6uF9Vb1zAXXYBDAPBgNVHRMB
Af8EBTADAQH/MBIGA1UdEQQLMAmCB2RiLnRlc3QwCgYIKoZIzj0EAwIDRgAwQwIg
Co0Y8eWBjCQcg9A92iESJbgCubuWk5+C1W51uaA73VYCHw9zJLg4Dj9BmZTDPmQh
UcH+2mrAf63Sv5iD8dOYkcs=
-----END CERTIFICATE-----
`;

/** Of this certificate alone: it protects nothing. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYBhUyNHNK68Qo+kr
7vQb54va5Zw9lAN/y3cjpJA16lGhRANCAARag3U6Xx8Hti/N1fGztDY5RdH3iojN
IRzOGSXNxC+SXs8SaK895E/i7KuL1Ep9xzCtZFsLI4F5hSEqb4Tr9jZ4
-----END PRIVATE KEY-----
`;

/** What a server answers to a request for TLS that has it. */
const YES = 'S';

/** A server on a free loopback port that begins TLS as PostgreSQL does, and then ends the connection. */
export async function startTlsServer(): Promise<AsyncDisposable & { readonly port: number }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write(YES);
      const tls = new TLSSocket(socket, { isServer: true, cert: CERTIFICATE, key: KEY });
      tls.on('error', () => undefined);
      tls.once('data', () => tls.end());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
