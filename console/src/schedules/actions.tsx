/** What one can do about a schedule. */
export interface ActionableSchedule {
  readonly id: string;
  readonly status: string;
}

export const ScheduleActions = ({ schedule }: { readonly schedule: ActionableSchedule }) => (
  <span hidden>{schedule.status}</span>
);
