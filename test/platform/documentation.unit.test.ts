import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const PAGES = globSync(['*.md', '{bench,docs,migrations,monitoring}/**/*.md']);
const DECISIONS = globSync('docs/decisions/0*.md').toSorted();
const read = (file: string) => readFileSync(file, 'utf8');

/** A heading's anchor as GitHub and most viewers make it. */
function anchorOf(heading: string): string {
  const words = heading.replaceAll(/[`*]|\[|\]\([^)]*\)/g, '').toLowerCase();
  return words.replaceAll(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');
}

function anchorsIn(file: string): string[] {
  return [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    anchorOf(heading.trim()),
  );
}

test('every link to a page of this repository, and to a heading in it, leads there', () => {
  const broken = PAGES.flatMap((page) =>
    [...read(page).matchAll(/\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)/g)]
      .filter(([, path = '', anchor]) => {
        const target = path === '' ? page : join(dirname(page), path);
        if (!existsSync(target)) return true;
        return anchor !== undefined && !anchorsIn(target).includes(anchor);
      })
      .map(([link]) => `${page}: ${link}`),
  );
  expect(PAGES.length).toBeGreaterThan(10);
  expect(broken).toEqual([]);
});

describe('decisions', () => {
  test('are all in the index, under their titles', () => {
    const index = read('docs/decisions/README.md');
    const listed = [...index.matchAll(/^\| *(\d+) *\| \[(.*)\]\((0.*\.md)\)/gm)].map((row) =>
      row.slice(1),
    );
    const files = DECISIONS.map((file) => {
      const [, number, title] = /^# (\d+)\. (.*)$/m.exec(read(file)) ?? [];
      return [number, title, basename(file)];
    });
    expect(listed).toEqual(files);
  });

  test.each(DECISIONS)('%s begins with what was decided', (file) => {
    expect(read(file).split('\n')[2]).toMatch(/^(\*\*Decision\.\*\*|## Decision)/);
  });
});
