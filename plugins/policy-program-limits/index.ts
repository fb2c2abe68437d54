import { definePlugin } from '../../src/core/contract/plugin.js';
import { POLICY } from '../../src/core/contract/policy.js';
import {
  checkProgramLimits,
  PROGRAM_LIMITS_RULES,
  ProgramLimits,
  ProgramLimitsConfig,
} from './program-limits.js';

export default definePlugin({
  name: 'program-limits',
  version: '0.1.0',
  role: 'policy',
  api: '^2',
  description:
    'limits on what a program is able to do: verdicts, helpers, map types, packet writes, insns, stack',
  configSchema: ProgramLimitsConfig,
  rules: PROGRAM_LIMITS_RULES,
  checkTestbed: checkProgramLimits,
  register(scope, config) {
    scope.bindFactory(POLICY, () => new ProgramLimits(config));
  },
});
