import { useEffect, useRef } from 'preact/hooks';

type Handlers = Readonly<Record<string, (event: KeyboardEvent) => void>>;

/** Those that came last are asked first. */
const stack: { current: Handlers }[] = [];
let prefix = '';
let forget: ReturnType<typeof setTimeout> | undefined;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Space presses a button, and Enter follows a link: those keys are the control's that has the focus. */
const isPressing = ({ key, target }: KeyboardEvent): boolean =>
  (key === ' ' && target instanceof Element && target.closest('button, summary') !== null) ||
  (key === 'Enter' && target instanceof Element && target.closest('button, summary, a') !== null);

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  // A key in a field is text, and what is open in front of the page has its own.
  if (isTyping(event.target) || document.querySelector('dialog[open], :popover-open') !== null)
    return;
  if (isPressing(event)) return;
  const pressed = prefix === '' ? event.key : `${prefix} ${event.key}`;
  prefix = '';
  clearTimeout(forget);
  const handlers = stack.findLast((one) => Object.hasOwn(one.current, pressed))?.current;
  if (handlers !== undefined) {
    event.preventDefault();
    handlers[pressed]?.(event);
  } else if (
    stack.some((one) => Object.keys(one.current).some((key) => key.startsWith(`${pressed} `)))
  ) {
    prefix = pressed;
    forget = setTimeout(() => (prefix = ''), 1_500);
  }
});

/** Keys of a component while it is shown: one as `/`, or two in a row as `g t`. They do nothing in a field or a dialog. */
export function useKeys(handlers: Handlers): void {
  // It keeps its place however often the component is drawn: a page's keys come before the frame's.
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    stack.push(latest);
    return () => {
      stack.splice(stack.indexOf(latest), 1);
    };
  }, []);
}
