import { useResources } from '../data/resource.ts';
import { useLater } from '../parts/use_later.ts';
import { PLAN_FLAG } from './documents.ts';
import type { ChangeRow, KnownFlag } from './form_model.ts';

/** The flags that rows name, as they are now, in the rows' order; null for one that isn't known, or isn't there. */
export function useFlags(rows: readonly ChangeRow[]): readonly (KnownFlag | null)[] {
  const named = useLater(
    JSON.stringify(rows.map(({ environment, flagKey }) => [environment, flagKey.trim()])),
  );
  const asked = (JSON.parse(named) as (readonly [string, string])[]).filter(
    ([, key]) => key !== '',
  );
  const unique = [...new Map(asked.map((one) => [JSON.stringify(one), one])).values()];
  const found = useResources(
    PLAN_FLAG,
    unique.map(([environment, flagKey]) => ({ environment, flagKey })),
  );
  const flags = found.map(({ data }) => data.value?.featureFlagByEnvironmentAndFlagKey ?? null);
  return rows.map(({ environment, flagKey }) => {
    const flag = flags.find(
      (one) => one?.flagKey === flagKey.trim() && one.environment === environment,
    );
    return flag === undefined || flag === null
      ? null
      : {
          enabled: flag.enabled,
          rolloutPercentage: flag.rolloutPercentage,
          pending: flag.schedules.nodes,
        };
  });
}
