import { StatusTag, type Status } from '../parts/marks.tsx';

const SHOWN: readonly Status[] = [
  'applied',
  'changed',
  'pending',
  'conflict',
  'suspended',
  'failed',
  'cancelled',
];

export const Legend = () => (
  <div class="legend" role="group" aria-label="Legend">
    {SHOWN.map((status) => (
      <StatusTag key={status} status={status} />
    ))}
  </div>
);
