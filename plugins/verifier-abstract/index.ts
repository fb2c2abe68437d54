import { definePlugin } from '../../src/core/contract/plugin.js';
import { VERIFIER } from '../../src/core/contract/verifier.js';
import { CONFIG_SCHEMA } from './config.js';

export default definePlugin({
  name: 'abstract',
  version: '1.0.0',
  role: 'verifier',
  api: '^2',
  description: 'judges programs by abstract interpretation, and explains what it rejects',
  configSchema: CONFIG_SCHEMA,
  async register(scope, config) {
    const { AbstractVerifier } = await import('./abstract-verifier.js');
    scope.bindFactory(VERIFIER, () => new AbstractVerifier(config));
  },
});
