import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { testbedJsonSchema } from './json-schema.js';

/** As an editor does it: without filling in defaults. */
const plugins = await Promise.all(BUILT_IN_PLUGINS.map((entry) => entry.load()));
const validate = new Ajv({ strict: false, allErrors: true }).compile(testbedJsonSchema(plugins));
const root = new URL('../../../', import.meta.url);

describe('the JSON Schema for editors', () => {
  it.each(['testbeds/rfc-2019.testbed.yaml', 'src/core/testbed/golden/valid.testbed.yaml'])(
    'has nothing against %s',
    (file) => {
      const data: unknown = parse(readFileSync(new URL(file, root), 'utf8'));
      expect(validate(data), JSON.stringify(validate.errors)).toBe(true);
    },
  );

  it.each(['missing-key', 'wrong-word', 'check-counter', 'plugin-config'])(
    'sees what is wrong with golden/%s',
    (name) => {
      const file = new URL(`src/core/testbed/golden/${name}.testbed.yaml`, root);
      expect(validate(parse(readFileSync(file, 'utf8')))).toBe(false);
    },
  );
});
