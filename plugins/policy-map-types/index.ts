import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import { checkMapTypes, MAP_TYPES_RULES, MapTypes, MapTypesConfig } from './map-types.js';

export default definePlugin({
  name: 'map-types',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description: 'the maps a guest may create: types, flags, sizes of keys and values, entries',
  configSchema: MapTypesConfig,
  rules: MAP_TYPES_RULES,
  checkTestbed: checkMapTypes,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new MapTypes(config));
  },
});
