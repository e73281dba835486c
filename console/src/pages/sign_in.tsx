import { useState } from 'preact/hooks';
import { loadSession, session } from '../data/session.ts';
import { Brand } from '../parts/icons.tsx';
import { Note } from '../parts/note.tsx';
import { decoded, navigate, param } from '../router.ts';

/** Why one is here, by the word in the address. */
const REASONS: Readonly<Record<string, string>> = {
  ended: 'Your sign-in has ended.',
  signed_out: 'You are signed out.',
  link_used:
    'This link was used, or is older than 10 minutes. A new start of npm start prints a new one.',
  refused:
    'The identity provider refused it, or your account has no role in Halyard. Its administrator can give you one.',
  provider_down: 'The identity provider does not answer. Try again in a moment.',
  unavailable:
    'The database of Halyard does not answer. Try again in a moment: a link still counts.',
};

/** Where one goes back to: a path of the console, and nothing else. */
function target(): string {
  const to = param('to');
  return to.startsWith('/console/') && !to.startsWith('/console/sign-in')
    ? to
    : '/console/timeline';
}

/** Says the page that one goes back to as a person would. */
function targetText(to: string): string {
  const [, , page = '', environment, key] = to.split(/[?#]/)[0]?.split('/') ?? [];
  if (page === 'flags' && key !== undefined && environment !== undefined)
    return `${decoded(key) ?? key} in ${decoded(environment) ?? environment}`;
  return (
    {
      timeline: 'Timeline',
      tonight: 'Tonight',
      flags: 'Flags',
      trail: 'the Trail',
      state: 'State at',
    }[page] ?? 'Timeline'
  );
}

export function SignIn({ onSignedIn }: { readonly onSignedIn: () => Promise<void> }) {
  const ways = session.value?.sign_in;
  const to = target();
  const reason = REASONS[param('reason')] ?? null;
  return (
    <>
      <div class="envbar alone" />
      <main class="sign">
        <span class="brand">
          <Brand />
          Halyard
        </span>
        <section class="card" aria-labelledby="sign-in">
          <div class="body stack">
            <h1 id="sign-in">Sign in</h1>
            {reason !== null && (
              <Note tone="pending">
                {reason}
                {param('to') !== '' && (
                  <>
                    {' '}
                    You go back to <strong>{targetText(to)}</strong>. A form that you had not sent
                    is kept.
                  </>
                )}
              </Note>
            )}
            {typeof ways?.oidc === 'string' && (
              <>
                <a
                  class="btn primary big"
                  href={`/console/sign-in/oidc?${new URLSearchParams({ to }).toString()}`}
                >
                  Sign in with {ways.oidc}
                </a>
                <span class="small muted">
                  Your roles come from {ways.oidc}. Halyard keeps no password.
                </span>
              </>
            )}
            {ways?.oidc === null && !ways.token && (
              <p>
                No identity provider is set up here. An operator sets <code>OIDC_ISSUER</code> and
                its neighbours: docs/console.md has them.
              </p>
            )}
            {ways === undefined && <p class="muted">The server does not answer.</p>}
          </div>
        </section>
        {ways?.token === true && <OwnMachine to={to} onSignedIn={onSignedIn} />}
        <p class="small muted">
          {location.host}
          {session.value === null ? '' : ` · Halyard ${session.value.version}`}
        </p>
      </main>
    </>
  );
}

interface OwnProps {
  readonly to: string;
  readonly onSignedIn: () => Promise<void>;
}

/** Development only: the one-time link, or a token, which the server keeps. The page forgets it at once. */
function OwnMachine({ to, onSignedIn }: OwnProps) {
  const [refusal, setRefusal] = useState<string | null>(null);
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const token = new FormData(form).get('token');
    const answer = await fetch('/console/session', {
      ...{ method: 'POST', credentials: 'same-origin', body: JSON.stringify({ token }) },
      headers: { 'Content-Type': 'application/json', 'X-Halyard-Console': '1' },
    }).catch(() => null);
    if (answer?.ok !== true) {
      const problem = (await answer?.json().catch(() => null)) as
        { detail?: string } | null | undefined;
      setRefusal(problem?.detail ?? 'The server does not take this token.');
      return;
    }
    form.reset();
    await loadSession();
    navigate(to, { replace: true });
    await onSignedIn();
  };
  return (
    <section class="card" aria-labelledby="own">
      <header>
        <h2 id="own">On your own machine</h2>
      </header>
      <div class="body stack">
        <p>
          Open the link that <code>npm start</code> printed. It works once, for 10 minutes.
        </p>
        <pre class="payload plain">{location.host}/console/enter?code=…</pre>
        <form
          class="field"
          onSubmit={(event) => {
            event.preventDefault();
            void submit(event.currentTarget);
          }}
        >
          <label htmlFor="token">Or paste a token</label>
          <div class="row nowrap">
            <input
              {...{
                class: 'input mono',
                id: 'token',
                name: 'token',
                type: 'password',
                required: true,
              }}
              {...{ placeholder: 'eyJhbGciOi…', autoComplete: 'off', spellcheck: false }}
              {...(refusal === null
                ? {}
                : { 'aria-invalid': 'true' as const, 'aria-describedby': 'token-bad' })}
            />
            <button type="submit" class="btn">
              Sign in
            </button>
          </div>
          {refusal !== null && (
            <span id="token-bad" class="small failed" role="alert">
              {refusal}
            </span>
          )}
        </form>
      </div>
    </section>
  );
}
