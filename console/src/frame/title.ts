import { decoded } from '../router.ts';

const NAMES: Readonly<Record<string, string>> = {
  timeline: 'Timeline',
  tonight: 'Tonight',
  flags: 'Flags',
  plans: 'Plans',
  trail: 'Trail',
  state: 'State at',
  resume: 'Resume',
  help: 'Help',
  'sign-in': 'Sign in',
};

/**
 * What the browser calls the page, in its tabs and its history.
 *
 * @param path as the router has it: `/flags/production/checkout-v2`
 */
export function titleOf(path: string): string {
  const [, page = '', , flagKey] = path.split('/');
  let name = NAMES[page];
  if (page === 'resume') name = `Resume ${decoded(path.split('/')[2] ?? '') ?? ''}`;
  if (page === 'flags' && flagKey !== undefined) name = decoded(flagKey) ?? name;
  return name === undefined ? 'Halyard' : `${name} · Halyard`;
}
