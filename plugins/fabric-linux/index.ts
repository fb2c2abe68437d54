import { Type } from '@sinclair/typebox';
import { FABRIC } from '../../src/core/contract/fabric.js';
import { definePlugin } from '../../src/core/contract/plugin.js';

export default definePlugin({
  name: 'linux',
  version: '0.1.0',
  role: 'fabric',
  api: '^2',
  description:
    'network namespaces, taps, bridges and hooks of the running kernel, and guests on their taps; needs root',
  hooks: {
    redirect: ['tail-call', 'devmap', 'cpumap', 'veth-shim'],
    bridge: ['tcx-egress', 'bridge-early'],
  },
  ringAccess: ['ptr-ring'],
  guests: ['qemu', 'tap-reader'],
  host: { executor: 'kernel', 'map-backend': 'kernel', verifier: 'kernel', transport: 'virtio-serial' },
  configSchema: Type.Object({}, { additionalProperties: false }),
  async register(scope) {
    const { LinuxFabric } = await import('./linux-fabric.js');
    scope.bindClass(FABRIC, LinuxFabric);
  },
});
