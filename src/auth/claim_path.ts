/**
 * The claim of a payload by its name: the payload's own property of exactly that name, otherwise the one at the end of the path
 * that the name is with dots for steps, as `realm_access.roles`.
 *
 * Only own properties of objects count, so that `constructor` or `__proto__` finds nothing that the token doesn't hold.
 *
 * @returns undefined when the payload has no such claim
 */
export function findClaim(payload: object, name: string): unknown {
  if (Object.hasOwn(payload, name)) return Reflect.get(payload, name);
  let value: unknown = payload;
  for (const step of name.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    if (!Object.hasOwn(value, step)) return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}
