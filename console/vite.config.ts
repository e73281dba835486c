import { defineConfig, type Plugin } from 'vite';

/** GraphQL documents go over the wire as they are written: without the indentation. */
const compactDocuments: Plugin = {
  name: 'compact-documents',
  enforce: 'pre',
  transform(code, id) {
    if (!/\/console\/src\/.*\.tsx?$/.test(id) || !code.includes('graphql(`')) return null;
    const compact = (_: string, text: string): string =>
      `graphql(\`${text.replaceAll(/\s+/g, ' ').trim()}\`)`;
    return { code: code.replaceAll(/graphql\(`([^`]*)`\)/g, compact), map: null };
  },
};

// The page of /console. `node scripts/prepare.mjs` builds it into console/dist, which src/console serves.
export default defineConfig({
  root: import.meta.dirname,
  base: '/console/',
  plugins: [compactDocuments],
  // A data: URL is no request that can be cached, and the page's own files are few.
  build: {
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
