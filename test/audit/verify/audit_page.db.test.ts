import { randomUUID } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { leafOf } from '../../../src/audit/seals/merkle.ts';
import { headOf } from '../../../src/audit/seals/seal.ts';
import { merkleRoot } from '../../support/merkle.ts';
import { actAs, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { hasProgram } from '../../support/processes.ts';
import { sealFlags, tamper } from '../../support/sealed_trail.ts';

const database = useDatabase();
const page = await readFile(new URL('../../../docs/audit.md', import.meta.url), 'utf8');

const blocks = (language: string) =>
  Array.from(
    page.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs')),
    ([, text = '']) => text,
  );

describe('docs/audit.md', () => {
  test('has a line for every status', async () => {
    const sources = [
      ...['verify', 'unsealed', 'rows', 'verify_rows', 'triggers'].map(
        (name) => `migrations/fixtures/audit/verify/${name}.sql`,
      ),
      'src/audit/verification/anchors.ts',
      'src/audit/verification/functions.ts',
      'src/audit/verification/event_types.ts',
    ].map((path) => readFile(new URL(`../../../${path}`, import.meta.url), 'utf8'));
    const code = (await Promise.all(sources)).join('\n');
    const raised = code.matchAll(
      /(?:return query\s+select\s+|, 'chain_broken'|add\(|eventProblems\()'(\w+)'|'(chain_broken|copy_incomplete|(?:row|trigger|policies|function|event_type)_[a-z]+)'/g,
    );
    const known = new Set(Array.from(raised, ([, status, other]) => status ?? other));
    known.delete('ok');
    const listed = Array.from(page.matchAll(/^\| `([a-z_]+)` +\|/gm), ([, status]) => status);
    expect(listed.toSorted()).toEqual([...known].toSorted());
  });

  test.for(blocks('sql').map((sql, i) => [i + 1, sql] as const))(
    'query %s finds nothing in a whole trail, and what was changed in another',
    async ([, sql]) => {
      await withActors(database, async (client) => {
        await sealFlags(client, 25);
        await actAs(client, 'halyard_auditor');
        expect((await client.query(sql)).rows).toEqual([]);
        await tamper(
          client,
          `update audit.events set payload = replace(payload, 'production', 'staging')
           where id = (select event_id from audit.ledger where seq = 12)`,
          `update audit.seals set root = sha256('forged') where seal_no = 2`,
        );
        await actAs(client, 'halyard_auditor');
        expect((await client.query(sql)).rows).toHaveLength(1);
      });
    },
  );

  test.runIf(hasProgram('sha256sum') && hasProgram('xxd') && hasProgram('bash'))(
    'the shell gives the leaves, nodes and heads that the code does',
    () => {
      const [leaf = '', node = '', head = ''] = blocks('sh');
      const shell = (script: string, env: Record<string, string>) =>
        execFileSync('bash', ['--norc', '-c', script], { env: { PATH: process.env.PATH, ...env } })
          .toString()
          .slice(0, 64);
      const left = leafOf('{"a": "é %s \\"}');
      const right = leafOf('b');
      const [l, r] = [left.toString('hex'), right.toString('hex')];
      expect(shell(leaf, { line: '{"a": "é %s \\"}' })).toBe(l);
      expect(shell(node, { left: l, right: r })).toBe(merkleRoot([left, right]).toString('hex'));
      const [trail, incarnation] = [randomUUID(), randomUUID()];
      const seal = {
        trail,
        incarnation,
        seal: 300,
        firstSeq: 70_001,
        lastSeq: 71_000,
        root: l,
        previousHead: r,
      };
      const env = {
        trail,
        incarnation,
        previousHead: r,
        seal: '300',
        firstSeq: '70001',
        events: '1000',
        root: l,
      };
      expect(shell(head, env)).toBe(headOf(seal));
    },
  );
});
