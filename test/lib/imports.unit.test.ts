import { readdir, readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

type Graph = ReadonlyMap<string, readonly string[]>;

/** Which files of src import which, types included. */
async function readImports(): Promise<Graph> {
  const root = fileURLToPath(new URL('../../src', import.meta.url));
  const files = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.ts'));
  const graph = new Map<string, readonly string[]>();
  for (const file of files) {
    const source = await readFile(join(root, file), 'utf8');
    const imports = [...source.matchAll(/(?:from |import\()'(\.[^']+)'/g)];
    graph.set(
      file,
      imports.map(([, path = '']) => normalize(join(file, '..', path))),
    );
  }
  return graph;
}

/** The first circle that is found, as a path that ends where it begins; empty when there is none. */
function findCircle(graph: Graph): string[] {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const next of graph.get(file) ?? []) {
      const circle = visit(next, [...path, file]);
      if (circle.length > 0) return circle;
    }
    done.add(file);
    return [];
  };
  for (const file of graph.keys()) {
    const circle = visit(file, []);
    if (circle.length > 0) return circle;
  }
  return [];
}

describe('imports of src', () => {
  test('there are some, and each leads to a file', async () => {
    const graph = await readImports();
    expect(graph.size).toBeGreaterThan(100);
    const isThere = (file: string) => graph.has(file) || file.endsWith('.json');
    const missing = [...graph.values()].flat().filter((file) => !isThere(file));
    expect(missing).toEqual([]);
  });

  test('no file imports itself by way of others', async () => {
    expect(findCircle(await readImports())).toEqual([]);
  });

  test('a circle is found', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c', 'd']],
      ['c', []],
      ['d', ['b']],
    ]);
    expect(findCircle(graph)).toEqual(['b', 'd', 'b']);
  });
});
