import { expect, it } from 'vitest';
import { Btf } from '../bpf/btf/btf.js';
import { BtfEncoder } from '../bpf/btf/btf-encoder.js';
import { BPF_MAP_TYPE, type MapSpec } from '../bpf/map-spec.js';
import { globalVariables } from './program-globals.js';

/** A section of 8 bytes with `__u32` variables at the given offsets, as BTF may say whatever the section is. */
function section(...offsets: number[]): MapSpec {
  const encoder = new BtfEncoder();
  encoder.type('INT', { name: '__u32', sizeOrType: 4, body: [32] });
  for (const offset of offsets) encoder.type('VAR', { name: `at${offset}`, sizeOrType: 1, body: [1] });
  const body = offsets.flatMap((offset, index) => [index + 2, offset, 4]);
  encoder.type('DATASEC', { name: '.data', vlen: offsets.length, sizeOrType: 8, body });
  return {
    name: '.data',
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    flags: 0,
    initial: [],
    valueType: { btf: new Btf(encoder.bytes()), id: offsets.length + 2 },
  };
}

it('variables that do not lie in their section are none', () => {
  const variables = globalVariables([section(0, 4, 5, 0xffff_fffc)]);
  expect([...variables].map(([name, { offset, size }]) => [name, offset, size])).toEqual([
    ['at0', 0, 4],
    ['at4', 4, 4],
  ]);
});
