import { existsSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { Btf } from '../bpf/btf/btf.js';
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_MAP_TYPE, type MapTypeName } from '../bpf/map-spec.js';
import { probeBpf } from './bpf-probe.js';
import { closeFd, mapUpdate, possibleCpus } from './bpf-syscall.js';
import { createKernelMap, kernelValueSize } from './kernel-map.js';
import { kernelMapMemory, STRUCT_SIZE } from './map-memory.js';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const noBtf = existsSync(VMLINUX) ? '' : ` (skipped: this kernel does not show its BTF in ${VMLINUX})`;
const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(noBtf !== '')(`sizes of the running kernel's structs${noBtf}`, () => {
  it('are those that the memory of maps is reckoned with', () => {
    const btf = new Btf(readFileSync(VMLINUX));
    const sizes = Object.keys(STRUCT_SIZE).map((name) => [name, btf.sizeOf(btf.find('STRUCT', name)!.id)]);
    expect(Object.fromEntries(sizes)).toEqual(STRUCT_SIZE);
  });
});

const u32 = (word: number): Uint8Array => new Uint8Array(Uint32Array.of(word).buffer);

describe.skipIf(skipped !== '')(`memory of maps${skipped}`, () => {
  const fds: number[] = [];
  afterEach(() => {
    for (const fd of fds.splice(0)) closeFd(fd);
  });

  interface Case {
    readonly type: MapTypeName;
    readonly keySize?: number;
    readonly valueSize?: number;
    readonly maxEntries?: number;
    readonly flags?: number;
    /** The key of each element to be placed, up to `maxEntries`; left out: none, all memory is taken at once. */
    readonly key?: (index: number) => Uint8Array;
    readonly value?: number;
    /** Bytes that the kernel does not count, by number of entries. */
    readonly uncounted?: (entries: number) => number;
  }

  const lpmKey = (index: number): Uint8Array => Uint8Array.of(...u32(32), ...u32(index));
  const CASES: readonly Case[] = [
    { type: 'BPF_MAP_TYPE_ARRAY', valueSize: 12 },
    { type: 'BPF_MAP_TYPE_ARRAY', valueSize: 12, maxEntries: 1000, flags: BPF_F_MMAPABLE },
    { type: 'BPF_MAP_TYPE_PERCPU_ARRAY', valueSize: 12 },
    { type: 'BPF_MAP_TYPE_PROG_ARRAY' },
    { type: 'BPF_MAP_TYPE_PERF_EVENT_ARRAY' },
    { type: 'BPF_MAP_TYPE_HASH', keySize: 5, valueSize: 12, maxEntries: 100 },
    { type: 'BPF_MAP_TYPE_HASH', flags: BPF_F_NO_PREALLOC, maxEntries: 100, key: u32 },
    { type: 'BPF_MAP_TYPE_PERCPU_HASH', valueSize: 12, maxEntries: 100 },
    { type: 'BPF_MAP_TYPE_PERCPU_HASH', flags: BPF_F_NO_PREALLOC, maxEntries: 100, key: u32 },
    { type: 'BPF_MAP_TYPE_LRU_HASH', valueSize: 12, maxEntries: 100 },
    { type: 'BPF_MAP_TYPE_LRU_PERCPU_HASH', valueSize: 12, maxEntries: 100 },
    {
      type: 'BPF_MAP_TYPE_LPM_TRIE',
      keySize: 8,
      valueSize: 12,
      flags: BPF_F_NO_PREALLOC,
      maxEntries: 50,
      key: lpmKey,
      uncounted: (entries) => STRUCT_SIZE.lpm_trie + (STRUCT_SIZE.lpm_trie_node + 4) * (entries - 1),
    },
    { type: 'BPF_MAP_TYPE_QUEUE', keySize: 0, valueSize: 12 },
    { type: 'BPF_MAP_TYPE_STACK', keySize: 0, valueSize: 12 },
    { type: 'BPF_MAP_TYPE_RINGBUF', keySize: 0, valueSize: 0, maxEntries: 16_384 },
    { type: 'BPF_MAP_TYPE_DEVMAP', valueSize: 8, key: u32, value: 1 },
    { type: 'BPF_MAP_TYPE_DEVMAP_HASH', maxEntries: 5, key: u32, value: 1 },
    {
      type: 'BPF_MAP_TYPE_CPUMAP',
      maxEntries: possibleCpus(),
      uncounted: (entries) => STRUCT_SIZE.bpf_cpu_map_entry * entries,
    },
    {
      type: 'BPF_MAP_TYPE_XSKMAP',
      // No socket stands in it.
      uncounted: (entries) => STRUCT_SIZE.xsk_map_node * entries,
    },
  ];

  it.each(CASES)('of $type with flags $flags is what the kernel counts', (one) => {
    const attributes = {
      name: 'm',
      type: BPF_MAP_TYPE[one.type],
      keySize: one.keySize ?? 4,
      valueSize: one.valueSize ?? 4,
      maxEntries: one.maxEntries ?? 4,
      flags: one.flags ?? 0,
    };
    const fd = createKernelMap(attributes);
    expect(fd).toBeGreaterThanOrEqual(0);
    fds.push(fd);
    if (one.key !== undefined) {
      const value = new Uint8Array(kernelValueSize(attributes));
      value[0] = one.value ?? 0;
      for (let index = 0; index < attributes.maxEntries; index++) {
        expect(mapUpdate(fd, one.key(index), value)).toBe(0);
      }
    }
    const counted = Number(/^memlock:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]);
    const uncounted = one.uncounted?.(attributes.maxEntries) ?? 0;
    expect(kernelMapMemory(attributes, possibleCpus())).toBe(counted + uncounted);
  });
});
