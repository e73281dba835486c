/**
 * Puts the focus on what keeps a form from being sent, or has had it refused, once it is drawn: a field, or a question in a note. A
 * refusal that no field shows is said aloud, and takes the focus from nothing.
 */
export function focusProblem(form: HTMLFormElement): void {
  requestAnimationFrame(() => {
    const refusal = form.querySelector('.note.failed');
    form
      .querySelector<HTMLElement>(
        `[aria-invalid], .note.conflict .btn${refusal === null ? ', .grid3 input, .input' : ''}`,
      )
      ?.focus();
  });
}
