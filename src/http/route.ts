import type { Request } from 'express';

/**
 * The pattern of the route that took the request, as `/api/admin/flags/:flagKey`; `none` when it was refused before that. What
 * is before the pattern of the innermost router is where it is mounted: there are no parameters in it.
 */
export function routeOf(request: Request): string {
  const pattern = patternOf(request);
  if (pattern === null) return 'none';
  // A wildcard takes any number of segments, so where its router is mounted doesn't show: such a route has its whole path.
  if (pattern.some((segment) => segment.includes('*'))) return `/${pattern.join('/')}`;
  const asked = askedOf(request);
  const mounted = asked.slice(0, asked.length - pattern.length);
  // Routers take either case.
  return `/${[...mounted.map((segment) => segment.toLowerCase()), ...pattern].join('/')}`;
}

/** The address's part for a parameter of that route; undefined for none. Express has it only within the route's router. */
export function routeParameter(request: Request, name: string): string | undefined {
  const at = patternOf(request)?.toReversed().indexOf(`:${name}`) ?? -1;
  return at < 0 ? undefined : askedOf(request).at(-1 - at);
}

function patternOf(request: Request): string[] | null {
  const { path } = (request.route ?? {}) as { path?: unknown };
  return typeof path === 'string' ? segments(path) : null;
}

function askedOf(request: Request): string[] {
  return segments(request.originalUrl.split('?', 1)[0] ?? '');
}

function segments(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}
