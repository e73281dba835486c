import { databaseNow } from '../data/clock.ts';
import { dropDraft } from '../data/draft.ts';
import { chosenEnvironment } from '../data/person.ts';
import { useReading } from '../data/reading.ts';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, match, param } from '../router.ts';
import { zone } from '../settings.ts';
import { PLAN } from './documents.ts';
import { PlanForm } from './form.tsx';
import { newPlan, newRow, textOf } from './form_model.ts';
import { isOpen } from './model.ts';
import { askedOf } from './plan_page.tsx';

/** The form of a new plan. `?flag=` names its first flag. */
export function NewPlanPage() {
  const environment = chosenEnvironment.value;
  const initial = newPlan(environment, zone.value, databaseNow());
  const flagKey = param('flag');
  return (
    <>
      <div class="head">
        <h1>New plan</h1>
      </div>
      <PlanForm
        id={null}
        initial={{ ...initial, changes: [{ ...newRow(environment), flagKey }] }}
        onTakeTheirs={() => Promise.resolve()}
      />
    </>
  );
}

export function EditPlanPage() {
  const { id = '' } = match('/plans/:id/edit') ?? {};
  return <Edit key={id} id={id} />;
}

/** The form of a plan as it was when the page was opened: what somebody else changes since is named when one saves. */
function Edit({ id }: { readonly id: string }) {
  const found = useReading(PLAN, { id });
  const plan = found.data.value?.plan ?? null;
  const isGone = found.data.value !== null && (plan === null || !isOpen(plan));
  return (
    <>
      <div class="head">
        <h1>{plan === null ? 'Edit the plan' : `Edit ${plan.title}`}</h1>
      </div>
      <Failure error={found.error} refetch={found.read} />
      {isGone ? (
        <Note tone="quiet">
          {plan === null ? 'There is no such plan.' : 'This plan has ended: it can’t be edited.'}{' '}
          <a href={link(plan === null ? '/plans' : `/plans/${id}`)}>Back</a>
        </Note>
      ) : plan === null ? (
        found.error.value === null && <Waiting rows={6} />
      ) : (
        <PlanForm
          key={plan.revision}
          id={id}
          initial={textOf(plan, askedOf(plan).changes, zone.value)}
          onTakeTheirs={() => {
            dropDraft('plan');
            return found.read();
          }}
        />
      )}
    </>
  );
}
