import { Type } from '@sinclair/typebox';
import { definePlugin, FABRIC } from 'xdpbed';
import { VepaFabric } from './vepa-fabric.js';

/** A fabric written against the published package alone. */
export default definePlugin({
  name: 'vepa',
  version: '1.0.0',
  role: 'fabric',
  api: '^2',
  description:
    'a NIC that hands frames to guests by MAC address and sends out whatever guests send; no virtqueues for frames',
  time: 'virtual',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindClass(FABRIC, VepaFabric);
  },
});
