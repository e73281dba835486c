import { EventEmitter } from 'node:events';

import { describe, expect, test } from 'vitest';

import { makeFairQueue, QueueTimeoutError, type FairQueue } from '../../src/lib/fair_queue.ts';
import { ProblemError } from '../../src/lib/errors.ts';

const LIMITS = { slots: 10, perUser: 8, maxQueued: 1_000, waitMs: 60_000 };

/** A queue with the order in which it has served users so far. */
function recorded(limits: Partial<typeof LIMITS> = {}) {
  const queue = makeFairQueue({ ...LIMITS, ...limits });
  const served: string[] = [];
  const ask = (user: string, count = 1) => {
    for (let i = 0; i < count; i++)
      void queue.take({ user, isLimited: true }).then(() => served.push(user));
  };
  return { queue, served, ask, heldBy: (user: string) => countOf(served, user) };
}

const countOf = (served: readonly string[], user: string) =>
  served.filter((other) => other === user).length;

/** Lets what was granted be heard of. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

const codeOf = async (taking: Promise<void>) => {
  const error = await taking.then(
    () => null,
    (reason: unknown) => reason,
  );
  return error instanceof ProblemError ? error.problem.code : (error as Error | null)?.name;
};

test('one user alone has all slots but two', async () => {
  const { served, ask, queue } = recorded();
  ask('alice', 100);
  await settled();
  expect([served.length, queue.waiting]).toEqual([8, 92]);
  ask('bob', 3);
  await settled();
  expect(served.slice(8)).toEqual(['bob', 'bob']);
});

test('users who all hold as many are served round robin, however many requests one has', async () => {
  const { served, ask, queue } = recorded({ slots: 1, perUser: 1 });
  ask('alice', 100);
  for (const user of ['bob', 'carol', 'bob']) ask(user);
  for (let turn = 0; turn < 5; turn++) {
    await settled();
    queue.give(served.at(-1) ?? '');
  }
  await settled();
  expect(served).toEqual(['alice', 'alice', 'bob', 'carol', 'alice', 'bob']);
});

test('a user of slow work comes to hold no more than those of quick work, as their slots come free', async () => {
  const { served, ask, queue } = recorded();
  ask('slow', 100);
  for (const user of ['bob', 'carol', 'dave', 'erin']) ask(user, 1_000);
  const held = new Map([['slow', 8]]);
  await settled();
  for (const user of served.slice(8)) held.set(user, (held.get(user) ?? 0) + 1);
  // The quick ones give back at once, again and again; of the slow one's slots, one comes free now and then.
  for (let round = 0; round < 200; round++) {
    const [user = ''] = [...held].find(([name, n]) => name !== 'slow' && n > 0) ?? [];
    const given = round % 20 === 0 && (held.get('slow') ?? 0) > 2 ? 'slow' : user;
    const before = served.length;
    held.set(given, (held.get(given) ?? 0) - 1);
    queue.give(given);
    await settled();
    for (const next of served.slice(before)) held.set(next, (held.get(next) ?? 0) + 1);
  }
  expect([...held.values()].reduce((a, b) => a + b)).toBe(10);
  expect(held.get('slow')).toBe(2);
  expect(Math.min(...held.values())).toBeGreaterThan(0);
});

test('a thousand users have their turn each, in the order in which they came', async () => {
  const { served, ask, queue } = recorded({ slots: 1, perUser: 1 });
  const users = Array.from({ length: 1_000 }, (_, i) => `user ${i}`);
  for (const user of users) ask(user);
  for (const user of users) {
    await settled();
    queue.give(user);
  }
  expect(served).toEqual(users);
  expect(queue.waiting).toBe(0);
});

describe('a full queue', () => {
  const full = async (): Promise<FairQueue> => {
    const { queue, ask } = recorded({ slots: 1, perUser: 1, maxQueued: 2 });
    ask('alice', 3);
    await settled();
    return queue;
  };

  test('refuses its own user’s requests, and no other’s', async () => {
    const queue = await full();
    expect(await codeOf(queue.take({ user: 'alice', isLimited: true }))).toBe('too_many_requests');
    expect(() => queue.requireRoom('alice')).toThrow(ProblemError);
    queue.requireRoom('bob');
    const bob = queue.take({ user: 'bob', isLimited: true });
    // Alice waited first.
    for (let turn = 0; turn < 2; turn++) queue.give('alice');
    await bob;
  });

  test('lets in what isn’t limited', async () => {
    const queue = await full();
    void queue.take({ user: 'alice', isLimited: false });
    expect(queue.waiting).toBe(3);
  });
});

describe('an asker', () => {
  test('whose client closes leaves the queue, and its turn is the next one’s', async () => {
    const { queue, served, ask } = recorded({ slots: 1, perUser: 1 });
    ask('alice');
    const client = Object.assign(new EventEmitter(), { destroyed: false });
    const leaving = codeOf(queue.take({ user: 'bob', isLimited: true, client }));
    ask('carol');
    client.emit('close');
    expect(await leaving).toBe('too_many_requests');
    expect(queue.waiting).toBe(1);
    queue.give('alice');
    await settled();
    expect(served).toEqual(['alice', 'carol']);
  });

  test('may wait for one client with many others, by one listener', async () => {
    const { queue, ask } = recorded({ slots: 1, perUser: 1 });
    ask('alice');
    const client = Object.assign(new EventEmitter(), { destroyed: false });
    const leaving = Array.from({ length: 20 }, () =>
      codeOf(queue.take({ user: 'bob', isLimited: true, client })),
    );
    expect([queue.waiting, client.listenerCount('close')]).toEqual([20, 1]);
    client.emit('close');
    expect(new Set(await Promise.all(leaving))).toEqual(new Set(['too_many_requests']));
    expect(queue.waiting).toBe(0);
  });

  test('whose client is gone already doesn’t wait', async () => {
    const { queue, ask } = recorded({ slots: 1, perUser: 1 });
    ask('alice');
    const client = Object.assign(new EventEmitter(), { destroyed: true });
    expect(await codeOf(queue.take({ user: 'bob', isLimited: true, client }))).toBe(
      'too_many_requests',
    );
    expect(queue.waiting).toBe(0);
  });

  test('that gets no slot in time is given up, and takes none later', async () => {
    const { queue, served, ask } = recorded({ slots: 1, perUser: 1, waitMs: 20 });
    ask('alice');
    expect(await codeOf(queue.take({ user: 'bob', isLimited: true }))).toBe(QueueTimeoutError.name);
    queue.give('alice');
    ask('carol');
    await settled();
    expect(served).toEqual(['alice', 'carol']);
  });
});

test('a user who rests has no slot meanwhile, and others have it', async () => {
  const { queue, served, ask } = recorded({ slots: 1, perUser: 1 });
  ask('alice', 2);
  ask('bob', 2);
  await settled();
  queue.give('alice', 100);
  await settled();
  queue.give('bob');
  await settled();
  expect(served).toEqual(['alice', 'bob', 'bob']);
  queue.give('bob');
  await expect.poll(() => served).toEqual(['alice', 'bob', 'bob', 'alice']);
});
