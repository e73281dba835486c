import '../environment.ts';
import { PgSimplifyInflectionPreset } from '@graphile/simplify-inflection';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';
import { checkedFlagFields, flagUpdates } from './flag_updates.ts';
import { pages } from './pages.ts';
import { exposurePlugins } from './exposure.ts';
import { me } from './me.ts';
import { planConditions } from './plan_conditions.ts';
import { planInputs } from './plan_inputs.ts';
import { planResults, plans } from './plans.ts';
import { reasons } from './reasons.ts';
import { revisions } from './revisions.ts';
import { states } from './states.ts';
import { subscriptions } from './subscriptions.ts';
import { seals } from './seals.ts';
import { trailConditions } from './trail_conditions.ts';
import { trailStatus } from './trail_status.ts';
import { valuePlugins } from './values.ts';

/** The first is the one whose names have no prefix. */
export const SCHEMAS = ['app_public', 'audit'];

export const preset: GraphileConfig.Preset = {
  extends: [PostGraphileAmberPreset, PgSimplifyInflectionPreset],
  plugins: [
    flagUpdates,
    checkedFlagFields,
    planInputs,
    ...exposurePlugins,
    pages,
    ...valuePlugins,
    ...trailConditions,
    ...planConditions,
    planResults,
    seals,
    trailStatus,
    ...reasons,
    ...revisions,
    me,
    subscriptions,
    states,
    plans,
  ],
  disablePlugins: [
    // A schema that can't be built as it should be stops the process instead of serving what is left of it.
    'SwallowErrorsPlugin',
    // Ids are uuids: unique as they are, and the same as in REST, SQL and the trail.
    'NodePlugin',
    'AddNodeInterfaceToSuitableTypesPlugin',
    'NodeIdCodecBase64JSONPlugin',
    'NodeIdCodecPipeStringPlugin',
    'RegisterQueryNodePlugin',
    'PgTableNodePlugin',
    'PgNodeIdAttributesPlugin',
    // `query` in Query and in every payload: a way round the limits on one request.
    'QueryQueryPlugin',
    'MutationPayloadQueryPlugin',
    'PgMutationPayloadEdgePlugin',
  ],
  schema: { sortExport: true },
};
