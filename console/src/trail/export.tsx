import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { databaseNow } from '../data/clock.ts';
import { type ApiError, errorOf } from '../data/request.ts';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog } from '../parts/dialog.tsx';
import { Failure, Note } from '../parts/note.tsx';
import { saveFile, sizeText } from './download.ts';
import { exportOf, FORMATS, readExport, type Format } from './export_request.ts';
import type { TrailSearch } from './search.ts';

/** One quote of the shell would end the word. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

interface Props {
  readonly search: TrailSearch;
  readonly onClose: () => void;
}

/** The events of the search as a file. */
export function ExportDialog({ search, onClose }: Props) {
  const [format, setFormat] = useState<Format>('ndjson');
  const [size, setSize] = useState<number | null>(null);
  const [running, setRunning] = useState<AbortController | null>(null);
  const [error] = useState(() => signal<ApiError | null>(null));
  const { path, left } = exportOf(search);
  useEffect(() => () => running?.abort(), [running]);
  const start = async (): Promise<void> => {
    const abort = new AbortController();
    setRunning(abort);
    setSize(0);
    error.value = null;
    try {
      const blob = await readExport(path, format, abort.signal, setSize);
      const day = new Date(databaseNow()).toISOString().slice(0, 10);
      saveFile(blob, `halyard-trail-${day}.${format}`);
      announce(`The export is downloaded, ${sizeText(blob.size)}`);
      setSize(blob.size);
    } catch (failure) {
      setSize(null);
      if (!abort.signal.aborted) error.value = errorOf(failure);
    }
    setRunning(null);
  };
  const command = `curl -sN ${quoted(location.origin + path)} \\
  -H "Authorization: Bearer $TOKEN" -H 'Accept: ${FORMATS[format].type}'`;
  return (
    <Dialog title="Export the trail" onClose={onClose}>
      <div class="body stack">
        <fieldset class="field formats">
          <legend class="lab">Format</legend>
          {(Object.keys(FORMATS) as Format[]).map((one) => (
            <label key={one} class="row">
              <input
                {...{ type: 'radio', name: 'format', checked: one === format, value: one }}
                onChange={() => setFormat(one)}
              />
              {FORMATS[one].name} <span class="small muted">{FORMATS[one].says}</span>
            </label>
          ))}
        </fieldset>
        {left.length > 0 && (
          <Note tone="pending">
            An export can’t be narrowed by <strong>{left.join(', ')}</strong>: it has the other
            events too.
          </Note>
        )}
        <pre {...{ tabIndex: 0, class: 'payload', 'aria-label': 'Command' }}>{command}</pre>
        <span class="small muted">
          The export is an event of the trail itself. It is kept in memory until it is whole: for
          millions of events take the command.
        </span>
        <Failure error={error} />
        {size !== null && (
          <p role="status">
            {running === null ? `${sizeText(size)} downloaded` : `${sizeText(size)} so far…`}
          </p>
        )}
        <div class="row">
          {running === null ? (
            <button type="button" class="btn primary" onClick={() => void start()}>
              Download {FORMATS[format].name}
            </button>
          ) : (
            <button type="button" class="btn danger" onClick={() => running.abort()}>
              Stop
            </button>
          )}
          <CopyButton text={command}>Copy command</CopyButton>
          <button type="button" class="btn push" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
    </Dialog>
  );
}
