import { readFile } from 'node:fs/promises';
import { parser } from '@prometheus-io/lezer-promql';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { makeGraphql } from '../../src/graphql/index.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startMetrics } from '../../src/metrics/endpoint.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { startTestApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { makeMemorySink } from '../support/worker.ts';

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly runbook: string };
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { x: number; y: number; w: number; h: number };
  readonly targets?: readonly { expr: string }[];
}

const database = useDatabase();
/** What a process exposes that is API and worker. */
let exposed: Metric[] = [];

beforeAll(async () => {
  exposed = describeMetrics(await scrapeAll());
});

async function scrapeAll(): Promise<string> {
  const { log } = makeTestLog();
  const config = loadConfig({ NODE_ENV: 'test', METRICS_PORT: '0' }, 'worker');
  const databaseUrl = database.workerUrl;
  const metrics = await startMetrics({ config, databaseUrl, delivers: true, log });
  const { registry } = metrics;
  const sink = makeMemorySink();
  const worker = await startWorker({
    config,
    databaseUrl,
    log,
    registry,
    destinations: [{ destination: 'stdout', sink }],
  });
  const api = await startTestApi(database.authenticatorUrl, { makeGraphql, registry });
  const text = await (await fetch(metrics.url ?? '')).text();
  await worker.stop();
  await api.close();
  await metrics.close();
  return text;
}

function describeMetrics(text: string): Metric[] {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  return [...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name = '', help = '']) => ({
    name,
    type: types.get(name) ?? '',
    help,
  }));
}

/** The metrics that an expression reads; throws where Prometheus' own grammar doesn't take it. */
function metricsIn(expr: string): string[] {
  const names: string[] = [];
  parser.parse(expr).iterate({
    enter({ name, type, from, to }) {
      if (type.isError) throw new Error(`PromQL goes wrong at ${from}: ${expr}`);
      if (name === 'VectorSelector') names.push(/^[\w:]+/.exec(expr.slice(from, to))?.[0] ?? '');
    },
  });
  return names;
}

/** Series that can be asked for: a histogram's are three, and `up` is Prometheus' own. */
function series(): Set<string> {
  const parts = exposed.flatMap(({ name, type }) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((part) => name + part) : [name],
  );
  return new Set([...parts, 'up']);
}

/** Grafana puts these in before Prometheus sees the expression. */
function filledIn(expr: string): string {
  return expr.replaceAll('$__rate_interval', '5m').replaceAll('$job', 'halyard');
}

const readRules = async (): Promise<Rule[]> => {
  const file = parse(await read('monitoring/prometheus/alerts.yml')) as {
    groups: { name: string; rules: Rule[] }[];
  };
  return file.groups.flatMap(({ rules }) => rules);
};

describe('every metric of Halyard’s own', () => {
  const own = () => exposed.filter(({ name }) => name.startsWith('halyard_'));

  test('is in the tables of docs/operations.md, as the process itself tells of it', async () => {
    const page = await read('docs/operations.md');
    const rows = Array.from(
      page.matchAll(/^\| `(halyard_\w+)` +\| (counter|gauge|histogram) +\| (.*?) +\|$/gm),
      ([, name, type, help]) => ({ name, type, help }),
    );
    const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }) =>
      (a.name ?? '').localeCompare(b.name ?? '');
    expect(own().length).toBeGreaterThan(35);
    expect(rows.toSorted(byName)).toEqual(own().toSorted(byName));
  });

  test('is named by the conventions of Prometheus', () => {
    for (const { name, type } of own()) {
      expect(name).toMatch(/^halyard_[a-z]+(_[a-z]+)+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    }
  });
});

test('those of the process are there too', () => {
  const names = exposed.map(({ name }) => name);
  expect(names).toEqual(
    expect.arrayContaining(['process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds']),
  );
});

describe('the alert rules', () => {
  test('are whole, and each has a name of its own', async () => {
    const rules = await readRules();
    expect(rules.length).toBeGreaterThan(20);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const rule of rules) {
      expect(rule.alert).toMatch(/^Halyard[A-Z]\w+$/);
      expect(rule.for ?? '1m').toMatch(/^\d+[mh]$/);
      expect(['critical', 'warning']).toContain(rule.labels.severity);
      expect(rule.annotations.summary).toMatch(/\.$/);
    }
  });

  test('are PromQL, and ask for metrics that there are', async () => {
    const known = series();
    for (const { alert, expr } of await readRules()) {
      const names = metricsIn(expr);
      expect(names.length, alert).toBeGreaterThan(0);
      for (const name of names) expect(known.has(name), `${alert} asks for ${name}`).toBe(true);
    }
  });

  test('look at Halyard’s own processes only, where others have the same metric', async () => {
    for (const { alert, expr } of await readRules()) {
      const others = expr.match(/\b(?:up|(?:nodejs|process)_\w+)\b[^\s]*/g) ?? [];
      for (const selector of others) expect(selector, alert).toContain('{job="halyard"}');
    }
  });

  test('have each a runbook, and each runbook has a rule', async () => {
    const page = await read('docs/operations.md');
    const section = /^## Runbooks\n(.*?)^## /ms.exec(page)?.[1] ?? '';
    const anchors = [...section.matchAll(/^### (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
    const wanted = (await readRules()).map(({ annotations }) => annotations.runbook);
    expect([...new Set(wanted)].toSorted()).toEqual(
      anchors.map((anchor) => `docs/operations.md#${anchor}`).toSorted(),
    );
  });

  test('an expression that Prometheus would refuse is found', () => {
    expect(() => metricsIn('sum(rate(halyard_schedules_failed_total[5m])')).toThrow('goes wrong');
    expect(metricsIn('max(a_b{c="d"}) > 0 or rate(e_total[5m]) > 1')).toEqual(['a_b', 'e_total']);
  });
});

describe('the Grafana dashboard', () => {
  const readDashboard = async () =>
    JSON.parse(await read('monitoring/grafana/halyard.json')) as {
      schemaVersion: number;
      panels: Panel[];
      templating: { list: { name: string; type: string }[] };
    };

  test('asks for metrics that there are, in PromQL', async () => {
    const known = series();
    const { panels } = await readDashboard();
    for (const { title, targets = [] } of panels)
      for (const { expr } of targets)
        for (const name of metricsIn(filledIn(expr)))
          expect(known.has(name), `${title} asks for ${name}`).toBe(true);
  });

  test('has a row for each part, panels that don’t overlap, and a data source to choose', async () => {
    const { schemaVersion, panels, templating } = await readDashboard();
    expect(schemaVersion).toBeGreaterThanOrEqual(41);
    expect(templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' });
    const rows = panels.filter(({ type }) => type === 'row').map(({ title }) => title);
    expect(rows).toEqual(['Applying', 'Trail', 'Delivery', 'Processes']);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24);
  });
});
