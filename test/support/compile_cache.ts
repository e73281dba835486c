import { fileURLToPath } from 'node:url';

/**
 * What is added to the environment of every process of a run: they compile the same modules again and again, which is most of
 * what a start costs. A fresh checkout begins with none, and has it from the first process on.
 */
export const COMPILE_CACHE: Readonly<Record<string, string>> = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url)),
};
