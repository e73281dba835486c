import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';

interface Props {
  readonly title: ComponentChildren;
  readonly children: ComponentChildren;
  /** Escape, a click beside it, or its Close. */
  readonly onClose: () => void;
}

/**
 * Puts the focus into a form that comes after its dialog, as what it asks about is read first.
 *
 * @returns the form's ref
 */
export function useFormFocus() {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    form.current
      ?.querySelector<HTMLElement>('input:checked, input:not([type="radio"]), button')
      ?.focus();
  }, []);
  return form;
}

/** A question in front of the page. The platform keeps the focus in it, and gives it back. */
export function Dialog({ title, children, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class="card dialog"
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      {/* A dialog may stand in the page's own header. */}
      <header role="presentation">
        <h2 id={id}>{title}</h2>
      </header>
      {children}
    </dialog>
  );
}
