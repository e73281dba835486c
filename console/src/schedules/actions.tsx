import type { ComponentType } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { isAdmin } from '../data/person.ts';
import type { ActionDialogProps, ActionKind } from './action_dialog.tsx';

/** What one can do about a schedule. */
export interface ActionableSchedule {
  readonly id: string;
  readonly status: string;
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
};

/** Buttons of what an admin can do about a schedule; nothing for others, and where nothing can be done. Each asks first. */
export function ScheduleActions({ schedule, what }: Props) {
  const [open, setOpen] = useState<ActionKind | null>(null);
  const [Dialog, setDialog] = useState<{ readonly Of: ComponentType<ActionDialogProps> } | null>(
    null,
  );
  const actions = ACTIONS[schedule.status] ?? [];
  if (!isAdmin.value || (actions.length === 0 && open === null)) return null;
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
      {actions.map(([kind, text]) => (
        <button
          {...{ key: kind, type: 'button', class: kind === 'cancel' ? 'btn danger' : 'btn' }}
          {...(what === undefined ? {} : { 'aria-label': `${text} ${what}` })}
          onClick={() => ask(kind)}
        >
          {text}
        </button>
      ))}
      {open !== null && Dialog !== null && (
        <Dialog.Of id={schedule.id} kind={open} onClose={() => setOpen(null)} />
      )}
    </>
  );
}
