// Imported first by the files through which PostGraphile is loaded: grafast reads this variable once, when it is loaded.
// Unset, it prints a warning, or turns on development checks that plan every query several times slower and print to the console.
// eslint-disable-next-line no-restricted-properties -- written, not read; a value that is set for the graphile tools stays
process.env.GRAPHILE_ENV ??= 'production';
