import { signal } from '@preact/signals';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { me } from '../data/person.ts';
import { type ApiError, errorOf } from '../data/request.ts';
import { CopyButton } from '../parts/copy.tsx';
import { Failure } from '../parts/note.tsx';
import type { WholeEvent } from './documents.ts';
import { nameOf, request, saveFile } from './download.ts';
import { eventPath } from './list.tsx';

/** As the server names it. */
const fileName = (seq: string): string => `halyard-proof-${seq}.json`;

/** The proof of one event as a file, for those who may prove, and the command that checks it; the event's link for all. */
export function Proof({ event }: { readonly event: WholeEvent }) {
  const [error] = useState(() => signal<ApiError | null>(null));
  const { id, seq, seal } = event;
  const mayProve = me.value?.mayProve === true;
  const isSealed = seq !== null && seal !== null;
  const download = async (): Promise<void> => {
    try {
      const answer = await request(`/api/admin/audit/events/${id}/proof`, 'application/json');
      const name = nameOf(answer, fileName(seq ?? ''));
      saveFile(await answer.blob(), name);
      error.value = null;
      announce(`${name} is downloaded`);
    } catch (failure) {
      error.value = errorOf(failure);
    }
  };
  const link = (
    <CopyButton id="copy-link" text={location.origin + eventPath(id)}>
      Copy link
    </CopyButton>
  );
  if (!mayProve) return <div class="row">{link}</div>;
  const command = `npm run -s halyard -- audit verify-proof ${fileName(seq ?? 'NUMBER')}`;
  return (
    <div class="echo stack tight">
      <strong>Proof of this event</strong>
      {isSealed ? (
        <span class="small">
          One file. Anyone can check it without us and without the database, with the file in a
          checkout of Halyard: <code class="cmd">{command}</code>
        </span>
      ) : (
        <span class="small">It isn’t sealed yet: a second, while a worker runs.</span>
      )}
      <Failure error={error} />
      <div class="row">
        {isSealed && (
          <>
            <button type="button" class="btn primary" onClick={() => void download()}>
              Download proof
            </button>
            <CopyButton text={command}>Copy command</CopyButton>
          </>
        )}
        {link}
      </div>
    </div>
  );
}
