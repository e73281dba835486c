/** Runs a little at a time, and lets one user after the other have a turn. */
export type Turns = ReturnType<typeof makeTurns>;

/**
 * Runs work by turns: of the users who wait, each has one piece of work done before any has another. A user with a thousand pieces
 * keeps another one waiting for as long as a few take.
 *
 * @param atOnce pieces of work that run at the same time
 */
export function makeTurns(atOnce: number) {
  /** In the order of their turns. */
  const waiting = new Map<string, (() => void)[]>();
  let running = 0;

  function startNext(): void {
    if (running >= atOnce) return;
    for (const [user, queue] of waiting) {
      const start = queue.shift();
      // Behind the others.
      waiting.delete(user);
      if (queue.length > 0) waiting.set(user, queue);
      running += 1;
      // Much of the work keeps the processor busy: what came by network meanwhile goes first.
      if (start !== undefined) setImmediate(start);
      return;
    }
  }

  return {
    /**
     * Runs `work` when it is this user's turn.
     *
     * @throws what the work throws
     */
    async run<T>(user: string, work: () => Promise<T>): Promise<T> {
      await new Promise<void>((resolve) => {
        const queue = waiting.get(user) ?? [];
        queue.push(resolve);
        waiting.set(user, queue);
        startNext();
      });
      try {
        return await work();
      } finally {
        running -= 1;
        startNext();
      }
    },
  };
}
