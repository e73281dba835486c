import { readsTrail } from '../data/person.ts';
import { link, navigate, path } from '../router.ts';
import { useKeys } from '../keys.ts';
import { PauseButton } from '../stop/pause_button.tsx';
import { Brand, Icon, type IconName } from '../parts/icons.tsx';

interface Item {
  readonly to: string;
  readonly name: string;
  readonly icon: IconName;
  readonly key: string;
  /** Behind the round letter on a phone. */
  readonly wide?: true;
}

const ITEMS: readonly Item[] = [
  { to: '/timeline', name: 'Timeline', icon: 'timeline', key: 'g t' },
  { to: '/tonight', name: 'Tonight', icon: 'tonight', key: 'g n' },
  { to: '/flags', name: 'Flags', icon: 'flags', key: 'g f' },
  { to: '/plans', name: 'Plans', icon: 'plans', key: 'g p', wide: true },
  { to: '/trail', name: 'Trail', icon: 'trail', key: 'g l' },
  { to: '/state', name: 'State at…', icon: 'state', key: 'g s', wide: true },
];

/** Pages of admins and auditors. */
const OF_READERS = ['/plans', '/trail'];

/** The pages that the person may see: what is missing isn't theirs. */
export const items = (): readonly Item[] =>
  ITEMS.filter(({ to }) => !OF_READERS.includes(to) || readsTrail.value);

export function Side() {
  const shown = items();
  useKeys(Object.fromEntries(shown.map(({ key, to }) => [key, () => navigate(link(to))])));
  return (
    <nav class="side" aria-label="Main">
      <a class="brand" href={link('/timeline')}>
        <Brand />
        Halyard
      </a>
      {shown.map(({ to, name, icon, key, wide }) => (
        <a
          {...{
            key: to,
            class: `item${wide === true && readsTrail.value ? ' deskonly' : ''}`,
            href: link(to),
          }}
          {...(path.value.startsWith(to) ? { 'aria-current': 'page' as const } : {})}
        >
          <Icon name={icon} />
          {name}
          <span class="key" aria-hidden="true">
            {key}
          </span>
        </a>
      ))}
      <span class="gap" />
      <a
        class="item deskonly"
        href={link('/help')}
        {...(path.value === '/help' ? { 'aria-current': 'page' } : {})}
      >
        <Icon name="help" />
        Help
        <span class="key" aria-hidden="true">
          ?
        </span>
      </a>
      <PauseButton class="item stop deskonly" paused="Paused · resume…">
        Pause all…
      </PauseButton>
    </nav>
  );
}
