import { queryObjects } from 'node:v8';
import { expect, test } from 'vitest';
import { makePresence } from '../../src/worker/presence.ts';
import { useDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();

test('a connection that stands for long gathers no memory', async () => {
  const presence = makePresence({ url: database.workerUrl, log: makeTestLog().log });
  const beat = async (times: number) => {
    for (let i = 0; i < times; i++) {
      await presence.hold(`pool-${i}`);
      presence.drop(`pool-${i}`);
    }
  };
  try {
    await beat(50);
    const before = queryObjects(Promise, { format: 'count' });
    await beat(500);
    expect(queryObjects(Promise, { format: 'count' }) - before).toBeLessThan(250);
  } finally {
    await presence.close();
  }
});
