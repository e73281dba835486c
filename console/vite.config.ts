import { defineConfig } from 'vite';

// The page of /console. `node scripts/prepare.mjs` builds it into console/dist, which src/console serves.
export default defineConfig({
  root: import.meta.dirname,
  base: '/console/',
  // A data: URL is no request that can be cached, and the page's own files are few.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
