import type { Client } from './client.ts';
import type { Name } from './people.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const PRODUCTION = 'production';
const STAGING = 'staging';
const on = { enabled: true };
const off = { enabled: false };
const share = (rollout_percentage: number) => ({ rollout_percentage });

/** The flag that the database's administrator has a rule about: see RULE. */
const RULED = 'legacy-cart';

/** A change of a flag that breaks it fails for good, as one would in a database with rules of its own. */
export const RULE = {
  name: 'legacy_cart_at_most_half',
  check: `flag_key <> '${RULED}' or rollout_percentage <= 50`,
} as const;

/** The next time at which clocks of UTC show this hour, some days later. */
function nextAt(hour: number, now: number, days = 0): number {
  const today = Math.floor(now / DAY) * DAY + hour * HOUR;
  return (today > now ? today : today + DAY) + days * DAY;
}

/**
 * What three people do in the demo, by the API and in their own names: about fifty events, of which some come in the minutes after.
 * Every step is real: what is in the past happened a moment ago.
 */
export async function playStory(people: Readonly<Record<Name, Client>>): Promise<void> {
  await makeFlags(people);
  await changeSome(people);
  await planWeek(people, Date.now());
  // Last, so that the release comes when one has had time to look.
  await planMinutes(people.alice, Date.now());
}

async function makeFlags({ alice, bob }: Readonly<Record<Name, Client>>): Promise<void> {
  await alice.makeEnvironment(STAGING, 'Where changes are tried first');
  await alice.makeFlag('checkout-v2', { description: 'The new checkout', ...share(0) });
  await alice.makeFlag('promo-banner', { description: 'The banner of Black Friday' });
  await alice.makeFlag('wishlist-gallery', { description: 'Wishlists with pictures' });
  await alice.makeFlag('recommendations', { ...on, ...share(5) });
  await alice.makeFlag('search-ranker', { ...on, ...share(10), reason: 'SEARCH-204' });
  await alice.makeFlag('payments-3ds', { reason: 'PSD2' });
  await alice.makeFlag(RULED, { ...on, ...share(20), reason: 'Until the last old order is paid' });
  await alice.makeFlag('gift-cards', on);
  const environment = STAGING;
  await bob.makeFlag('checkout-v2', { environment, ...on });
  await bob.makeFlag('new-onboarding', { environment });
  await bob.makeFlag('dark-mode', { environment, reason: 'UX-31' });
  await bob.makeFlag('image-cdn', { environment, ...on, ...share(50) });
}

/** What is over when one looks. */
async function changeSome({ alice, bob }: Readonly<Record<Name, Client>>): Promise<void> {
  const soon = (seconds: number): number => Date.now() + seconds * SECOND;
  await alice.schedule('checkout-v2', soon(1), {
    ...{ updates: { ...on, ...share(10) }, reason: 'First tenth, OPS-874' },
  });
  await alice.schedule('checkout-v2', soon(3), {
    ...{ updates: share(25), reason: 'No errors at 10%' },
  });
  await alice.schedule(RULED, soon(1), {
    ...{ updates: share(80), reason: 'The new one is down' },
  });
  await alice.schedule('gift-cards', soon(2), { updates: off, reason: 'Fraud alert FR-12' });
  // What it expects is no longer so when it is due: it is suspended, until alice resumes or cancels it.
  const guarded = { expects: on, on_conflict: 'suspend' } as const;
  const gifts = { flag_key: 'gift-cards', environment: PRODUCTION, updates: share(50), ...guarded };
  await alice.plan('Gift cards for half of the users', soon(4), [gifts], 'SHOP-77');
  const environment = STAGING;
  await bob.change('dark-mode', { environment, updates: on, reason: 'For the designers' });
  await bob.schedule('image-cdn', soon(2), { environment, updates: share(100) });
}

/** Tonight, tomorrow and next week. */
async function planWeek(
  { alice, bob }: Readonly<Record<Name, Client>>,
  now: number,
): Promise<void> {
  const cancelled = await alice.schedule('gift-cards', now + 2 * HOUR, { updates: on });
  await alice.cancel(cancelled, 'FR-12 isn’t closed');
  await alice.schedule('gift-cards', now + 6 * HOUR, { updates: on, reason: 'FR-12 is closed' });
  await alice.schedule('wishlist-gallery', now + 9 * HOUR, { updates: share(50) });
  await alice.schedule(RULED, now + 4 * HOUR, { updates: share(10), reason: 'Fewer old orders' });
  await alice.schedule(RULED, now + 14 * HOUR, { updates: off });
  const moved = await alice.schedule('payments-3ds', now + 3 * HOUR, {
    ...{ updates: on, reason: 'PSD2' },
  });
  await alice.move(moved, now + 11 * HOUR, 'The bank tests until then');
  const tonight = nextAt(20, now);
  await alice.schedule('search-ranker', tonight, {
    ...{ updates: share(30), reason: 'The load test says yes' },
  });
  // At the same instant to different shares: which of them wins is chance, and the console says so.
  await alice.schedule('search-ranker', tonight, { updates: share(50), reason: 'SEARCH-209' });
  await alice.schedule('promo-banner', nextAt(6, now), {
    updates: off,
    reason: 'The sale is over',
  });
  await alice.schedule('checkout-v2', nextAt(9, now, 2), { updates: share(100) });
  await alice.schedule('gift-cards', nextAt(8, now, 6), { updates: off, reason: 'The audit' });
  await planCheckout(alice, now);
  const environment = STAGING;
  await bob.schedule('new-onboarding', now + 90 * MINUTE, { environment, updates: on });
  await bob.schedule('dark-mode', nextAt(7, now, 3), { environment, updates: off });
}

/** A plan over two environments that expects a quarter, where Black Friday will have made a half of it: a conflict, known before. */
async function planCheckout(alice: Client, now: number): Promise<void> {
  const change = { flag_key: 'checkout-v2', updates: share(100) };
  const expected = { expects: share(25), on_conflict: 'suspend' } as const;
  await alice.plan(
    'The new checkout for all',
    nextAt(9, now, 1),
    [
      { ...change, ...expected, environment: PRODUCTION },
      { ...change, environment: STAGING },
    ],
    'OPS-890',
  );
}

/** A release of three flags at one instant, then a step each minute, for ten minutes. */
async function planMinutes(alice: Client, now: number): Promise<void> {
  const release = now + 90 * SECOND;
  const environment = PRODUCTION;
  await alice.plan(
    'Black Friday',
    release,
    [
      { flag_key: 'promo-banner', environment, updates: on },
      { flag_key: 'wishlist-gallery', environment, updates: on },
      { flag_key: 'checkout-v2', environment, updates: share(50) },
    ],
    'OPS-874',
  );
  for (let step = 1; step <= 10; step += 1)
    await alice.schedule('recommendations', release + step * MINUTE, {
      ...{ updates: share(step * 10), reason: `Step ${step} of 10` },
    });
}
