import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

/**
 * Compiled code from the last start, which halves this one. Beside the code that it is made of, because a user who can write
 * there can run code here: the temporary folder is everybody's. Where it can't be written, nothing is kept.
 */
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/halyard', import.meta.url)));

const { run } = await import('./cli/run.ts');
await run(process.argv.slice(2));
