import { describe, expect, test } from 'vitest';

import { cellOf, FORMATS, jsonOf } from '../../../src/audit/export/format.ts';
import type { EventRow } from '../../../src/audit/export/query.ts';

const row: EventRow = {
  seq: '7',
  id: '61cdb6b1-81dd-40a1-828c-e15c96bd8296',
  occurred_at: '2026-11-23T20:38:35.764653Z',
  event_type: 'feature_flag.created',
  level: 'info',
  flag_id: null,
  flag_key: 'wishlist',
  environment: 'production',
  schedule_id: null,
  actor_kind: 'admin',
  admin_user_id: 'alice',
  admin_email: 'alice@example.com',
  request_id: null,
  client_request_id: null,
  database_user: 'halyard_authenticator',
  application_name: 'halyard-api',
  reconciled: false,
  metadata: '{"note": "a \\"b\\", c", "n": 12345678901234567890}',
  message: '{"eventType": "feature_flag.created"}',
};

describe('a cell', () => {
  test.each([
    '=1+1',
    '+1',
    '-1',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    '\n=1',
    '\tx',
    '\rx',
    ' =1',
    ' =1',
    '﻿=1',
    '"=1',
    "'=1",
    `" '=1`,
    '＝1',
    '＋1',
    '－1',
    '＠x',
    "''=1",
  ])('that a spreadsheet might run, %j, is text, and can be had back', (value) => {
    const cell = cellOf(value);
    const unquoted = cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell;
    expect(unquoted).toBe(`'${value}`);
  });

  test.each(['alice', 'a=b', 'a-b', '1', "o'brien", '', '2026-11-23T20:38:35.764653Z', "'quoted'"])(
    'that is no formula, %j, is left alone',
    (value) => {
      expect(cellOf(value)).toBe(value);
    },
  );

  test.each([
    ['a,b', '"a,b"'],
    ['a"b', '"a""b"'],
    ['a\nb', '"a\nb"'],
    ['a\rb', '"a\rb"'],
    [' a', '" a"'],
  ])('%j is quoted', (value, cell) => {
    expect(cellOf(value)).toBe(cell);
  });
});

test('a line of CSV ends with CR and LF, and has nothing where nothing is known', () => {
  expect(FORMATS.csv.head).toBe(
    'seq,id,occurred_at,event_type,level,flag_id,flag_key,environment,schedule_id,actor_kind,admin_user_id,admin_email,' +
      'request_id,client_request_id,database_user,application_name,reconciled,metadata\r\n',
  );
  expect(FORMATS.csv.textOf([row])).toBe(
    '7,61cdb6b1-81dd-40a1-828c-e15c96bd8296,2026-11-23T20:38:35.764653Z,feature_flag.created,info,,wishlist,production,,admin,' +
      'alice,alice@example.com,,,halyard_authenticator,halyard-api,false,"{""note"": ""a \\""b\\"", c"", ""n"": 12345678901234567890}"\r\n',
  );
});

test('a line of NDJSON has the metadata as the database wrote it, whatever JavaScript makes of its numbers', () => {
  expect(jsonOf(row)).toContain(`"metadata":${row.metadata},`);
  expect(JSON.parse(jsonOf(row))).toMatchObject({
    seq: 7,
    flag_id: null,
    reconciled: false,
    message: row.message,
  });
  expect(FORMATS.ndjson.textOf([row, row]).split('\n')).toEqual([jsonOf(row), jsonOf(row), '']);
});
