import { WORKLOAD } from '../../src/core/contract/workload.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { Imix, ImixConfig } from './imix.js';

export default definePlugin({
  name: 'imix',
  version: '0.1.0',
  role: 'workload',
  api: '^2',
  description: 'frames of several sizes and protocols in given proportions; by default the simple IMIX 7:4:1',
  configSchema: ImixConfig,
  register(scope, config) {
    scope.bindFactory(WORKLOAD, () => new Imix(config));
  },
});
