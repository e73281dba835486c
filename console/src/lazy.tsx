import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Note, Waiting } from './parts/note.tsx';

interface Props {
  readonly load: () => Promise<ComponentType>;
}

/** Remembers a reload across it, so that it happens once. */
const RELOADED = 'halyard.reloaded';

/** A page whose code is loaded when it is shown. */
export function Lazy({ load }: Props) {
  const [Loaded, setLoaded] = useState<{ readonly Page: ComponentType } | null>(null);
  const [isGone, setGone] = useState(false);
  useEffect(() => {
    let isLeft = false;
    load().then(
      (Page) => {
        sessionStorage.removeItem(RELOADED);
        if (!isLeft) setLoaded({ Page });
      },
      () => {
        // A deployment took this file away since the tab was opened: the new page names the new one.
        if (sessionStorage.getItem(RELOADED) === null) {
          sessionStorage.setItem(RELOADED, 'yes');
          location.reload();
        } else if (!isLeft) setGone(true);
      },
    );
    return () => {
      isLeft = true;
    };
  }, []);
  if (isGone)
    return (
      <Note tone="failed">
        This page’s code can’t be loaded: the server does not answer, or was just updated. Load the
        page again.
      </Note>
    );
  return Loaded === null ? <Waiting /> : <Loaded.Page />;
}
