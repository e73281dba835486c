// Before anything is loaded: a process 1, as in a container, ignores a signal that nothing handles. Until a service does so in
// its own way (cli/shutdown.ts) nothing runs yet that needs an end in order; a command ends with the status that shells show.
for (const [signal, status] of [['SIGINT', 130] as const, ['SIGTERM', 143] as const])
  process.on(signal, () =>
    process.exit(['start', 'api', 'worker'].includes(process.argv[2] ?? '') ? 0 : status),
  );

const { enableCompileCache } = await import('node:module');
const { fileURLToPath } = await import('node:url');
/**
 * Compiled code from the last start, which halves this one. Beside the code that it is made of, because a user who can write
 * there can run code here: the temporary folder is everybody's. Where it can't be written, nothing is kept.
 */
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/halyard', import.meta.url)));

const { run } = await import('./cli/run.ts');
await run(process.argv.slice(2));

export {};
