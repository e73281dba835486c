import { parse } from 'postgraphile/graphql';
import { expect, test } from 'vitest';

import { operationIn } from '../../src/graphql/documents.ts';
import { textOfVariables } from '../../src/graphql/variables.ts';
import { ProblemError } from '../../src/lib/errors.ts';

const operation = operationIn(parse('subscription ($a: A, $b: B) { c(a: $a, b: $b) }'), null);
const text = (json: string) =>
  textOfVariables(operation, JSON.parse(json) as Record<string, unknown>);
function codeOf(json: string): string | undefined {
  try {
    text(json);
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.code;
    throw error;
  }
  return undefined;
}

test('variables are the same in any order, with others that are not used', () => {
  const same = [
    '{"a": {"x": 1, "y": [2, null]}, "b": "2"}',
    '{"b": "2", "a": {"y": [2, null], "x": 1.0}}',
    '{"b": "2", "c": 3, "a": {"y": [2, null], "x": 1}}',
  ];
  expect(new Set(same.map(text)).size).toBe(1);
});

test('what is not the same has another text', () => {
  const others = [
    ...['{}', '{"a": null}', '{"b": null}', '{"a": null, "b": null}'],
    ...['{"a": 1}', '{"a": "1"}', '{"a": [1]}', '{"a": ["1"]}', '{"a": {"0": 1}}', '{"a": true}'],
    ...['{"a": 1e999}', '{"a": -1e999}', '{"a": "Infinity"}', '{"a": "null"}', '{"a": "1,b:2"}'],
    ...['{"a": 1, "b": 2}', '{"a": [1, 2]}', '{"a": [[1], 2]}', '{"a": [2, 1]}', '{"a": []}'],
    ...['{"a": {}}', '{"a": {"x": 1}}', '{"a": {"x:1,y": 1}}', '{"a": {"x": 1, "y": 1}}'],
    ...['{"a": {"__proto__": 1}}', '{"a": {"x": {"y": 1}}}', '{"a": ""}', '{"a": "\\""}'],
  ];
  expect(new Set(others.map(text)).size).toBe(others.length);
});

test('what is nested more deeply than any input is refused, and fills no stack', () => {
  const nested = (depth: number) => `{"a": ${'[{"x":'.repeat(depth)}1${'}]'.repeat(depth)}}`;
  expect(text(nested(4))).toContain('1');
  for (const depth of [10, 10_000]) expect(codeOf(nested(depth))).toBe('invalid_value');
});
