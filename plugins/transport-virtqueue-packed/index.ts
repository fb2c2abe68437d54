import { Type } from '@sinclair/typebox';
import { CLOCK } from '../../src/core/contract/clock.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { TRANSPORT } from '../../src/core/contract/transport.js';
import { PackedVirtqueueTransport } from './packed-virtqueue-transport.js';

export default definePlugin({
  name: 'virtqueue-packed',
  version: '0.1.0',
  role: 'transport',
  api: '^2',
  description: "the control virtqueue in the packed format (VIRTIO_F_RING_PACKED), in a guest's memory",
  queueFormat: 'packed',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(TRANSPORT, (resolve) => new PackedVirtqueueTransport(resolve(CLOCK)));
  },
});
