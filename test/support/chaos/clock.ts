// Loaded before Halyard (node --import): this process's clock is as many milliseconds ahead as a file says, which it reads
// again at SIGUSR2. Timers and the database's clock stay as they are.
import { readFileSync } from 'node:fs';

const RealDate = Date;
const { HALYARD_TEST_CLOCK: file } = process.env;
let aheadMs = 0;

class ShiftedDate extends RealDate {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(ShiftedDate.now());
    else super(...(args as [number]));
  }
  static override now(): number {
    return RealDate.now() + aheadMs;
  }
}

if (file !== undefined) {
  globalThis.Date = ShiftedDate as DateConstructor;
  const read = () => (aheadMs = Number(readFileSync(file, 'utf8')));
  read();
  process.on('SIGUSR2', read);
}
