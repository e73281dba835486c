import { setParams } from '../router.ts';

/** Opens a form over the list, as a step of the browser's history. */
export const openForm = (form: 'schedule' | 'flag'): void => setParams({ form }, true);
