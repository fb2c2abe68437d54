import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { TRANSPORT } from '../../src/core/contract/transport.js';
import { VirtqueueTransport } from './virtqueue-transport.js';

export default definePlugin({
  name: 'virtqueue',
  version: '0.1.0',
  role: 'transport',
  api: '^1',
  description: "split virtqueues (virtio 1.3) in a guest's memory, for control commands and frames",
  requires: [],
  capabilities: ['VIRTIO_F_INDIRECT_DESC', 'VIRTIO_F_EVENT_IDX', 'VIRTIO_NET_F_MRG_RXBUF'],
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(TRANSPORT, () => new VirtqueueTransport());
  },
});
