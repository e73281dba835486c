import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';

interface Props {
  readonly text: string;
  readonly children: ComponentChildren;
  /** For a key that presses it. */
  readonly id?: string;
  readonly isPrimary?: boolean;
}

/** Puts a text on the clipboard, and says so. */
export function CopyButton({ text, children, id, isPrimary = false }: Props) {
  const [outcome, setOutcome] = useState<string | null>(null);
  const copy = async (): Promise<void> => {
    const said = await navigator.clipboard.writeText(text).then(
      () => 'Copied',
      () => 'Copying was refused: select the text',
    );
    setOutcome(said);
    announce(said);
    setTimeout(() => setOutcome(null), 2_000);
  };
  return (
    <button
      {...{ type: 'button', class: isPrimary ? 'btn primary' : 'btn', onClick: () => void copy() }}
      {...(id === undefined ? {} : { id })}
    >
      {outcome ?? children}
    </button>
  );
}
