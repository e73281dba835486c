import { expect, test } from 'vitest';
import { makePrecedence } from '../../src/worker/precedence.ts';

const LONG_MS = 60_000;

/** What happened, in order. */
function makeStory() {
  const told: string[] = [];
  return { told, tell: (what: string) => () => void told.push(what) };
}

test('others wait until the last of what goes first is done, also when it fails', async () => {
  const { told, tell } = makeStory();
  const precedence = makePrecedence();
  const [one, two] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
  const works = [
    precedence.first(() => one.promise).then(tell('one')),
    precedence.first(() => two.promise).catch(tell('two')),
  ];
  const others = precedence.others(LONG_MS).then(tell('others'));
  one.resolve(undefined);
  await works[0];
  expect(told).toEqual(['one']);
  two.reject(new Error('broken'));
  await Promise.all([...works, others]);
  expect(told.toSorted()).toEqual(['one', 'others', 'two']);
});

test('others don’t wait when there is nothing to wait for, nor for ever', async () => {
  const precedence = makePrecedence();
  await precedence.others(LONG_MS);
  const never = Promise.withResolvers<undefined>();
  const work = precedence.first(() => never.promise);
  await precedence.others(1);
  never.resolve(undefined);
  await work;
  await precedence.others(LONG_MS);
});
