import { definePlugin } from '../../src/core/contract/plugin.js';
import { TRANSPORT } from '../../src/core/contract/transport.js';
import { UnixSocketConfig, UnixSocketTransport } from './unix-socket-transport.js';

export default definePlugin({
  name: 'unix-socket',
  version: '0.1.0',
  role: 'transport',
  api: '^2',
  description: "a unix socket, for a guest's driver in another process",
  configSchema: UnixSocketConfig,
  register(scope, config) {
    scope.bindFactory(TRANSPORT, () => new UnixSocketTransport(config));
  },
});
