import { useState } from 'preact/hooks';
import { isAdmin } from '../data/person.ts';
import { link } from '../router.ts';
import { PlanDialog, type PlanAction } from './action_dialog.tsx';
import type { Plan, PlanRow } from './documents.ts';
import { isOpen } from './model.ts';
import { RevertButton } from './revert_button.tsx';

interface Props {
  readonly plan: Plan;
  readonly rows: readonly PlanRow[];
}

/** What an admin can do about a plan: each asks first. Nothing for others, and where nothing can be done. */
export function PlanActions({ plan, rows }: Props) {
  const [open, setOpen] = useState<PlanAction | null>(null);
  if (!isAdmin.value) return null;
  const ask = (action: PlanAction, text: string, tone = 'btn') => (
    <button type="button" class={tone} onClick={() => setOpen(action)}>
      {text}
    </button>
  );
  const hasFailed = rows.some(({ status }) => status === 'failed');
  return (
    <>
      {plan.suspendedFor === 'conflict' && ask('resume', 'Resume…', 'btn primary')}
      {plan.status === 'paused' && hasFailed && ask('retry', 'Try again…', 'btn primary')}
      {isOpen(plan) && (
        <>
          <a class="btn" href={link(`/plans/${plan.id}/edit`)}>
            Edit…
          </a>
          {ask('cancel', 'Cancel plan…', 'btn danger')}
        </>
      )}
      {plan.appliedCount > 0 && (
        <RevertButton
          {...{ source: { kind: 'plan', id: plan.id }, what: plan.title, isPrimary: true }}
        />
      )}
      {open !== null && (
        <PlanDialog {...{ plan, rows, action: open }} onClose={() => setOpen(null)} />
      )}
    </>
  );
}
