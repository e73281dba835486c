/** Puts the focus on what keeps a form from being sent, once it is drawn: a field, or a question in a note. */
export function focusProblem(form: HTMLFormElement): void {
  requestAnimationFrame(() =>
    form
      .querySelector<HTMLElement>('[aria-invalid], .note.conflict .btn, .grid3 input, .input')
      ?.focus(),
  );
}
