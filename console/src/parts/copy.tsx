import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';

interface Props {
  readonly text: string;
  readonly children: ComponentChildren;
}

/** Puts a text on the clipboard, and says so. */
export function CopyButton({ text, children }: Props) {
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
    <button type="button" class="btn" onClick={() => void copy()}>
      {outcome ?? children}
    </button>
  );
}
