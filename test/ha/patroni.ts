import type { Node } from './node.ts';

/** What Patroni says of a cluster. */
export interface Members {
  readonly leaders: number;
  /** Standbys that run. */
  readonly standbys: number;
  /** Those among them that have not got all yet. */
  readonly lagging: number;
  /** Whether a standby is named for commits to wait for, or none is to be. */
  readonly synchronous: boolean;
}

interface Member {
  readonly role: string;
  readonly state: string;
  readonly lag?: number | 'unknown';
}

const ANSWER_MS = 2_000;
/** A switchover is answered when it is done. */
const COMMAND_MS = 60_000;
/** A standby streams; Patroni before 3.0.4 says running for it. */
const GOOD = new Set(['running', 'streaming']);
/** A checkpoint or so: nothing is exact under load. */
const LAG_BYTES = 1_048_576;

/** The node that answers as the primary; null when none does. */
export async function findLeader(nodes: readonly Node[]): Promise<Node | null> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answers = await Promise.all(
    nodes.map(({ rest }) =>
      fetch(`${rest}/primary`, { signal }).then(
        ({ status }) => status === 200,
        () => false,
      ),
    ),
  );
  return nodes[answers.indexOf(true)] ?? null;
}

/** Asks any node that answers for the members of the cluster. */
export async function readMembers(nodes: readonly Node[]): Promise<Members | null> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const read = async ({ rest }: Node, path: string) =>
    (await fetch(rest + path, { signal })).json();
  const asked = nodes.map(async (node) => ({
    cluster: (await read(node, '/cluster')) as { members: Member[] },
    config: (await read(node, '/config')) as { synchronous_mode?: boolean },
  }));
  const answer = await Promise.any(asked).catch(() => null);
  if (answer === null) return null;
  const good = answer.cluster.members.filter(({ state }) => GOOD.has(state));
  const standbys = good.filter(({ role }) => role !== 'leader');
  return {
    leaders: good.length - standbys.length,
    standbys: standbys.length,
    lagging: standbys.filter(({ lag }) => typeof lag !== 'number' || lag > LAG_BYTES).length,
    synchronous:
      answer.config.synchronous_mode !== true ||
      standbys.some(({ role }) => role === 'sync_standby'),
  };
}

/**
 * Gives a node's Patroni a command by its REST API.
 *
 * @throws Error when it refuses
 */
export async function command(
  node: Node,
  method: 'POST' | 'PATCH',
  path: string,
  json: unknown,
): Promise<void> {
  const response = await fetch(node.rest + path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(json),
    signal: AbortSignal.timeout(COMMAND_MS),
  });
  if (!response.ok)
    throw new Error(
      `Patroni refused ${method} ${path}: ${response.status} ${await response.text()}`,
    );
}
