import { definePlugin } from '../../src/core/contract/plugin.js';
import { VERIFIER } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { CONFIG_SCHEMA } from './config.js';

export { AbstractVerifier } from './abstract-verifier.js';
export { DEFAULT_CONFIG, type AbstractVerifierConfig } from './config.js';
export { REJECTION_CODES, type RejectionCode } from './rejection-codes.js';

export default definePlugin({
  name: 'abstract',
  version: '1.0.0',
  role: 'verifier',
  api: '^2',
  description: 'judges programs by abstract interpretation, and explains what it rejects',
  configSchema: CONFIG_SCHEMA,
  register(scope, config) {
    scope.bindFactory(VERIFIER, () => new AbstractVerifier(config));
  },
});
