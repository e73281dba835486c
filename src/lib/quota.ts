/**
 * Counts what each user has of something, up to a limit.
 *
 * @returns takes one for a user: what gives it back, which may be called twice, or null when the user has as many as the limit
 */
export function makeQuota(limit: number): (user: string) => (() => void) | null {
  const taken = new Map<string, number>();

  function add(user: string, count: number): void {
    const total = (taken.get(user) ?? 0) + count;
    if (total === 0) taken.delete(user);
    else taken.set(user, total);
  }

  return (user) => {
    if ((taken.get(user) ?? 0) >= limit) return null;
    add(user, 1);
    let isTaken = true;
    return () => {
      if (isTaken) add(user, -1);
      isTaken = false;
    };
  };
}
