import { Type } from '@sinclair/typebox';
import { FABRIC } from '../../src/core/contract/fabric.js';
import { definePlugin } from '../../src/core/contract/plugin.js';

export default definePlugin({
  name: 'model',
  version: '0.1.0',
  role: 'fabric',
  api: '^2',
  description:
    'guest drivers, virtqueues, QEMU devices, taps, bridges and NICs in this process; needs nothing but Node',
  time: 'virtual',
  configSchema: Type.Object({}, { additionalProperties: false }),
  async register(scope) {
    const { ModelFabric } = await import('./model-fabric.js');
    scope.bindClass(FABRIC, ModelFabric);
  },
});
