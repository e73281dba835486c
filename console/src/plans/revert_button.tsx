import { useState } from 'preact/hooks';
import { isAdmin } from '../data/person.ts';
import { RevertDialog } from './revert_dialog.tsx';
import type { Source } from './requests.ts';

interface Props {
  readonly source: Source;
  /** What is taken back, for those who hear the button: as `50% of checkout-v2`. */
  readonly what: string;
  readonly isPrimary?: boolean;
}

/** Asks an admin before what was changed is taken back; nothing for others. */
export function RevertButton({ source, what, isPrimary = false }: Props) {
  const [isOpen, setOpen] = useState(false);
  if (!isAdmin.value) return null;
  return (
    <>
      <button
        {...{ type: 'button', class: isPrimary ? 'btn primary' : 'btn' }}
        aria-label={`Revert… ${what}`}
        onClick={() => setOpen(true)}
      >
        Revert…
      </button>
      {isOpen && <RevertDialog {...{ source, what }} onClose={() => setOpen(false)} />}
    </>
  );
}
