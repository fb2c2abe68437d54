import { expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { u32 } from '../../src/conformance/map-backend/map-samples.js';
import { MemoryMapBackend } from './memory-map-backend.js';
import type { DevMap } from './dev-map.js';
import type { XskMap } from './xsk-map.js';

const backend = new MemoryMapBackend(new BpfRuntime({ memoryBytes: 1 << 20 }));

it('an XSKMAP tells which socket it was given', () => {
  const attributes = {
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP,
    keySize: 4,
    valueSize: 4,
    maxEntries: 4,
    flags: 0,
  };
  const map = backend.create(attributes, { name: 'xsks' }) as XskMap;
  expect(map.update(u32(2), u32(0), 0n)).toBe(0);
  expect(map.update(u32(3), u32(17), 0n)).toBe(0);
  expect([0, 2, 3, 4].map((index) => map.socketAt(index))).toEqual([undefined, 0, 17, undefined]);
});

it('a DEVMAP keeps the program id beside the device', () => {
  const attributes = {
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
    keySize: 4,
    valueSize: 8,
    maxEntries: 4,
    flags: 0,
  };
  const map = backend.create(attributes, { name: 'devs' }) as DevMap;
  expect(map.update(u32(1), u32(7, 12), 0n)).toBe(0);
  expect(map.lookup(u32(1))).toEqual(u32(7, 12));
});
