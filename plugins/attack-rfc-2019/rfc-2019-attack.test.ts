import { attackConformance } from '../../src/conformance/attack/index.js';
import { ATTACKS } from './attacks.js';
import { Rfc2019Attack } from './rfc-2019-attack.js';

for (const entry of ATTACKS) attackConformance(`rfc-2019 ${entry.name}`, () => new Rfc2019Attack(entry));
