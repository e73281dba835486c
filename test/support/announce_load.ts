import { writeSync } from 'node:fs';
import { registerHooks } from 'node:module';

const { HALYARD_TEST_ANNOUNCE: announced = '' } = process.env;

// For `node --import`: says on stdout when the file that HALYARD_TEST_ANNOUNCE names is loaded.
registerHooks({
  load(url, context, next) {
    if (url.endsWith(announced)) writeSync(1, 'loading\n');
    return next(url, context);
  },
});
