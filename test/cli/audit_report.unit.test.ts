import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { makeProgress } from '../../src/cli/audit/progress.ts';
import { ranges, summarize, toJson } from '../../src/cli/audit/verify_report.ts';

const WHOLE = {
  ...{ seals: 2, events: 12, firstSeq: 1, lastSeq: 12, purged: 0, problems: [] },
  auditMode: 'strict',
};
const problem = (seq: number) => ({
  ...{ status: 'event_altered', seal: 1, seqs: [seq], detail: 'The text is another one.' },
});

describe('the summary', () => {
  test('of a whole trail without anchors says that it proves little', () => {
    const text = summarize(WHOLE, null, []);
    expect(text).toContain('Verified: 12 events (1 to 12) in 2 seals.');
    expect(text).toContain('Audit mode: strict,');
    expect(text).toContain('Checked against itself only');
    expect(text).toContain('No problems.');
  });

  test('shows how far the anchors reach', () => {
    const report = {
      ...{ anchored: 1, matching: 1, copies: 0, behind: 1, unanchored: 0, lost: [], problems: [] },
      ...{ coverage: null, sealsOnly: true, last: { seal: 1, seq: 10 } },
    };
    const text = summarize(WHOLE, report, null);
    expect(text).toContain('They reach to seal 1, event 10; 1 seal behind it not anchored yet.');
    expect(text).not.toContain('Lost');
    expect(text).toContain('Only seals were read, not events.');
    expect(text).toContain('Rows and triggers were not looked at.');
    const coverage = { first: 2, last: 9, missing: 1, gaps: [[5, 5]] as const };
    const partial = summarize(WHOLE, { ...report, coverage, sealsOnly: false }, []);
    expect(partial).toContain('The copy has all but 1 event from 2 to 9.');
    expect(partial).toContain('triggers were compared with the trail.');
  });

  test('names what was lost, and counts it as no problem', () => {
    const anchors = {
      ...{ anchored: 1, matching: 1, copies: 0, behind: 0, unanchored: 0, problems: [] },
      ...{ coverage: null, sealsOnly: true, last: { seal: 1, seq: 10 } },
      lost: [
        {
          ...{ acceptedAt: '2026-11-26T10:00:00.000000Z', reason: 'a disk was lost' },
          ...{ seals: { first: 41, last: 57 }, events: { first: 2178, last: 2856 } },
        },
      ],
    };
    const text = summarize(WHOLE, anchors, null);
    expect(text).toContain(
      'Lost: seals 41 to 57, events 2178 to 2856, of the history given up at 2026-11-26T10:00:00.000000Z, because: a disk was lost\n',
    );
    expect(text).toContain('No problems.');
  });

  test('of many problems shows some and counts the rest; JSON has all', () => {
    const many = {
      ...WHOLE,
      purged: 3,
      problems: Array.from({ length: 60 }, (_, i) => problem(i)),
    };
    const text = summarize(many, null, null);
    expect(text).toContain('60 problems');
    expect(text).toContain('  event_altered (seal 1, event 0): The text is another one.');
    expect(text).toContain('and 10 more');
    expect(text).toContain('Purged: 3 events');
    const json = JSON.parse(toJson(many, null, null)) as { ok: boolean; problems: unknown[] };
    expect(json).toMatchObject({ ok: false, auditMode: 'strict' });
    expect(json.problems).toHaveLength(60);
  });
});

test.for<[number[], string]>([
  [[], ''],
  [[7], '7'],
  [[1, 2, 3, 7, 9, 10], '1 to 3, 7, 9 to 10'],
  [[1, 3, 5, 7, 9, 11], '1, 3, 5, 7, 9, …'],
])('the numbers %j are shown as %j', ([seqs, text]) => {
  expect(ranges(seqs)).toBe(text);
});

describe('progress', () => {
  function shown(isTTY: boolean, times: readonly number[]): string[] {
    const written: string[] = [];
    vi.useFakeTimers({ now: 0, toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const stream = { isTTY, write: (text: string) => written.push(text) > 0 };
    const progress = makeProgress(stream);
    for (const at of times) {
      vi.setSystemTime(at);
      progress.show(String(at));
    }
    progress.end();
    return written;
  }

  test('of a short run is silent', () => {
    expect(shown(true, [10, 100])).toEqual([]);
    expect(shown(false, [10, 4000])).toEqual([]);
  });

  test('rewrites one line on a terminal, and takes it away', () => {
    expect(shown(true, [100, 250, 300, 460])).toEqual([
      '\r\u001b[K250',
      '\r\u001b[K460',
      '\r\u001b[K',
    ]);
  });

  test('is a line every few seconds in a log', () => {
    expect(shown(false, [4000, 6000, 7000, 12_000])).toEqual(['6000\n', '12000\n']);
  });
});
