import { definePlugin } from '../../src/core/contract/plugin.js';
import { VERIFIER } from '../../src/core/contract/verifier.js';
import { KernelVerifier, KernelVerifierConfig } from './kernel-verifier.js';

export default definePlugin({
  name: 'kernel',
  version: '0.1.0',
  role: 'verifier',
  api: '^2',
  description: 'asks the verifier of the kernel that this runs on, by BPF_PROG_LOAD; needs root',
  configSchema: KernelVerifierConfig,
  register(scope, config) {
    scope.bindFactory(VERIFIER, () => new KernelVerifier(config));
  },
});
