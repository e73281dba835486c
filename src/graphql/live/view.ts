import type { Hint } from '../../audit/hint.ts';
import type { Settings } from '../../postgres/request_settings.ts';
import type { Topic } from '../schema/subscriptions.ts';
import type { Reader } from './reader.ts';

type Kind = Topic['kind'];

/** A row that changed, as far as it matters who wants it. */
export interface Change {
  readonly id: string;
  /** Another one after each change of the row. */
  readonly version: string;
  readonly flagKey: string | null;
  /** A plan may have several; null is none. */
  readonly environments: readonly (string | null)[];
}

/** The rows that a look at a hint found. */
export interface Found {
  readonly changes: readonly Change[];
  /** More rows changed lately than were read. */
  readonly more: boolean;
}

/** Rows that are read of those that changed lately; the last one shows that there are more. */
const MAX_RECENT = 501;
/** Changes that are remembered, to know what is new of those that happened lately. */
const MAX_KNOWN = 2_000;

const EVENT = `e.id, '' as version, e.flag_key as "flagKey", array[e.environment] as environments`;
const OF_FLAG = `f.flag_key as "flagKey", array[f.environment] as environments`;
const SCHEDULE = `s.id, s.revision::text as version, ${OF_FLAG}`;
const FLAG = `f.id, f.revision::text as version, ${OF_FLAG}`;
/** What becomes of a plan's point changes the rows of its schedules alone. */
const PLAN = `
  p.id, null as "flagKey", p.environments,
  concat(p.revision, '/', (select sum(s.revision) from app_public.feature_flag_schedules s where s.plan_id = p.id)) as version`;
const ENVIRONMENT = `e.name as id, e.revision::text as version, null as "flagKey", array[e.name] as environments`;

const BY_ID: Record<Kind, string> = {
  events: `select ${EVENT} from audit.events e where e.id = any ($1::uuid[])`,
  schedules: `
    select ${SCHEDULE}
    from app_public.feature_flags f
    join app_public.feature_flag_schedules s on f.id = s.flag_id
    where s.id = any ($1::uuid[])`,
  flags: `
    select ${FLAG}
    from app_private.flag_ids_of_events($1::uuid[]) as c (id)
    join app_public.feature_flags f on f.id = c.id`,
  plans: `
    select ${PLAN}
    from app_public.plans p
    where p.id = any ($1::uuid[])`,
  environments: `
    select ${ENVIRONMENT}
    from app_public.environments e
    where e.name in (select app_private.environments_of_events($1::uuid[]))`,
};

/** Newest first. A schedule or flag that is gone is a row of nulls. */
const RECENT: Record<Kind, string> = {
  events: `
    select ${EVENT}
    from audit.events e
    where e.occurred_at > now() - interval '10 minutes'
    order by e.occurred_at desc, e.id
    limit ${MAX_RECENT}`,
  schedules: `
    select ${SCHEDULE}
    from app_private.recent_schedule_ids(${MAX_RECENT}) with ordinality as r (id, place)
    left join (
      app_public.feature_flag_schedules s
      join app_public.feature_flags f on f.id = s.flag_id
    ) on s.id = r.id
    order by r.place`,
  flags: `
    select ${FLAG}
    from app_private.recent_flag_ids(${MAX_RECENT}) with ordinality as r (id, place)
    left join app_public.feature_flags f on f.id = r.id
    order by r.place`,
  plans: `
    select ${PLAN}
    from app_private.recent_plan_ids(${MAX_RECENT}) with ordinality as r (id, place)
    left join app_public.plans p on p.id = r.id
    order by r.place`,
  // All of them: they are few.
  environments: `
    select ${ENVIRONMENT}
    from app_public.environments e
    order by e.name
    limit ${MAX_RECENT}`,
};

/** The ids in a hint by which rows of a kind are found. It names no flags and no environments: the events name those that changed. */
export const idsIn = (hint: Hint, kind: Kind): readonly string[] =>
  kind === 'plans' || kind === 'schedules' ? hint[kind] : hint.events;

/** The rows of a kind that users with the same rights see: one query for all of them. */
export type View = ReturnType<typeof makeView>;

const NOTHING: Found = { changes: [], more: false };

/** @param rights of rights alone */
export function makeView(reader: Reader, kind: Kind, rights: Settings) {
  /** By id: the version that was read last, and whether followers were sent it by a look at what changed lately. */
  const known = new Map<string, { readonly version: string; readonly isSent: boolean }>();
  let begun: Promise<void> | null = null;

  async function query(name: string, text: string, values: readonly unknown[]): Promise<Change[]> {
    const statement = { name: `${name}_${kind}`, text, values };
    return (await reader.query(rights, statement)).rows as Change[];
  }

  function remember(changes: readonly Change[], isSent: boolean): void {
    for (const { id, version } of changes) {
      known.delete(id);
      known.set(id, { version, isSent });
    }
    for (const id of known.keys()) {
      if (known.size <= MAX_KNOWN) return;
      known.delete(id);
    }
  }

  /** Reads the rows that changed lately and were not seen yet. */
  async function readRecent({ isSent }: { isSent: boolean }): Promise<Found> {
    const rows = await query('recent', RECENT[kind], []);
    const isNew = ({ id, version }: Change) =>
      (id as string | null) !== null && known.get(id)?.version !== version;
    const changes = rows.filter(isNew);
    // Events of one statement have the same time. When the older half of what was read is known, what is older still is known too.
    const more = rows.length === MAX_RECENT && rows.slice(MAX_RECENT / 2).some(isNew);
    remember(changes.toReversed(), isSent);
    return { changes, more };
  }

  async function readNamed(hint: Hint): Promise<Change[]> {
    const ids = idsIn(hint, kind);
    return ids.length === 0 ? [] : query('named', BY_ID[kind], [ids]);
  }

  return {
    /** Reads the rows that a hint names, also those that followers have. */
    readNamed,
    /** Remembers what is there already. @throws a denial when these rights don't allow to read it */
    begin: (): Promise<void> => (begun ??= readRecent({ isSent: false }).then(() => undefined)),
    /**
     * Reads the rows that a hint names, and what else changed lately when it is partial. Nothing is taken from the hint itself. A
     * partial hint may find a row before the hint comes that names it: then it isn't sent again.
     */
    async look(hint: Hint): Promise<Found> {
      const read = await readNamed(hint);
      const named = read.filter(({ id, version }) => {
        const last = known.get(id);
        return last?.version !== version || !last.isSent;
      });
      remember(named, false);
      const recent = hint.partial ? await readRecent({ isSent: true }) : NOTHING;
      return { changes: [...named, ...recent.changes], more: recent.more };
    },
  };
}
