// A policy in a package of its own. It needs nothing of xdpbed but `definePlugin` and the role's token.
import { Type } from '@sinclair/typebox';
import { definePlugin, POLICY } from 'xdpbed';

class MaxValueSize {
  name = 'max-value-size';

  constructor(bytes) {
    this.bytes = bytes;
  }

  rule(request) {
    if (request.operation !== 'map-create') return { ruling: 'allow', reason: 'no map is created' };
    const { valueSize } = request.map;
    if (valueSize <= this.bytes) {
      return {
        ruling: 'allow',
        reason: `values of ${valueSize} bytes are within the limit of ${this.bytes}`,
      };
    }
    return {
      ruling: 'deny',
      reason: `values of ${valueSize} bytes exceed the limit of ${this.bytes}`,
      breaches: [{ rule: 'bytes', limit: this.bytes, asked: valueSize, at: ['bytes'] }],
    };
  }
}

export default definePlugin({
  name: 'max-value-size',
  version: '1.0.0',
  role: 'policy',
  api: '^2',
  description: 'denies maps whose values are larger than a limit',
  configSchema: Type.Object(
    { bytes: Type.Integer({ minimum: 1, default: 64, description: 'largest value size in bytes' }) },
    { additionalProperties: false },
  ),
  register(scope, config) {
    scope.bindFactory(POLICY, () => new MaxValueSize(config.bytes));
  },
});
