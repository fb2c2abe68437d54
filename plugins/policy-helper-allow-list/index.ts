import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import {
  checkHelperAllowList,
  HELPER_ALLOW_LIST_RULES,
  HelperAllowList,
  HelperAllowListConfig,
} from './helper-allow-list.js';

export default definePlugin({
  name: 'helper-allow-list',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description: 'the helpers an offloaded program may call; by default none that reads anything of the host',
  configSchema: HelperAllowListConfig,
  rules: HELPER_ALLOW_LIST_RULES,
  checkTestbed: checkHelperAllowList,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new HelperAllowList(config));
  },
});
