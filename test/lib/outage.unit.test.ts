import { expect, test } from 'vitest';
import { makeOutage } from '../../src/lib/outage.ts';
import { makeTestLog } from '../support/log.ts';

const SAYS = { failing: 'it fails', back: 'it works again' };

test('an outage is one warning when it begins and one line when it is over', () => {
  const { log, lines } = makeTestLog();
  const outage = makeOutage(log, SAYS, { part: 'one' });
  outage.back();
  expect(outage.active()).toBe(false);
  for (let i = 0; i < 3; i++) outage.failed(new Error('of the test'), { try: i });
  expect(outage.active()).toBe(true);
  outage.back();
  outage.back();
  expect(lines).toMatchObject([
    { level: 'warn', msg: 'it fails', part: 'one', try: 0, err: { message: 'of the test' } },
    { level: 'debug', try: 1 },
    { level: 'debug', try: 2 },
    { level: 'info', msg: 'it works again', part: 'one' },
  ]);
  expect(lines.at(-1)?.afterSeconds).toBeGreaterThanOrEqual(0);
});

test('one that lasts, or fails in another way, is warned of again', () => {
  const { log, lines } = makeTestLog();
  const lasting = makeOutage(log, SAYS, {}, { everyMs: 0 });
  lasting.failed(new Error('first'));
  lasting.failed(new Error('second'));
  const changing = makeOutage(log, SAYS);
  changing.failed(new Error('third'));
  changing.failed(new Error('fourth'), {}, 'other', 'error');
  expect(lines.map(({ level }) => level)).toEqual(['warn', 'warn', 'warn', 'error']);
  expect(lines[1]).toHaveProperty('forSeconds');
});

test('what now works and now does not is one outage, until it is calm', async () => {
  const { log, lines } = makeTestLog();
  const outage = makeOutage(log, SAYS, {}, { calmMs: 20 });
  for (let i = 0; i < 5; i++) {
    outage.failed(new Error('of the test'));
    outage.back();
    outage.back();
  }
  expect(outage.active()).toBe(true);
  await expect.poll(outage.active).toBe(false);
  const said = lines.map(({ level }) => level).filter((level) => level !== 'debug');
  expect(said).toEqual(['warn', 'info']);
});
