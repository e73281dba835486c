import { EnvironmentTag } from '../parts/environment.tsx';
import { link } from '../router.ts';

interface Props {
  readonly flagKey: string;
  readonly environment: string;
  /** Where all are of one environment, which stands elsewhere. */
  readonly isShort?: boolean;
}

/** A flag by its key, which leads to it, and its environment. */
export const FlagName = ({ flagKey, environment, isShort = false }: Props) => (
  <span>
    <a href={link(`/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`)}>
      {flagKey}
    </a>
    {!isShort && (
      <>
        {' '}
        <EnvironmentTag name={environment} />
      </>
    )}
  </span>
);
