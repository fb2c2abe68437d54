import { Type } from '@sinclair/typebox';
import { DEVICE } from '../../src/core/contract/device.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { NaiveDevice } from './naive-device.js';

export default definePlugin({
  name: 'rfc-2019-naive',
  version: '0.1.0',
  role: 'device',
  api: '^2.1',
  description:
    "RFC 2019's handler with its ten defects, and protocol 2 by the same hand, in a pretend process: for seeing attacks succeed, never for use",
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(DEVICE, () => new NaiveDevice());
  },
});
