import { Type } from '@sinclair/typebox';
import { EXECUTOR } from '../../src/core/contract/executor.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import {
  DEFAULT_DIFFERENTIAL_CONFIG,
  DIFFERENTIAL_CONFIG,
  DifferentialExecutor,
} from './differential-executor.js';

export default definePlugin({
  name: 'differential',
  version: '1.0.0',
  role: 'executor',
  countsWork: true,
  api: '^2',
  description: 'Runs each program in several executors, which must agree on every bit.',
  configSchema: Type.Object(
    {
      executors: Type.Array(Type.String({ minLength: 1 }), {
        description: 'names of the executors to compare; the first counts as right',
        minItems: 2,
        uniqueItems: true,
        default: [...DEFAULT_DIFFERENTIAL_CONFIG.executors],
        examples: [['interpreter', 'wasm']],
      }),
    },
    { additionalProperties: false, description: 'which executors are compared' },
  ),
  register(scope, config) {
    scope.bindValue(DIFFERENTIAL_CONFIG, config);
    scope.bindClass(EXECUTOR, DifferentialExecutor);
  },
});

export {
  DEFAULT_DIFFERENTIAL_CONFIG,
  DIFFERENTIAL_CONFIG,
  DifferentialExecutor,
  DifferentialProgram,
  type DifferentialConfig,
} from './differential-executor.js';
export {
  ExecutorDisagreement,
  type DisagreementParts,
  type Opinion,
  type Scene,
} from './executor-disagreement.js';
export { shrinkProgram } from './shrink-program.js';
