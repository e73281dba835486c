import { useEffect, useState } from 'preact/hooks';
import type { WholeEvent } from './documents.ts';
import { numberText } from './list.tsx';
import { leafOf, messageOf } from './message.ts';

/** The text that was hashed, with its leaf and the head of its seal. */
export function Hashed({ event }: { readonly event: WholeEvent }) {
  const { payload, seq, seal } = event;
  const message = seq === null ? payload : messageOf(payload, seq);
  const [leaf, setLeaf] = useState<string | null>(null);
  useEffect(() => {
    let isLeft = false;
    setLeaf(null);
    if (seq !== null)
      void leafOf(message).then((found) => {
        if (!isLeft) setLeaf(found);
      });
    return () => {
      isLeft = true;
    };
  }, [message]);
  return (
    <details open>
      <summary>As it was hashed</summary>
      <pre {...{ tabIndex: 0, class: 'payload', 'aria-label': 'The event’s text' }}>{message}</pre>
      {seq === null ? (
        <p class="small muted">Its number is put in once it is sealed.</p>
      ) : (
        <dl class="dl hashes">
          {leaf !== null && (
            <>
              <dt>Leaf</dt>
              <dd>
                <code>{leaf}</code>
                <br />
                <span class="muted">
                  SHA-256 of a zero byte and this text, computed in this browser
                </span>
              </dd>
            </>
          )}
          {seal !== null && (
            <>
              <dt>Seal {numberText(seal.number)}</dt>
              <dd>
                <code>{seal.head}</code>
              </dd>
            </>
          )}
        </dl>
      )}
    </details>
  );
}
