import { useState } from 'preact/hooks';
import type { ResultOf } from 'gql.tada';
import { me } from '../data/person.ts';
import type { Resource } from '../data/resource.ts';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog } from '../parts/dialog.tsx';
import { Icon } from '../parts/icons.tsx';
import { Failure } from '../parts/note.tsx';
import { Time } from '../parts/time.tsx';
import type { TRAIL_STATUS, TrailEvent } from './documents.ts';
import { numberText } from './list.tsx';
import { problemsOf } from './problems.ts';

type Status = NonNullable<ResultOf<typeof TRAIL_STATUS>['trailStatus']>;

interface WholeProps {
  readonly status: Status;
  readonly problems: readonly string[];
  /** The server couldn't be asked since. */
  readonly isOld: boolean;
}

/** Consistent in itself. On a problem its name, and no tick; while the last events aren't sealed no tick either. */
function Whole({ status, problems, isOld }: WholeProps) {
  const { sealNo, sealedAt, sealedSeq, lastSeq } = status;
  const seal =
    sealNo === null || sealedAt === null ? null : (
      <>
        seal {numberText(sealNo)} at <Time at={sealedAt} precision="second" />
      </>
    );
  if (problems.length > 0)
    return (
      <div class="b1 failed" role="alert">
        <Icon name="warning" />
        <div>
          {problems.map((problem) => (
            <div key={problem}>
              <strong>{problem}</strong>
            </div>
          ))}
          <span class="small muted">
            {seal === null ? (
              'nothing is sealed'
            ) : (
              <>
                sealed up to event {numberText(sealedSeq)}, {seal}
              </>
            )}
          </span>
        </div>
      </div>
    );
  if (sealNo === null)
    return (
      <div class="b1 quiet">
        <Icon name="info" />
        <div>
          <strong>Nothing is sealed yet</strong>
          <br />
          <span class="small muted">an event is sealed within a second, while a worker runs</span>
        </div>
      </div>
    );
  const isSealing = Number(sealedSeq) < Number(lastSeq);
  const isGreen = !isSealing && !isOld;
  return (
    <div class={isGreen ? 'b1 applied' : 'b1 quiet'}>
      <Icon name={isGreen ? 'shield' : 'info'} />
      <div>
        <strong>
          Whole and sealed up to event {numberText(sealedSeq)}
          {isSealing ? ', sealing…' : ''}
        </strong>
        <br />
        <span class="small muted">
          {seal} · {isOld ? 'not known since' : 'no problem is known'}
        </span>
      </div>
    </div>
  );
}

/** Whether it could be rewritten without notice: another sentence than the one before. */
function Anchored({ status }: { readonly status: Status }) {
  const { sealNo, anchoredSealNo, anchoredAt } = status;
  if (anchoredSealNo === null || anchoredAt === null)
    return (
      <div class="b2">
        <strong>Not anchored outside</strong>
        <br />
        <span class="small muted">
          no destination has confirmed a seal: an administrator of this database could rewrite the
          trail
        </span>
      </div>
    );
  const left = Number(sealNo) - Number(anchoredSealNo);
  return (
    <div class="b2">
      <strong>Anchored outside up to seal {numberText(anchoredSealNo)}</strong>
      <br />
      <span class="small muted">
        a destination confirmed it at <Time at={anchoredAt} precision="second" />
        {left > 0 && ` · ${left === 1 ? '1 seal is' : `${left} seals are`} on the way`}
      </span>
    </div>
  );
}

const COMMANDS = `npm run -s halyard -- audit verify
npm run -s halyard -- audit verify --anchors FILE
npm run -s halyard -- audit verify --anchors cloudwatch`;

const HowTo = ({ onClose }: { readonly onClose: () => void }) => (
  <Dialog title="Check it yourself" onClose={onClose}>
    <div class="body stack">
      <p>
        This page says what Halyard knows of itself: it verifies nothing. An auditor who isn’t
        limited to environments verifies the whole trail, from a machine that the database’s
        administrators don’t have.
      </p>
      <pre {...{ tabIndex: 0, class: 'payload plain', 'aria-label': 'Commands' }}>{COMMANDS}</pre>
      <p class="small muted">
        The first checks the database against itself: whole. The others check it against a copy,
        which no administrator of this database can change: anchored. docs/audit.md says what is
        proved, and what isn’t.
      </p>
      <div class="row">
        <CopyButton text={COMMANDS} isPrimary>
          Copy
        </CopyButton>
        <button type="button" class="btn" onClick={onClose}>
          Close
        </button>
      </div>
    </div>
  </Dialog>
);

interface BadgeProps {
  readonly found: Resource<ResultOf<typeof TRAIL_STATUS>>;
  /** Those that are shown: one that isn't what was sealed is a problem of the trail. */
  readonly events: readonly Pick<TrailEvent, 'seq' | 'seal'>[];
}

/** Is the trail whole, and is it anchored: two sentences that are kept apart. */
export function Badge({ found, events }: BadgeProps) {
  const [isAsked, setAsked] = useState(false);
  const status = found.data.value?.trailStatus ?? null;
  const error = found.error.value;
  return (
    <>
      <Failure error={found.error} refetch={found.refetch} />
      <section class="card badge" aria-label="Is the trail whole?">
        {status === null ? (
          error === null && (
            <div class="b1 quiet">
              <span class="muted">Asking how far the trail is sealed…</span>
            </div>
          )
        ) : (
          <>
            <Whole
              {...{ status, problems: problemsOf(status.problems, events), isOld: error !== null }}
            />
            <Anchored status={status} />
          </>
        )}
        <div class="b3">
          <button type="button" class="btn" onClick={() => setAsked(true)}>
            {me.value?.mayProve === true ? 'Check it yourself…' : 'What is checked…'}
          </button>
        </div>
        {isAsked && <HowTo onClose={() => setAsked(false)} />}
      </section>
    </>
  );
}
