import { WORKLOAD } from '../../src/core/contract/workload.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { UdpFlood, UdpFloodConfig } from './udp-flood.js';

export default definePlugin({
  name: 'udp-flood',
  version: '0.1.0',
  role: 'workload',
  api: '^2',
  description: 'equal UDP or TCP frames at a constant rate, spread over flows and guests',
  configSchema: UdpFloodConfig,
  register(scope, config) {
    scope.bindFactory(WORKLOAD, () => new UdpFlood(config));
  },
});
