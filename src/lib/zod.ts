/**
 * Zod as all schemas use it: zod/mini, of whose functions a front end loads only those that its schemas call. It comes without sentences
 * for its issues, so it gets Zod's English ones here.
 */
import { z } from 'zod/mini';

z.config(z.locales.en());

export { z };
