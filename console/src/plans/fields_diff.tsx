import { differences, fieldName, valueText, type Fields } from './model.ts';

/** What changes of a flag, in a line: `off → on, rollout 25% → 50%`; what stays is left out. */
export function FieldsDiff({ before, after }: { readonly before: Fields; readonly after: Fields }) {
  const found = differences(before, after);
  if (found.length === 0) return <span class="muted">nothing changes</span>;
  return (
    <>
      {found.map(({ field, from, to }, i) => (
        <span key={field}>
          {i > 0 && ', '}
          {field !== 'enabled' && `${fieldName(field)} `}
          <del>{valueText(field, from)}</del> → <ins>{valueText(field, to)}</ins>
        </span>
      ))}
    </>
  );
}
