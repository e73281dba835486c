import { signal, useSignalEffect } from '@preact/signals';
import type { ComponentChildren, ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';
import { announcement } from './announce.ts';
import { startClock } from './data/clock.ts';
import { startLive, stopLive } from './data/live.ts';
import { environment, isAdmin, loadPerson, me, readsTrail } from './data/person.ts';
import { ApiError, errorOf } from './data/request.ts';
import { forgetAll } from './data/resource.ts';
import { loadSession, session, signInAgain } from './data/session.ts';
import { keepFocus } from './frame/keep_focus.ts';
import { Side } from './frame/side.tsx';
import { Top } from './frame/top.tsx';
import { ZoneList } from './frame/menus.tsx';
import { titleOf } from './frame/title.ts';
import { useKeys } from './keys.ts';
import { Lazy } from './lazy.tsx';
import { Failure, Note } from './parts/note.tsx';
import type * as pagesLater from './pages/later.ts';
import { NoRight } from './pages/no_right.tsx';
import { SignIn } from './pages/sign_in.tsx';
import { followLinks, here, link, match, navigate, param, path } from './router.ts';
import { StopBanner } from './stop/banner.tsx';
import { density } from './settings.ts';
import { isZone } from './time/zone.ts';
import { TimelinePage } from './timeline/page.tsx';

const startError = signal<ApiError | null>(null);

/** Asks the server who is signed in, and follows what changes; without a session the page goes to sign in. */
async function start(): Promise<void> {
  await loadSession();
  if (session.value?.signed_in !== true) {
    if (session.value !== null) signInAgain(session.value.reason ?? '', here());
    else startError.value = new ApiError('The server does not answer.', 'offline', 0);
    return;
  }
  try {
    await loadPerson();
    startError.value = null;
    startLive();
  } catch (error) {
    startError.value = errorOf(error);
  }
}

/** A page that is loaded when one of them is first shown. */
const later = (name: keyof typeof pagesLater) => () => (
  <Lazy load={() => import('./pages/later.ts').then((pages) => pages[name])} />
);

const TrailLater = later('TrailPage');

/** By their addresses; those of `readers` are for admins and auditors, those of `admin` for admins. */
const PAGES: readonly (readonly [string, ComponentType, ('readers' | 'admin')?])[] = [
  ['/timeline', TimelinePage],
  ['/flags', later('FlagsPage')],
  ['/flags/:environment/:flagKey', later('FlagPage')],
  ['/tonight', later('TonightPage')],
  ['/state', later('StatePage')],
  ['/plans', later('PlansPage'), 'readers'],
  ['/plans/new', later('NewPlanPage'), 'admin'],
  ['/plans/:id', later('PlanPage'), 'readers'],
  ['/plans/:id/edit', later('EditPlanPage'), 'admin'],
  ['/trail', TrailLater, 'readers'],
  // The same component, so that the list stays beside an opened event.
  ['/trail/:eventId', TrailLater, 'readers'],
  ['/resume/:environment', later('ResumePage'), 'admin'],
  ['/help', later('HelpPage')],
];

function Page(): ComponentChildren {
  for (const [pattern, Found, right] of PAGES)
    if (match(pattern) !== null)
      return right === 'readers' && !readsTrail.value ? (
        <NoRight takes="an admin or an auditor" />
      ) : right === 'admin' && !isAdmin.value ? (
        <NoRight takes="an admin" />
      ) : (
        <Found />
      );
  return (
    <div class="stack">
      <h1>Nothing here</h1>
      <p>
        The console has no page of this address. <a href={link('/timeline')}>Timeline</a>
      </p>
    </div>
  );
}

/** What the address asks for and can't have. */
function AddressNote() {
  const tz = param('tz');
  const env = param('env');
  const isUnknown = env !== '' && env !== environment.value;
  if (!isUnknown && (tz === '' || isZone(tz))) return null;
  return (
    <Note tone="quiet">
      {tz !== '' && !isZone(tz) && <>Unknown time zone “{tz}”: it is left out. </>}
      {isUnknown && (
        <>
          No environment “{env}” for you: {environment.value} is shown.
        </>
      )}
    </Note>
  );
}

export function App() {
  useEffect(() => {
    startClock();
    void start();
    document.addEventListener('click', followLinks);
    const stop = keepFocus();
    return () => {
      document.removeEventListener('click', followLinks);
      stop();
    };
  }, []);
  useSignalEffect(() => {
    // Back from signing in, or gone to it.
    if (path.value.startsWith('/sign-in')) {
      stopLive();
      forgetAll();
      me.value = null;
    }
  });
  useSignalEffect(() => {
    document.title = titleOf(path.value);
  });
  useSignalEffect(() => {
    document.documentElement.dataset.rows = density.value;
  });
  useKeys({
    '?': () => navigate(link('/help')),
    d: () => (density.value = density.value === 'dense' ? 'comfortable' : 'dense'),
  });
  if (path.value.startsWith('/sign-in')) return <SignIn onSignedIn={start} />;
  if (me.value === null)
    return (
      <div class="sign">
        <Failure error={startError} refetch={start} />
      </div>
    );
  return (
    <div class="shell">
      <a class="skip" href="#main">
        To the content
      </a>
      <div class={environment.value === 'production' ? 'envbar' : 'envbar other'} />
      <Side />
      <Top />
      <StopBanner />
      <main id="main" tabIndex={-1}>
        <AddressNote />
        <Page />
      </main>
      <ZoneList />
      <div class="vh" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </div>
  );
}
