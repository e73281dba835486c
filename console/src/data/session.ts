import { signal } from '@preact/signals';
import { here, navigate } from '../router.ts';
import { dropDrafts } from './draft.ts';

/** How one can sign in here. */
export interface SignIn {
  /** The name of the identity provider; null where none is set up. */
  readonly oidc: string | null;
  /** Whether a token can be pasted: in development. */
  readonly token: boolean;
}

export interface Session {
  readonly signed_in: boolean;
  readonly expires_at?: string;
  readonly reason?: string | null;
  readonly sign_in: SignIn;
  readonly version: string;
}

/** Null until the server has said. */
export const session = signal<Session | null>(null);

/** Asks the server who is signed in. Leaves what is known where the server does not answer. */
export async function loadSession(): Promise<void> {
  try {
    const answer = await fetch('/console/session', { credentials: 'same-origin' });
    if (answer.ok) session.value = (await answer.json()) as Session;
  } catch {
    // The frame says that the server does not answer.
  }
}

let ending = false;

/** The server no longer takes the session: asks it why, and goes to sign in. The page that one was on is kept in the address. */
export function sessionEnded(): void {
  if (ending) return;
  ending = true;
  const back = here();
  void loadSession().then(() => {
    ending = false;
    if (session.value?.signed_in === false) signInAgain('ended', back);
  });
}

/** @param reason a word of the sign-in page, as `ended` */
export function signInAgain(reason: string, back: string): void {
  if (back.startsWith('/console/sign-in')) return;
  navigate(`/console/sign-in?${new URLSearchParams({ reason, to: back }).toString()}`, {
    replace: true,
  });
}

/**
 * Signs out; the page goes to the identity provider where that has a page for it.
 *
 * @returns whether the session has ended: one that the server could not end goes on
 */
export async function signOut(): Promise<boolean> {
  const answer = await fetch('/console/session', {
    ...{ method: 'DELETE', credentials: 'same-origin', headers: { 'X-Halyard-Console': '1' } },
  }).catch(() => null);
  if (answer?.ok !== true) return false;
  dropDrafts();
  const { end_session_url: url } = (await answer.json()) as { end_session_url: string | null };
  location.assign(url ?? '/console/sign-in?reason=signed_out');
  return true;
}
