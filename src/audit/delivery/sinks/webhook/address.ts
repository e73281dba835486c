import { lookup, type LookupAddress } from 'node:dns';
import { BlockList, isIPv4, isIPv6, type LookupFunction } from 'node:net';

// IANA's registries of special-purpose addresses: what isn't globally reachable, and what leads to an IPv4 address that isn't seen.

/** This host, private (RFC 1918), shared (CGNAT), loopback, link-local, IETF, documentation, benchmarks, 6to4 relays, multicast, reserved. */
const NOT_PUBLIC = listOf(
  'ipv4',
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16'],
  ...['172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16'],
  ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
);
/** All of IPv6 that is public today; so loopback, link-local, unique-local, multicast, mapped IPv4 and NAT64 aren't in it. */
const GLOBAL_UNICAST = listOf('ipv6', '2000::/3');
/** Teredo and others of the IETF, documentation, 6to4. */
const NOT_PUBLIC_V6 = listOf('ipv6', '2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20');

function listOf(family: 'ipv4' | 'ipv6', ...subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [net = '', bits] = subnet.split('/');
    list.addSubnet(net, Number(bits), family);
  }
  return list;
}

/** Whether an address is one of the public Internet. What isn't an address isn't. */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !NOT_PUBLIC.check(address);
  return (
    isIPv6(address) &&
    GLOBAL_UNICAST.check(address, 'ipv6') &&
    !NOT_PUBLIC_V6.check(address, 'ipv6')
  );
}

/** The address that a URL's host is, which no lookup is made for; null for a name. `new URL` has written 0x7f.1 and 2130706433 as 127.0.0.1. */
export function literalAddress({ hostname }: URL): string | null {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  return isIPv4(address) || isIPv6(address) ? address : null;
}

/**
 * Resolves a name for a connection, which then goes to what was checked here: no second answer of the DNS can lead it elsewhere. One
 * address that isn't public refuses the name, as in an attack by DNS, where one answer has both.
 *
 * @param resolve for tests
 */
export function publicLookup(resolve: typeof lookup = lookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      const [first] = addresses as LookupAddress[] | [];
      const inside = error ? undefined : addresses.find(({ address }) => !isPublic(address));
      if (error || first === undefined) callback(error ?? noAddress(hostname), '');
      else if (inside !== undefined) callback(refusal(hostname, inside.address), '');
      else if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

function noAddress(hostname: string): Error {
  return new Error(`${hostname} has no address`);
}

function refusal(hostname: string, address: string): Error {
  return new Error(
    `${hostname} leads to ${address}, which isn't a public address; set WEBHOOK_ALLOW_PRIVATE=true where that is meant`,
  );
}
