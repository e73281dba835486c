import { environment, me } from '../data/person.ts';

/** A page that isn't for this person's role, come to by a link. */
export function NoRight({ takes }: { readonly takes: string }) {
  const limits = me.value?.environments ?? undefined;
  return (
    <div class="stack">
      <h1>Not for you</h1>
      <p>
        This takes {takes} of {environment.value}. You are {me.value?.role ?? ''}
        {limits === undefined ? '' : ` of ${limits.join(', ')}`}.
      </p>
    </div>
  );
}
