import type { ComponentChildren } from 'preact';
import { useId, useState } from 'preact/hooks';
import { me, readsTrail } from '../data/person.ts';
import { signOut } from '../data/session.ts';
import { link, setParams } from '../router.ts';
import { density, preferredZone, theme, zone } from '../settings.ts';
import { allZones, isZone } from '../time/zone.ts';
import { Note } from '../parts/note.tsx';
import { FullTime } from '../parts/time.tsx';

/** The zone that all times are shown in: typed, completed by the browser. */
function ZoneField() {
  const id = useId();
  const [text, setText] = useState(zone.value);
  const choose = (value: string): void => {
    setText(value);
    if (!isZone(value.trim())) return;
    preferredZone.value = value.trim();
    setParams({ tz: value.trim() });
  };
  const isBad = !isZone(text.trim());
  return (
    <div class="field">
      <label htmlFor={id}>Time zone of all times</label>
      <input
        {...{
          id,
          class: 'input',
          list: 'zones',
          value: text,
          autoComplete: 'off',
          spellcheck: false,
        }}
        {...(isBad ? { 'aria-invalid': 'true' as const, 'aria-describedby': `${id}-bad` } : {})}
        onInput={({ currentTarget }) => choose(currentTarget.value)}
        onFocus={({ currentTarget }) => currentTarget.select()}
      />
      {isBad && (
        <span id={`${id}-bad`} class="small failed">
          No zone of the IANA’s list, as Europe/Paris.
        </span>
      )}
      <div class="row">
        {['UTC', Intl.DateTimeFormat().resolvedOptions().timeZone].map((name, i) => (
          <button key={name + String(i)} type="button" class="btn" onClick={() => choose(name)}>
            {name}
          </button>
        ))}
      </div>
    </div>
  );
}

export const ZoneMenu = ({ children }: { readonly children: ComponentChildren }) => (
  <>
    <button type="button" class="btn deskonly zone" {...{ popovertarget: 'zone-menu' }}>
      {children}
    </button>
    <div id="zone-menu" popover="auto" class="card menu" role="dialog" aria-label="Time zone">
      <div class="body">
        <ZoneField key={zone.value === preferredZone.value ? 'same' : zone.value} />
      </div>
    </div>
  </>
);

/** The zones that fields offer: one list for all. */
export const ZoneList = () => (
  <datalist id="zones">
    {allZones().map((name) => (
      <option key={name} value={name} />
    ))}
  </datalist>
);

interface Choices {
  readonly label: string;
  readonly value: string;
  readonly choices: readonly string[];
  readonly onChoose: (choice: string) => void;
}

const Choice = ({ label, value, choices, onChoose }: Choices) => (
  <div class="field">
    <span class="lab">{label}</span>
    <span class="seg" role="group" aria-label={label}>
      {choices.map((choice) => (
        <button
          key={choice}
          type="button"
          aria-pressed={choice === value}
          onClick={() => onChoose(choice)}
        >
          {choice}
        </button>
      ))}
    </span>
  </div>
);

export function AccountMenu({ name, role }: { readonly name: string; readonly role: string }) {
  const person = me.value;
  const [isStuck, setStuck] = useState(false);
  return (
    <>
      <button
        {...{ type: 'button', class: 'btn me', popovertarget: 'account-menu' }}
        aria-label={`${name} ${role}: account, zone, theme`}
      >
        <span class="deskonly">{name}</span> <span class="muted deskonly">{role}</span>
        <span class="mobonly" aria-hidden="true">
          {name.slice(0, 1).toUpperCase()}
        </span>
      </button>
      <div id="account-menu" popover="auto" class="card menu" role="dialog" aria-label="Account">
        <div class="body stack">
          <p>
            <strong>{person?.email ?? person?.userId ?? name}</strong>
            <br />
            <span class="small muted">
              {role},{' '}
              {(person?.environments ?? null) === null
                ? 'all environments'
                : person?.environments?.join(', ')}
            </span>
            {typeof person?.expiresAt === 'string' && (
              <>
                <br />
                <span class="small muted">
                  signed in until <FullTime at={person.expiresAt} />
                </span>
              </>
            )}
          </p>
          <div class="mobonly menu-zone">
            <ZoneField />
          </div>
          <Choice
            {...{ label: 'Theme', value: theme.value, choices: ['system', 'light', 'dark'] }}
            onChoose={(choice) => (theme.value = choice)}
          />
          <Choice
            {...{ label: 'Rows', value: density.value, choices: ['comfortable', 'dense'] }}
            onChoose={(choice) => (density.value = choice)}
          />
          <div class="row">
            {readsTrail.value && (
              <a class="btn mobonly" href={link('/plans')}>
                Plans
              </a>
            )}
            <a class="btn mobonly" href={link('/state')}>
              State at…
            </a>
            <a class="btn" href={link('/help')}>
              Help
            </a>
            <button
              type="button"
              class="btn"
              onClick={() => void signOut().then((hasEnded) => setStuck(!hasEnded))}
            >
              Sign out
            </button>
          </div>
          {isStuck && (
            <Note tone="failed">
              The server could not end the sign-in: you are still signed in. Try again.
            </Note>
          )}
        </div>
      </div>
    </>
  );
}
