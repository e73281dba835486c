import { vi } from 'vitest';

/**
 * What router.ts asks of a browser as it is loaded: an address, its history and events. So a test calls it in `vi.hoisted`, and
 * `vi.unstubAllGlobals()` at the end of its file.
 */
export function stubBrowser(href = 'http://127.0.0.1:3000/console/timeline'): void {
  const location = { href };
  const go = (_state: unknown, _title: string, url: URL | string): void => {
    location.href = new URL(url, location.href).href;
  };
  vi.stubGlobal('location', location);
  vi.stubGlobal('history', { pushState: go, replaceState: go });
  vi.stubGlobal('addEventListener', () => undefined);
  vi.stubGlobal('scrollTo', () => undefined);
}
