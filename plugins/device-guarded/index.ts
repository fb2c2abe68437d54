import { Type } from '@sinclair/typebox';
import { DEVICE } from '../../src/core/contract/device.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { GuardedDevice } from './guarded-device.js';

export default definePlugin({
  name: 'guarded',
  version: '0.1.0',
  role: 'device',
  api: '^2.1',
  description:
    'believes nothing that a guest sends: copied once, checked, own handles, ruled on, accounted for',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(DEVICE, () => new GuardedDevice());
  },
});
