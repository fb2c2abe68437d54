import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import { checkQuota, Quota, QUOTA_RULES, QuotaConfig } from './quota.js';

export default definePlugin({
  name: 'quota',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description:
    'limits on the maps, map memory, entries, programs and insns that the host holds, per guest and in total',
  configSchema: QuotaConfig,
  rules: QUOTA_RULES,
  checkTestbed: checkQuota,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new Quota(config));
  },
});
