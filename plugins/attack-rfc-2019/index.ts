import { Type } from '@sinclair/typebox';
import { ATTACK } from '../../src/core/contract/attack.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { ATTACKS } from './attacks.js';
import { Rfc2019Attack } from './rfc-2019-attack.js';

export default definePlugin({
  name: 'rfc-2019',
  version: '0.1.0',
  role: 'attack',
  api: '^2.1',
  description:
    'attacks over the control commands of RFC 2019, its ten defects and what else a guest can try, and over those of protocol 2',
  configSchema: Type.Object(
    {
      name: Type.Unsafe<string>({
        type: 'string',
        enum: ATTACKS.map(({ name }) => name),
        description: 'which of them (docs/attacks.md)',
      }),
    },
    { additionalProperties: false },
  ),
  register(scope, { name }) {
    scope.bindFactory(ATTACK, () => new Rfc2019Attack(ATTACKS.find((entry) => entry.name === name)!));
  },
});
