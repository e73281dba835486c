import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { errorOf, run, type ApiError } from '../data/request.ts';
import { refetchAll } from '../data/resource.ts';
import { useSending } from '../data/sending.ts';
import { Field, MOST_REASON, ReasonField } from '../parts/field.tsx';
import { StatusTag } from '../parts/marks.tsx';
import { Note } from '../parts/note.tsx';
import { link } from '../router.ts';
import { focusProblem } from '../schedules/focus_problem.ts';
import { learnStop } from '../stop/stops.ts';
import { RESUME } from './documents.ts';
import { exceptionsOf, resumeText, type Decisions, type DueItem } from './model.ts';
import { Preview } from './preview.tsx';

/** Where a slip costs most, the name is typed. */
const needsName = (environment: string): boolean => /^prod/i.test(environment);

interface Props {
  readonly environment: string;
  readonly items: readonly DueItem[];
  /** Items that came due since the list was looked at. */
  readonly unseen: readonly DueItem[];
  readonly isCut: boolean;
  readonly decisions: Decisions;
  readonly reason: string;
  readonly onReason: (reason: string) => void;
  readonly onSeen: () => void;
  readonly onRefused: (error: ApiError) => void;
}

/** What the resume would do, why, and the last question: resuming may be slow. */
export function ResumeForm(props: Props) {
  const { environment, items, unseen, isCut, decisions, reason, onReason, onSeen } = props;
  const [typed, setTyped] = useState('');
  const [isAsked, setAsked] = useState(false);
  const sending = useSending();
  const except = exceptionsOf(items, decisions);
  const isTyped = !needsName(environment) || typed.trim() === environment;
  const count = Array.from(reason.trim()).length;
  const isReady = isTyped && count > 0 && count <= MOST_REASON && unseen.length === 0;
  const name = resumeText(items, decisions, isCut);
  const resume = async (): Promise<void> => {
    const variables = { environment, missed: decisions.all, reason: reason.trim(), except };
    const isDone = await sending.send(async () => {
      try {
        const { resumeEnvironment } = await run(RESUME, variables);
        learnStop(resumeEnvironment?.environment);
      } catch (failure) {
        props.onRefused(errorOf(failure));
        throw failure;
      } finally {
        // Also where somebody else was faster: the page then says who.
        void refetchAll();
      }
    });
    if (isDone) announce(`${environment} goes on: ${name}`);
  };
  return (
    <form
      class="card"
      aria-labelledby="after"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setAsked(true);
        if (isReady) void resume();
        else focusProblem(event.currentTarget);
      }}
    >
      <header class="between">
        <h2 id="after">After you resume</h2>
        <StatusTag status="pending">Preview</StatusTag>
      </header>
      <div class="body stack">
        <Preview {...{ environment, items, decisions }} />
        <ReasonField
          {...{ value: reason, onText: onReason }}
          problem={isAsked && count === 0 ? 'Why is it safe again?' : null}
        />
        {needsName(environment) && (
          <Field
            label={
              <>
                Type <code>{environment}</code> to resume
              </>
            }
            {...{ value: typed, onText: setTyped }}
            problem={isAsked && !isTyped ? 'That isn’t its name.' : null}
          />
        )}
        {unseen.length > 0 && (
          <Note tone="conflict">
            <span role="alert">
              {unseen.length === 1 ? 'One more change' : `${unseen.length} more changes`} came due
              since you looked.
            </span>{' '}
            <button type="button" class="btn" onClick={onSeen}>
              I have seen {unseen.length === 1 ? 'it' : 'them'}
            </button>
          </Note>
        )}
      </div>
      <div class="foot">
        <a class="btn" href={link('/timeline')}>
          Stay paused
        </a>
        <button
          {...{ type: 'submit', class: 'btn primary push' }}
          aria-disabled={!isReady || sending.isBusy}
        >
          {name}
        </button>
      </div>
    </form>
  );
}
