import type { ComponentType } from 'preact';
import { useState } from 'preact/hooks';
import { isAdmin } from '../data/person.ts';
import { Icon } from '../parts/icons.tsx';
import { resumePath } from './banner.tsx';
import type { PauseDialogProps } from './pause_dialog.tsx';
import { running, shownStop } from './stops.ts';

const load = () => import('./pause_dialog.tsx');

interface Props {
  /** Its class, without `solid`. */
  readonly class: string;
  /** As `Paused`, where all that is shown is paused. */
  readonly paused: string;
  readonly children: string;
}

/** Pauses all schedules: one press, and one in the dialog. For admins; where all is paused it leads to the resume. */
export function PauseButton({ class: name, paused, children }: Props) {
  const [Dialog, setDialog] = useState<{ readonly Of: ComponentType<PauseDialogProps> } | null>(
    null,
  );
  const [isMissing, setMissing] = useState(false);
  const stop = shownStop.value;
  if (!isAdmin.value || (Dialog === null && stop === null && running.value.length === 0))
    return null;
  if (Dialog === null && stop !== null)
    return (
      <a class={`${name} primary`} href={resumePath(stop)}>
        <Icon name="stop" />
        {paused}
      </a>
    );
  return (
    <>
      <button
        {...{ type: 'button', class: name }}
        // By the time of the press it is there, also where the connection is slow.
        onPointerEnter={() => void load().catch(() => null)}
        onFocus={() => void load().catch(() => null)}
        onClick={() => {
          load().then(
            ({ PauseDialog }) => setDialog({ Of: PauseDialog }),
            () => setMissing(true),
          );
        }}
      >
        <Icon name="stop" />
        {isMissing ? 'No answer: press again' : children}
      </button>
      {Dialog !== null && <Dialog.Of onClose={() => setDialog(null)} />}
    </>
  );
}
