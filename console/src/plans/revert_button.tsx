import type { ComponentType } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { isAdmin } from '../data/person.ts';
import type { RevertDialogProps } from './revert_dialog.tsx';
import type { Source } from './requests.ts';

interface Props {
  readonly source: Source;
  /** What is taken back, for those who hear the button: as `50% of checkout-v2`. */
  readonly what: string;
  readonly isPrimary?: boolean;
}

/** Asks an admin before what was changed is taken back; nothing for others. */
export function RevertButton({ source, what, isPrimary = false }: Props) {
  const [Dialog, setDialog] = useState<{ readonly Of: ComponentType<RevertDialogProps> } | null>(
    null,
  );
  if (!isAdmin.value) return null;
  const open = (): void => {
    // The dialog comes with the first press: most people never take anything back.
    import('./revert_dialog.tsx').then(
      ({ RevertDialog }) => setDialog({ Of: RevertDialog }),
      () =>
        announce('The dialog can’t be loaded: the server does not answer. Load the page again.'),
    );
  };
  return (
    <>
      <button
        {...{ type: 'button', class: isPrimary ? 'btn primary' : 'btn', onClick: open }}
        aria-label={`Revert… ${what}`}
      >
        Revert…
      </button>
      {Dialog !== null && <Dialog.Of {...{ source, what }} onClose={() => setDialog(null)} />}
    </>
  );
}
