import type { PendingSchedules } from '../flags/routes.ts';
import { COLUMNS, rowOfJson } from './rows.ts';
import { MAX_PENDING_SHOWN } from './schemas.ts';

/** The pending schedules of a flag that come first: an "off" isn't undone without a word. */
export const pendingSchedules: PendingSchedules = {
  sql: `(
    select coalesce(json_agg(p), '[]')
    from (
      select ${COLUMNS}
      from app_public.feature_flag_schedules s
      where s.flag_id = f.id and s.status = 'pending'
      order by s.scheduled_at, s.id
      limit ${MAX_PENDING_SHOWN}
    ) p
  )`,
  read: (json) => (json as Parameters<typeof rowOfJson>[0][]).map(rowOfJson),
};
