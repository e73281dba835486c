// The pages of plans are one file of the page: who opens the list opens a plan next.
export { EditPlanPage, NewPlanPage } from './form_page.tsx';
export { PlansPage } from './page.tsx';
export { PlanPage } from './plan_page.tsx';
