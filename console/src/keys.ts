import { useEffect } from 'preact/hooks';

type Handlers = Readonly<Record<string, (event: KeyboardEvent) => void>>;

/** Those that came last are asked first. */
const stack: Handlers[] = [];
let prefix = '';
let forget: ReturnType<typeof setTimeout> | undefined;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  // A key in a field is text, and a dialog has its own.
  if (isTyping(event.target) || document.querySelector('dialog[open]') !== null) return;
  const pressed = prefix === '' ? event.key : `${prefix} ${event.key}`;
  prefix = '';
  clearTimeout(forget);
  const handlers = stack.findLast((one) => Object.hasOwn(one, pressed));
  if (handlers !== undefined) {
    event.preventDefault();
    handlers[pressed]?.(event);
  } else if (stack.some((one) => Object.keys(one).some((key) => key.startsWith(`${pressed} `)))) {
    prefix = pressed;
    forget = setTimeout(() => (prefix = ''), 1_500);
  }
});

/** Keys of a component while it is shown: one as `/`, or two in a row as `g t`. They do nothing in a field or a dialog. */
export function useKeys(handlers: Handlers): void {
  useEffect(() => {
    stack.push(handlers);
    return () => {
      stack.splice(stack.indexOf(handlers), 1);
    };
  });
}
