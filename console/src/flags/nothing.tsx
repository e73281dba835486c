import { isAdmin } from '../data/person.ts';
import { Command } from '../parts/command.tsx';
import { openForm } from './open_form.ts';

/** No flag in the environment: what to do, with a command that works here. */
export const Nothing = ({ environment }: { readonly environment: string }) => (
  <div class="blank none">
    <h2>No flags in {environment} yet</h2>
    {isAdmin.value ? (
      <>
        <p class="muted">Create the first one: it is off until you change it.</p>
        <div class="row">
          <button type="button" class="btn primary" onClick={() => openForm('flag')}>
            Create a flag
          </button>
        </div>
        <Command
          {...{ title: 'Or by curl', path: '/api/admin/flags' }}
          body={{ flag_key: 'my-first-flag', environment }}
        />
      </>
    ) : (
      <p class="muted">Once an admin creates one it appears here.</p>
    )}
  </div>
);
