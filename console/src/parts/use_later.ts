import { useEffect, useState } from 'preact/hooks';

/** How long one types before the server is asked. */
const PAUSE_MS = 200;

/** A text as it is once one has stopped typing. */
export function useLater(text: string): string {
  const [later, setLater] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setLater(text), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return later;
}
