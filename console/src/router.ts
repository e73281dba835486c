import { computed, signal } from '@preact/signals';

/** Where the page stands: its path without `/console`, and its parameters. */
const place = signal(new URL(location.href));

addEventListener('popstate', () => (place.value = new URL(location.href)));

/** As `/flags/production/checkout-v2`. */
export const path = computed(
  () => place.value.pathname.replace(/^\/console/, '').replace(/\/+$/, '') || '/timeline',
);

/** The parameters of the address. */
export const params = computed(() => place.value.searchParams);

/** One parameter; `''` where it is missing. */
export const param = (name: string): string => params.value.get(name) ?? '';

/** The page's address without its host. */
export const here = (): string => place.value.pathname + place.value.search + place.value.hash;

/**
 * @param options.replace takes the place of the present entry of the browser's history
 * @param options.keepScroll leaves the page where it is scrolled to, as when a part of it alone changes
 */
export function navigate(
  to: string,
  options: { replace?: boolean; keepScroll?: boolean } = {},
): void {
  const url = new URL(to, location.href);
  if (url.href === place.value.href) return;
  const isOther = url.pathname !== place.value.pathname;
  if (options.replace === true) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  place.value = url;
  if (isOther && options.keepScroll !== true) scrollTo(0, 0);
}

/** Parameters that stay when one goes to another page: what is shown, and in which zone. */
const KEPT = ['env', 'tz'];

/** The address of a page, with the environment and the zone of this one. */
export function link(to: string, changes: Readonly<Record<string, string | null>> = {}): string {
  const url = new URL(`/console${to}`, location.href);
  for (const name of KEPT) {
    const value = params.value.get(name);
    if (value !== null && !url.searchParams.has(name)) url.searchParams.set(name, value);
  }
  change(url.searchParams, changes);
  return url.pathname + readable(url.searchParams) + url.hash;
}

/** The address of this page with other parameters; null takes one away. */
export function withParams(changes: Readonly<Record<string, string | null>>): string {
  const search = new URLSearchParams(params.value);
  change(search, changes);
  return place.value.pathname + readable(search);
}

/** Changes parameters of this page. It is no step of the browser's history unless `push`. */
export const setParams = (changes: Readonly<Record<string, string | null>>, push = false): void =>
  navigate(withParams(changes), { replace: !push });

function change(search: URLSearchParams, changes: Readonly<Record<string, string | null>>): void {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === '') search.delete(name);
    else search.set(name, value);
  }
}

/** Colons and slashes may stand in a query (RFC 3986, 3.4), and times and zones read better so. */
function readable(search: URLSearchParams): string {
  const text = search
    .toString()
    .replaceAll('%3A', ':')
    .replaceAll('%2F', '/')
    .replaceAll('%2C', ',');
  return text === '' ? '' : `?${text}`;
}

/** A part of a path as its text; null where a person has broken it. */
export function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** The parts of the path where it is of this form, as `/flags/:environment/:key`; else null. */
export function match(pattern: string): Readonly<Record<string, string>> | null {
  const wanted = pattern.split('/');
  const found = path.value.split('/');
  if (wanted.length !== found.length) return null;
  const parts: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const text = found[i] ?? '';
    if (part.startsWith(':')) {
      const value = decoded(text);
      if (value === null) return null;
      parts[part.slice(1)] = value;
    } else if (part !== text) return null;
  }
  return parts;
}

/** Whether a click asks for no other tab or window. */
export const isPlain = ({ button, metaKey, ctrlKey, shiftKey, altKey }: MouseEvent): boolean =>
  button === 0 && !metaKey && !ctrlKey && !shiftKey && !altKey;

/** Makes a click on a link of the console a step of this page: no load, unless the person asks for a tab or a window. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || !isPlain(event)) return;
  const link = (event.target as Element | null)?.closest('a');
  const href = link?.getAttribute('href');
  if (
    link === null ||
    link === undefined ||
    href === null ||
    href === undefined ||
    link.hasAttribute('download') ||
    (link.getAttribute('target') ?? '') !== ''
  )
    return;
  const url = new URL(href, location.href);
  if (url.origin !== location.origin || !url.pathname.startsWith('/console/')) return;
  // The server's own: they answer with a redirection.
  if (/^\/console\/(enter|callback|session|sign-in\/oidc|assets\/)/.test(url.pathname)) return;
  if (url.pathname === location.pathname && url.search === location.search && url.hash !== '')
    return;
  event.preventDefault();
  navigate(href);
}
