import { signal } from '@preact/signals';
import { graphql } from './documents.ts';
import { run } from './request.ts';

const SERVER_TIME = graphql(`
  query ServerTime {
    serverTime
  }
`);

/** Milliseconds that the database's clock is ahead of the browser's: the database decides what is due. */
let ahead = 0;
/** How exactly that is known, in milliseconds: half of the fastest answer's time. */
let uncertainty = Infinity;

/** The database's time now, in milliseconds since 1970. */
export const databaseNow = (): number => Date.now() + ahead;

/** The database's time, as of the last whole second. */
export const now = signal(Math.floor(databaseNow() / 1_000) * 1_000);

/** Compares the clocks. A slower answer than before changes nothing unless they have drifted apart. */
export async function compareClocks(): Promise<void> {
  const sent = Date.now();
  const { serverTime } = await run(SERVER_TIME, {});
  const received = Date.now();
  const half = (received - sent) / 2;
  const found = Date.parse(serverTime) - (sent + half);
  if (half <= uncertainty || Math.abs(found - ahead) > half + uncertainty) {
    ahead = found;
    uncertainty = half;
  }
  tick();
}

function tick(): void {
  const second = Math.floor(databaseNow() / 1_000) * 1_000;
  if (second !== now.value) now.value = second;
}

let timer: ReturnType<typeof setTimeout> | undefined;

/** Lets `now` go on, at the beginning of each second. In a hidden tab it stands still. */
export function startClock(): void {
  clearTimeout(timer);
  document.onvisibilitychange = startClock;
  if (document.hidden) return;
  tick();
  timer = setTimeout(startClock, 1_000 - (databaseNow() % 1_000) + 2);
}
