import type { Config } from '../../config/config.ts';
import { makeToken, type TokenArguments } from '../token.ts';

/** Who works with the flags of the demo. */
const PEOPLE = {
  alice: { is: 'an admin', role: 'admin' },
  bob: { is: 'an admin of staging', role: 'admin', environments: ['staging'] },
  carol: { is: 'an auditor', role: 'auditor' },
} as const;

export type Name = keyof typeof PEOPLE;

/** In the order in which they are shown. */
export const NAMES = ['alice', 'bob', 'carol'] as const satisfies readonly Name[];

/** As `an admin of staging`. */
export const roleOf = (name: Name): string => PEOPLE[name].is;

/** A token for each, good for 12 hours. */
export function tokensOf(config: Config): Readonly<Record<Name, string>> {
  const sign = (name: Name): string => {
    const { role, environments }: Person = PEOPLE[name];
    return makeToken(
      {
        ...{ role, userId: name, email: `${name}@example.com` },
        ...(environments && { environments: [...environments] }),
      },
      config,
    );
  };
  return { alice: sign('alice'), bob: sign('bob'), carol: sign('carol') };
}

interface Person {
  readonly role: TokenArguments['role'];
  readonly environments?: readonly string[];
}
