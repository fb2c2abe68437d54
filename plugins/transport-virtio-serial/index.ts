import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { TRANSPORT } from '../../src/core/contract/transport.js';
import { VirtioSerialTransport } from './virtio-serial-transport.js';

export default definePlugin({
  name: 'virtio-serial',
  version: '0.1.0',
  role: 'transport',
  api: '^2',
  description: "a virtio-serial port of a real guest, or whatever else connects to the channel's socket",
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(TRANSPORT, () => new VirtioSerialTransport());
  },
});
