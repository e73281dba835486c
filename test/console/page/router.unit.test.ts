import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  here,
  link,
  match,
  navigate,
  param,
  path,
  setParams,
  withParams,
} from '../../../console/src/router.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

beforeEach(() => navigate('/console/timeline?env=staging&tz=Europe/Paris&q=a'));

describe('the address', () => {
  test('has a path without /console, and the timeline for none', () => {
    expect(path.value).toBe('/timeline');
    navigate('/console/');
    expect(path.value).toBe('/timeline');
    navigate('/console/flags/production/a/');
    expect(path.value).toBe('/flags/production/a');
  });

  test('has parameters; what is missing is empty', () => {
    expect([param('env'), param('q'), param('sel')]).toEqual(['staging', 'a', '']);
  });

  test('changes parameters and leaves the others', () => {
    setParams({ q: null, span: '7d', sel: '' });
    expect(here()).toBe('/console/timeline?env=staging&tz=Europe/Paris&span=7d');
    expect(withParams({ from: '2026-11-26T08:00Z', q: 'is:failed by:"a b"' })).toBe(
      '/console/timeline?env=staging&tz=Europe/Paris&span=7d&from=2026-11-26T08:00Z&q=is:failed+by:%22a+b%22',
    );
  });

  test('takes the environment and the zone along to another page, and nothing else', () => {
    expect(link('/flags')).toBe('/console/flags?env=staging&tz=Europe/Paris');
    expect(link('/flags?env=production')).toBe('/console/flags?env=production&tz=Europe/Paris');
    expect(link('/flags', { form: 'schedule', tz: null })).toBe(
      '/console/flags?env=staging&form=schedule',
    );
  });
});

describe('a pattern', () => {
  test('gives the parts of the path', () => {
    navigate('/console/flags/production/a%2Fb%20c');
    expect(match('/flags/:environment/:key')).toEqual({ environment: 'production', key: 'a/b c' });
  });

  test('fits whole paths alone', () => {
    expect(match('/timeline')).toEqual({});
    expect(match('/timeline/:id')).toBeNull();
    expect(match('/:page')).toEqual({ page: 'timeline' });
    expect(match('/flags')).toBeNull();
  });

  test('fits no path that can’t be read', () => {
    navigate('/console/flags/production/%E0%A4%A');
    expect(match('/flags/:environment/:key')).toBeNull();
  });
});
