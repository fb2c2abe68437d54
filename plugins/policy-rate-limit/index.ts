import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import { checkRateLimit, RATE_LIMIT_RULES, RateLimit, RateLimitConfig } from './rate-limit.js';

export default definePlugin({
  name: 'rate-limit',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description:
    'limits on how fast guests may ask: commands, loads, verifier time and insns per second, per guest and in total',
  configSchema: RateLimitConfig,
  rules: RATE_LIMIT_RULES,
  checkTestbed: checkRateLimit,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new RateLimit(config));
  },
});
