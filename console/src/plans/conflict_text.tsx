import { Time } from '../parts/time.tsx';
import { link } from '../router.ts';
import { fieldName, valueText, type Conflict } from './model.ts';

/** What stands against a change, as a sentence. */
export function ConflictText({ conflict }: { readonly conflict: Conflict }) {
  const { field, kind, expected, found, at, planId } = conflict;
  const cause = planId !== null && (
    <>
      {' '}
      <a href={link(`/plans/${planId}`)}>The other plan</a>
    </>
  );
  if (kind === 'same_instant')
    return (
      <>
        Another change sets {fieldName(field)} to <strong>{valueText(field, found)}</strong> at the
        same instant.
        {cause}
      </>
    );
  return (
    <>
      {fieldName(field)} will be <strong>{valueText(field, found)}</strong>
      {Number.isFinite(Date.parse(at)) && (
        <>
          {' '}
          at <Time at={at} />
        </>
      )}
      , and {valueText(field, expected)} is expected.
      {cause}
    </>
  );
}
