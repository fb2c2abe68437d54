import { MAP_BACKEND } from '../../src/core/contract/map-backend.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { KERNEL_MAP_CONFIG, KernelMapBackend, KernelMapConfig } from './kernel-map-backend.js';

export { KernelMapBackend, SUPPORTED_MAP_TYPES } from './kernel-map-backend.js';

export default definePlugin({
  name: 'kernel',
  version: '0.1.0',
  role: 'map-backend',
  api: '^2',
  description: 'maps of the kernel that this runs on, by bpf(2); needs root',
  configSchema: KernelMapConfig,
  register(scope, config) {
    scope.bindValue(KERNEL_MAP_CONFIG, config);
    scope.bindClass(MAP_BACKEND, KernelMapBackend);
  },
});
