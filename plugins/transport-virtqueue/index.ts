import { Type } from '@sinclair/typebox';
import { CLOCK } from '../../src/core/contract/clock.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { TRANSPORT } from '../../src/core/contract/transport.js';
import { VirtqueueTransport } from './virtqueue-transport.js';

export default definePlugin({
  name: 'virtqueue',
  version: '0.1.0',
  role: 'transport',
  api: '^2',
  description: "the control virtqueue (virtio 1.3), in a guest's memory",
  queueFormat: 'split',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(TRANSPORT, (resolve) => new VirtqueueTransport(resolve(CLOCK)));
  },
});
