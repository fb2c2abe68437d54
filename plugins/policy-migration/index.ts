import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import {
  checkMigrationPolicy,
  MIGRATION_RULES,
  MigrationPolicy,
  MigrationPolicyConfig,
} from './migration-policy.js';

export default definePlugin({
  name: 'migration',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description: 'whether a guest may go to another host with what it has offloaded, or is blocked by it',
  configSchema: MigrationPolicyConfig,
  rules: MIGRATION_RULES,
  checkTestbed: checkMigrationPolicy,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new MigrationPolicy(config));
  },
});
