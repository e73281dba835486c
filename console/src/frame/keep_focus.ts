/** Where one goes on from when what had the focus is gone: the nearest of these that is left. */
const PLACES = 'dialog, section, main';

/**
 * Keeps a keyboard and a screen reader at their place when what has the focus is taken away: a button of a change that was cancelled, a row
 * that is no more, a page that one left. The focus goes to the heading of what it was in, and not to the beginning of the page.
 *
 * @returns ends it
 */
export function keepFocus(): () => void {
  let last: Element | null = null;
  /** What it was in, from the inside out. */
  let around: Element[] = [];
  const remember = ({ target }: FocusEvent): void => {
    if (!(target instanceof Element)) return;
    last = target;
    around = [];
    for (let one = target.parentElement; one !== null; one = one.parentElement)
      if (one.matches(PLACES)) around.push(one);
  };
  const look = (): void => {
    if (last === null || last.isConnected || document.activeElement !== document.body) return;
    last = null;
    const place = around.find(({ isConnected }) => isConnected);
    const heading = place?.querySelector<HTMLElement>('h1, h2') ?? place;
    if (!(heading instanceof HTMLElement)) return;
    if (!heading.hasAttribute('tabindex')) heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, { childList: true, subtree: true });
  addEventListener('focusin', remember);
  return () => {
    observer.disconnect();
    removeEventListener('focusin', remember);
  };
}
