import { definePlugin } from '../../src/core/contract/plugin.js';
import { VERIFIER } from '../../src/core/contract/verifier.js';
import { StructuralConfig, StructuralVerifier } from './structural-verifier.js';

export default definePlugin({
  name: 'structural',
  version: '0.1.0',
  role: 'verifier',
  api: '^2',
  description:
    'judges a program by its form: encodings, jumps, calls, map references, helper numbers; tracks no values',
  configSchema: StructuralConfig,
  register(scope, config) {
    scope.bindFactory(VERIFIER, () => new StructuralVerifier(config));
  },
});
