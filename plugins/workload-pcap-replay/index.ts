import { WORKLOAD } from '../../src/core/contract/workload.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { PcapReplay, PcapReplayConfig } from './pcap-replay.js';

export default definePlugin({
  name: 'pcap-replay',
  version: '0.1.0',
  role: 'workload',
  api: '^2',
  description: 'the frames of a pcap or pcapng file, at the times they were captured',
  configSchema: PcapReplayConfig,
  files: ({ file }) => [file],
  register(scope, config) {
    scope.bindFactory(WORKLOAD, () => new PcapReplay(config));
  },
});
