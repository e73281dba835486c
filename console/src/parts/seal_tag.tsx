import { Icon } from './icons.tsx';

interface Props {
  /** Null while the event isn't sealed. */
  readonly seal: { readonly number: string; readonly problem: string | null } | null;
}

/** Whether an event is sealed, and by which seal. One that isn't what was sealed has no shield. */
export function SealTag({ seal }: Props) {
  if (seal === null) return <span class="proof quiet">sealing…</span>;
  if (seal.problem !== null)
    return (
      <span class="proof failed">
        <Icon name="warning" />
        <span>
          altered<span class="vh"> since it was sealed</span>
        </span>
      </span>
    );
  return (
    <span class="proof">
      <Icon name="shield" />
      <span>
        <span class="vh">sealed in </span>seal {Number(seal.number).toLocaleString('en-US')}
      </span>
    </span>
  );
}
