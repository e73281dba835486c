// Imported first where PostGraphile is loaded first (index, execute, pg_service, errors, preset): grafast looks at this variable once, when it is loaded. Unset, it prints a
// warning, or turns on development checks that plan every query several times slower and print to the console.
// eslint-disable-next-line no-restricted-properties -- written, not read; whoever sets it for the graphile tools is obeyed
process.env.GRAPHILE_ENV ??= 'production';
