// All pages but the timeline, which one sees first. They are one file: they share so much that a file each is a seventh more to load in
// all, and who has opened one of them has the others at once.
export { FlagPage } from '../flag/page.tsx';
export { FlagsPage } from '../flags/page.tsx';
export { EditPlanPage, NewPlanPage } from '../plans/form_page.tsx';
export { PlansPage } from '../plans/page.tsx';
export { PlanPage } from '../plans/plan_page.tsx';
export { ResumePage } from '../resume/page.tsx';
export { StatePage } from '../state/page.tsx';
export { TonightPage } from '../tonight/page.tsx';
export { TrailPage } from '../trail/page.tsx';
export { HelpPage } from './help.tsx';
