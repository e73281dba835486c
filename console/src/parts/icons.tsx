const PATHS = {
  timeline: 'M2 12h20M6 12V7m6 5V4m6 8V9',
  tonight: 'M20 14A8 8 0 1 1 10 4a7 7 0 0 0 10 10Z',
  flags: 'M5 21V4h13l-3 4 3 4H5',
  plans: 'M4 6h16M4 12h16M4 18h10',
  trail: 'M6 4h12v16l-6-4-6 4Z',
  state: 'M12 7v5l3 2m6-2a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z',
  help: 'M9.5 9a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8m0 3v.1M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z',
  shield: 'M12 3l8 3v6c0 5-3.4 8-8 9-4.6-1-8-4-8-9V6Zm-3.5 9 2.5 2.5 4.5-5',
  warning: 'M12 3 22 20H2Zm0 7v4m0 3v.1',
  info: 'M12 11v6m0-10v.1M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z',
  stop: 'M8 3h8l5 5v8l-5 5H8l-5-5V8Zm4 5v5m0 3v.1',
  copy: 'M9 9h11v11H9ZM15 9V4H4v11h5',
  calendar: 'M4 6h16v14H4ZM4 10h16M8 3v4m8-4v4',
} as const;

export type IconName = keyof typeof PATHS;

/** A picture beside words, never in their place. */
export const Icon = ({ name }: { readonly name: IconName }) => (
  <svg
    {...{ class: 'i', viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor' }}
    {...{ 'stroke-width': '2', 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }}
    aria-hidden="true"
  >
    <path d={PATHS[name]} />
  </svg>
);

/** The product's sign: a flag on a halyard. */
export const Brand = () => (
  <svg
    viewBox="0 0 24 24"
    aria-hidden="true"
    fill="none"
    stroke="currentColor"
    stroke-width="2.4"
    stroke-linejoin="round"
  >
    <path d="M5 22V2l14 6-14 6" />
  </svg>
);
