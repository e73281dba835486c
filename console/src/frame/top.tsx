import { now } from '../data/clock.ts';
import { liveness } from '../data/live.ts';
import { environment, environments, me, shortName } from '../data/person.ts';
import { setParams, withParams } from '../router.ts';
import { PauseButton } from '../stop/pause_button.tsx';
import { zone } from '../settings.ts';
import { offsetTextAt, timeText } from '../time/format.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { AccountMenu, ZoneMenu } from './menus.tsx';

/** Environments beyond these are in a list. */
const MOST_TABS = 4;

function Environments() {
  const names = environments.value;
  const chosen = environment.value;
  if (names.length > MOST_TABS)
    return (
      <select
        class="input fit"
        aria-label="Environment"
        value={chosen}
        onChange={({ currentTarget }) => {
          setParams({ env: currentTarget.value, sel: null }, true);
        }}
      >
        {[...names, 'all'].map((name) => (
          <option key={name} value={name}>
            {name === 'all' ? 'All' : name}
          </option>
        ))}
      </select>
    );
  const tab = (name: string, text: preact.ComponentChildren) => (
    <a
      {...{ key: name, href: withParams({ env: name, sel: null }) }}
      {...(name === chosen ? { 'aria-current': 'true' as const } : {})}
    >
      {text}
    </a>
  );
  return (
    <span class="seg" role="group" aria-label="Environment">
      {names.map((name) => tab(name, <EnvironmentTag name={name} />))}
      {names.length > 1 && tab('all', 'All')}
    </span>
  );
}

function Clock() {
  const shown = zone.value;
  return (
    <span class="clock deskonly">
      {timeText(now.value, shown, 'second')}
      {shown !== 'UTC' && <span class="muted"> · {timeText(now.value, 'UTC', 'second')} UTC</span>}
    </span>
  );
}

function Live() {
  const state = liveness.value;
  switch (state.kind) {
    case 'live':
      return <span class="live">Live</span>;
    case 'connecting':
      return <span class="live quiet">Connecting</span>;
    case 'lost':
      return (
        <span class="live failed" role="status">
          Not live since {timeText(state.since, zone.value)}
        </span>
      );
  }
}

export function Top() {
  const person = me.value;
  return (
    <header class="top">
      <Environments />
      <ZoneMenu>
        {zone.value} · {offsetTextAt(now.value, zone.value)}
      </ZoneMenu>
      <span class="grow" />
      <Clock />
      <Live />
      <PauseButton class="btn danger mobonly" paused="Paused">
        Pause all
      </PauseButton>
      {person !== null && (
        <AccountMenu
          name={shortName(person.email ?? person.userId) || person.role}
          role={person.role}
        />
      )}
    </header>
  );
}
