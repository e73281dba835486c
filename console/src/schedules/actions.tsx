import type { ComponentType } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { isAdmin } from '../data/person.ts';
import { link } from '../router.ts';
import { resumePath } from '../stop/banner.tsx';
import { isStopped } from '../stop/stops.ts';
import type { ActionDialogProps, ActionKind } from './action_dialog.tsx';

/** What one can do about a schedule. */
export interface ActionableSchedule {
  readonly id: string;
  readonly status: string;
  readonly suspendedFor?: string | null;
  /** Null for a change by itself. */
  readonly planId?: string | null;
  /** Missing where it isn't known. */
  readonly plan?: { readonly title: string } | null;
  /** The environment, where the page of its resume is to be offered. */
  readonly environment?: string;
}

interface Props {
  readonly schedule: ActionableSchedule;
  /** What it is, for those who hear the buttons: as `50% of checkout-v2`. */
  readonly what?: string;
}

const ACTIONS: Readonly<Record<string, readonly (readonly [ActionKind, string])[]>> = {
  pending: [
    ['move', 'Move…'],
    ['cancel', 'Cancel…'],
  ],
  failed: [['retry', 'Try again…']],
  suspended: [
    ['resume', 'Resume…'],
    ['cancel', 'Cancel…'],
  ],
};

/** Of a plan only this is done by its schedules: the rest on the plan's page. */
const OF_PLAN: readonly ActionKind[] = ['resume'];

/** Buttons of what an admin can do about a schedule; nothing for others, and where nothing can be done. Each asks first. */
export function ScheduleActions({ schedule, what }: Props) {
  const [open, setOpen] = useState<ActionKind | null>(null);
  const [Dialog, setDialog] = useState<{ readonly Of: ComponentType<ActionDialogProps> } | null>(
    null,
  );
  const { id, status, suspendedFor, planId = null, plan, environment = '' } = schedule;
  const isHeld = suspendedFor === 'stop' && isStopped(environment);
  const actions = (ACTIONS[status] ?? []).filter(
    ([kind]) => (planId === null || OF_PLAN.includes(kind)) && !(isHeld && kind === 'resume'),
  );
  const hasActions = Object.hasOwn(ACTIONS, status);
  if (!isAdmin.value || (!hasActions && open === null)) return null;
  const ask = (kind: ActionKind): void => {
    setOpen(kind);
    // The dialogs are no part of the first load.
    import('./action_dialog.tsx').then(
      ({ ActionDialog }) => setDialog({ Of: ActionDialog }),
      () => {
        setOpen(null);
        announce('The dialog can’t be loaded: the server does not answer. Load the page again.');
      },
    );
  };
  return (
    <>
      {isHeld && (
        <a class="btn" href={resumePath(environment)}>
          Resume {environment}…
        </a>
      )}
      {actions.map(([kind, text]) => (
        <button
          {...{ key: kind, type: 'button', class: kind === 'cancel' ? 'btn danger' : 'btn' }}
          {...(what === undefined ? {} : { 'aria-label': `${text} ${what}` })}
          onClick={() => ask(kind)}
        >
          {text}
        </button>
      ))}
      {planId !== null && (
        <a class="btn" href={link(`/plans/${planId}`)}>
          {plan?.title ?? 'Its plan'}
        </a>
      )}
      {open !== null && Dialog !== null && (
        <Dialog.Of id={id} kind={open} onClose={() => setOpen(null)} />
      )}
    </>
  );
}
