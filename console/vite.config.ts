import { join } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

/** Where the API's schemas are. */
const API = join(import.meta.dirname, '../src');

/**
 * zod's schemas can write themselves as JSON Schema, which the page never asks for: 5 kB of what one loads. Its functions are there
 * and do nothing.
 */
const withoutJsonSchema: Plugin = {
  name: 'without-json-schema',
  transform(code, id) {
    if (!/\/zod\/v4\/core\/(json-schema-processors|to-json-schema)\.js$/.test(id)) return null;
    const names = [...code.matchAll(/^export (?:const|function) (\w+)/gm)].map(([, name]) => name);
    const aliases = [...code.matchAll(/^export \{ \w+ as (\w+) \}/gm)].map(([, name]) => name);
    const exported = [...names, ...aliases].map((name) => `nothing as ${name ?? ''}`);
    return {
      code: `const nothing = () => nothing;\nexport { ${exported.join(', ')} };`,
      map: null,
    };
  },
};

/** Functions that make a schema and do nothing else: a call goes where its schema is used nowhere. The bundler knows them by their names. */
const MAKE_SCHEMAS = ['makeSchema', 'someOf', 'withSpan', 'bounded', 'wholeNumberSchema'];

/** Gives zod a name of its own in the API's schemas: functions of other packages are called z too, and do something. */
const namedZod: Plugin = {
  name: 'named-zod',
  enforce: 'pre',
  transform(code, id) {
    if (!id.startsWith(API) || !code.includes("/lib/zod.ts'")) return null;
    const named = code.replace('import { z }', 'import { z as makeSchema }');
    return { code: named.replaceAll(/\bz\./g, 'makeSchema.'), map: null };
  },
};

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

interface Graph {
  getModuleInfo(id: string): { readonly importedIds: readonly string[] } | null;
}

let first: Set<string> | null = null;

/** The modules that the page loads at first: what the entry imports, and what that imports. */
function firstModules(graph: Graph): Set<string> {
  const found = new Set<string>();
  const visit = (id: string): void => {
    if (found.has(id)) return;
    found.add(id);
    graph.getModuleInfo(id)?.importedIds.forEach(visit);
  };
  visit(`${import.meta.dirname}/src/main.tsx`);
  return found;
}

/** They are one file: parts of it would be compressed by themselves, each time that a page that is loaded later needs others of them. */
const chunkOf = (id: string, graph: Graph): string | null =>
  (first ??= firstModules(graph)).has(id) ? 'first' : null;

/** Of the API's schemas only those that forms use are loaded: the other modules of src do nothing else. */
const isOfPage = (id: string): boolean =>
  id.startsWith(import.meta.dirname) || id.includes('node_modules');

// The page of /console. `node scripts/prepare.mjs` builds it into console/dist, which src/console serves.
export default defineConfig({
  root: import.meta.dirname,
  base: '/console/',
  plugins: [withoutJsonSchema, namedZod, compactDocuments],
  // A data: URL is no request that can be cached, and the page's own files are few.
  build: {
    rolldownOptions: {
      treeshake: { moduleSideEffects: isOfPage, manualPureFunctions: MAKE_SCHEMAS },
      output: { codeSplitting: { groups: [{ name: chunkOf, debugName: 'first' }] } },
    },
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
