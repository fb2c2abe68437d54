import { BtfEncoder } from '../../bpf/btf/btf-encoder.js';
import type { MapBtf } from '../../bpf/btf/map-btf.js';
import { XDP_ABORTED, XDP_DROP, XDP_PASS } from '../../bpf/xdp.js';
import { concat, u32, u64, type CaseMap, type XdpCase } from './executor-case.js';

const SOURCE = 'kernel/bpf/helpers.c, arraymap.c, hashtab.c';
const ARRAY: CaseMap = { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 4 };
const HASH: CaseMap = { type: 'BPF_MAP_TYPE_HASH', keySize: 4, valueSize: 8, maxEntries: 4 };

/** R0 := the address of the value under `key` in `map`; the key is at R10 - 4. */
function lookup(map: string, key: number): string {
  return `
    *(u32 *)(r10 -4) = ${key}
    r2 = r10
    r2 += -4
    r1 = map[${map}]
    call bpf_map_lookup_elem`;
}

/** R0 := result of an update of `key` with the u64 `value`. */
function update(map: string, key: number, value: number, flags: number): string {
  return `
    *(u32 *)(r10 -4) = ${key}
    *(u64 *)(r10 -16) = ${value}
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = ${flags}
    r1 = map[${map}]
    call bpf_map_update_elem`;
}

function remove(map: string, key: number): string {
  return `
    *(u32 *)(r10 -4) = ${key}
    r2 = r10
    r2 += -4
    r1 = map[${map}]
    call bpf_map_delete_elem`;
}

/** Verdict 2 when R0 is `errno` negated, else 1. */
function passIfErrno(errno: number): string {
  return `
    r1 = r0
    r0 = 2
    if r1 == ${-errno} goto pc+1
    r0 = 1
    exit`;
}

/** A value of 16 bytes: `struct bpf_spin_lock lock; u32 hits; u64 bytes`. */
function lockedValue(): MapBtf {
  const btf = new BtfEncoder();
  const u32Type = btf.type('INT', { name: '__u32', sizeOrType: 4, body: [32] });
  const u64Type = btf.type('INT', { name: '__u64', sizeOrType: 8, body: [64] });
  const lock = btf.type('STRUCT', { name: 'bpf_spin_lock', sizeOrType: 4 });
  const body = [
    btf.string('lock'),
    lock,
    0,
    btf.string('hits'),
    u32Type,
    32,
    btf.string('bytes'),
    u64Type,
    64,
  ];
  const valueType = btf.type('STRUCT', { name: 'value', vlen: 3, sizeOrType: 16, body });
  return { bytes: btf.bytes(), keyType: u32Type, valueType };
}

const LOCKED: Omit<CaseMap, 'type'> = { keySize: 4, valueSize: 16, maxEntries: 4, btf: lockedValue() };

/** Adds 1 to `bytes` of the value under key 1 while its lock is held; verdict 2, or 1 without the value. */
const COUNT_UNDER_LOCK = `${lookup('counts', 1)}
  r6 = r0
  r0 = 1
  if r6 == 0 goto out
  r1 = r6
  call bpf_spin_lock
  r1 = *(u64 *)(r6 +8)
  r1 += 1
  *(u64 *)(r6 +8) = r1
  r1 = r6
  call bpf_spin_unlock
  r0 = 2
  out: exit`;

const lockCases = (['BPF_MAP_TYPE_HASH', 'BPF_MAP_TYPE_ARRAY'] as const).flatMap((type): XdpCase[] => [
  {
    name: `${type.slice(13)}: what is done under a spin lock, and the lock that is not copied in`,
    source: 'kernel/bpf/helpers.c, bpf_spin_lock; include/linux/bpf.h, copy_map_value',
    maps: { counts: { type, ...LOCKED, entries: [[u32(1), concat(u32(0xffff_ffff), u32(3), u64(6n))]] } },
    program: COUNT_UNDER_LOCK,
    verdict: XDP_PASS,
    mapsAfter: { counts: [[u32(1), concat(u32(0), u32(3), u64(7n))]] },
  },
  {
    name: `${type.slice(13)}: an update by the program leaves the lock out, with BPF_F_LOCK as well`,
    source: 'include/linux/bpf.h, copy_map_value',
    maps: { counts: { type, ...LOCKED, entries: [[u32(1), concat(u32(0), u32(3), u64(6n))]] } },
    program: `
      *(u32 *)(r10 -4) = 1
      *(u64 *)(r10 -24) = -1
      *(u64 *)(r10 -16) = 9
      r2 = r10
      r2 += -4
      r3 = r10
      r3 += -24
      r4 = 4
      r1 = map[counts]
      call bpf_map_update_elem
      if r0 != 0 goto failed
      ${COUNT_UNDER_LOCK}
      failed: r0 = 0
      exit`,
    verdict: XDP_PASS,
    mapsAfter: { counts: [[u32(1), concat(u32(0), u32(0xffff_ffff), u64(10n))]] },
  },
]);

export const MAP_CASES: readonly XdpCase[] = [
  ...lockCases,
  {
    name: 'ARRAY: lookup, and a write through the pointer stays',
    source: SOURCE,
    maps: { counts: { ...ARRAY, entries: [[u32(2), u64(0xffff_ffffn)]] } },
    program: `${lookup('counts', 2)}
      if r0 == 0 goto pc+5
      r1 = *(u64 *)(r0 +0)
      r1 += 1
      *(u64 *)(r0 +0) = r1
      r0 = 2
      exit
      r0 = 1
      exit`,
    verdict: XDP_PASS,
    mapsAfter: {
      counts: [
        [u32(2), u64(0x1_0000_0000n)],
        [u32(1), u64(0n)],
      ],
    },
  },
  {
    name: 'ARRAY: a key beyond max_entries gives NULL',
    source: SOURCE,
    maps: { counts: ARRAY },
    program: `${lookup('counts', 4)}\nr1 = r0\nr0 = 2\nif r1 == 0 goto pc+1\nr0 = 1\nexit`,
    verdict: XDP_PASS,
  },
  {
    name: 'ARRAY: elements cannot be deleted (-EINVAL)',
    source: SOURCE,
    maps: { counts: ARRAY },
    program: remove('counts', 0) + passIfErrno(22),
    verdict: XDP_PASS,
  },
  {
    name: 'ARRAY: update with BPF_NOEXIST is -EEXIST',
    source: SOURCE,
    maps: { counts: ARRAY },
    program: update('counts', 0, 1, 1) + passIfErrno(17),
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: update, lookup, delete',
    source: SOURCE,
    maps: { flows: { ...HASH, entries: [[u32(9), u64(1n)]] } },
    program: `${update('flows', 7, 41, 0)}${lookup('flows', 7)}
      if r0 == 0 goto pc+2
      r1 = 1
      lock *(u64 *)(r0 +0) += r1
      ${remove('flows', 9)}
      r0 += 2
      exit`,
    verdict: XDP_PASS,
    mapsAfter: {
      flows: [
        [u32(7), u64(42n)],
        [u32(9), -2],
      ],
    },
  },
  {
    name: 'HASH: lookup of what is not there gives NULL',
    source: SOURCE,
    maps: { flows: { ...HASH, entries: [[u32(9), u64(1n)]] } },
    program: `${lookup('flows', 8)}\nr1 = r0\nr0 = 2\nif r1 == 0 goto pc+1\nr0 = 1\nexit`,
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: delete of what is not there is -ENOENT',
    source: SOURCE,
    maps: { flows: HASH },
    program: remove('flows', 8) + passIfErrno(2),
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: BPF_EXIST on a new key is -ENOENT',
    source: SOURCE,
    maps: { flows: HASH },
    program: update('flows', 8, 1, 2) + passIfErrno(2),
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: BPF_NOEXIST on a key that is there is -EEXIST',
    source: SOURCE,
    maps: { flows: { ...HASH, entries: [[u32(8), u64(1n)]] } },
    program: update('flows', 8, 2, 1) + passIfErrno(17),
    verdict: XDP_PASS,
    mapsAfter: { flows: [[u32(8), u64(1n)]] },
  },
  {
    name: 'HASH: unknown flags are -EINVAL',
    source: SOURCE,
    maps: { flows: HASH },
    program: update('flows', 8, 2, 99) + passIfErrno(22),
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: a full map is -E2BIG',
    source: SOURCE,
    maps: { flows: { ...HASH, maxEntries: 1, entries: [[u32(8), u64(1n)]] } },
    program: update('flows', 9, 2, 0) + passIfErrno(7),
    verdict: XDP_PASS,
  },
  {
    name: 'HASH: a 13-byte key and a key in the packet',
    source: SOURCE,
    maps: {
      flows: {
        type: 'BPF_MAP_TYPE_HASH',
        keySize: 13,
        valueSize: 4,
        maxEntries: 8,
        entries: [[Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), u32(5)]],
      },
    },
    program: `
        r3 = *(u32 *)(r1 +4)
        r2 = *(u32 *)(r1 +0)
        r4 = r2
        r4 += 13
        r0 = 0
        if r4 > r3 goto out
        r1 = map[flows]
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r0 = *(u32 *)(r0 +0)
        r0 += -3
      out:
        exit`,
    verdict: XDP_PASS,
  },
  {
    name: 'lddw of a map value addresses the value itself',
    source: 'RFC 9669 section 5.4, table 11',
    maps: { data: { ...ARRAY, maxEntries: 1, entries: [[u32(0), concat(u32(1), u32(2))]] } },
    program: 'r1 = map[data][0]+4\nr0 = *(u32 *)(r1 +0)\n*(u32 *)(r1 +0) = 9\nexit',
    verdict: XDP_PASS,
    mapsAfter: { data: [[u32(0), concat(u32(1), u32(9))]] },
  },
  {
    name: 'PERCPU_ARRAY: lookup gives the value of this CPU',
    source: SOURCE,
    maps: { counts: { ...ARRAY, type: 'BPF_MAP_TYPE_PERCPU_ARRAY' } },
    program: `${lookup('counts', 3)}
      if r0 == 0 goto pc+3
      *(u64 *)(r0 +0) = 5
      r0 = 2
      exit
      r0 = 1
      exit`,
    verdict: XDP_PASS,
    mapsAfter: { counts: [[u32(3), concat(u64(5n), u64(0n))]] },
  },
  {
    name: 'PERCPU_ARRAY: the value of another CPU, and NULL for a CPU that is not there',
    source: 'kernel bpf_map_lookup_percpu_elem',
    maps: { counts: { ...ARRAY, type: 'BPF_MAP_TYPE_PERCPU_ARRAY' } },
    program: `
        *(u32 *)(r10 -4) = 3
        r2 = r10
        r2 += -4
        r1 = map[counts]
        r3 = 1
        call bpf_map_lookup_percpu_elem
        if r0 == 0 goto bad
        *(u64 *)(r0 +0) = 6
        r2 = r10
        r2 += -4
        r1 = map[counts]
        r3 = 2
        call bpf_map_lookup_percpu_elem
        if r0 != 0 goto bad
        r0 = 2
        exit
      bad:
        r0 = 1
        exit`,
    verdict: XDP_PASS,
    mapsAfter: { counts: [[u32(3), concat(u64(0n), u64(6n))]] },
  },
  {
    name: 'ARRAY_OF_MAPS: two lookups, one after the other',
    source: 'kernel/bpf/map_in_map.c',
    maps: {
      inner: { ...ARRAY, maxEntries: 1, entries: [[u32(0), u64(2n)]] },
      outer: {
        type: 'BPF_MAP_TYPE_ARRAY_OF_MAPS',
        keySize: 4,
        valueSize: 4,
        maxEntries: 2,
        inner: [[u32(1), 'inner']],
      },
    },
    program: `${lookup('outer', 1)}
      if r0 == 0 goto pc+8
      *(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = r0
      call bpf_map_lookup_elem
      if r0 == 0 goto pc+2
      r0 = *(u64 *)(r0 +0)
      exit
      r0 = 1
      exit`,
    verdict: XDP_PASS,
  },
  {
    name: 'ARRAY_OF_MAPS: an empty slot gives NULL',
    source: 'kernel/bpf/map_in_map.c',
    maps: {
      inner: { ...ARRAY, maxEntries: 1 },
      outer: {
        type: 'BPF_MAP_TYPE_ARRAY_OF_MAPS',
        keySize: 4,
        valueSize: 4,
        maxEntries: 2,
        inner: [[u32(1), 'inner']],
      },
    },
    program: `${lookup('outer', 0)}\nr1 = r0\nr0 = 2\nif r1 == 0 goto pc+1\nr0 = 1\nexit`,
    verdict: XDP_PASS,
  },
  {
    name: 'QUEUE: push, peek, pop in order, then -ENOENT',
    source: 'kernel/bpf/queue_stack_maps.c',
    maps: { queue: { type: 'BPF_MAP_TYPE_QUEUE', keySize: 0, valueSize: 8, maxEntries: 4 } },
    program: `
      ${push('queue', 5)}
      ${push('queue', 6)}
      ${take('bpf_map_peek_elem', 'queue')}
      r6 = *(u64 *)(r10 -8)
      ${take('bpf_map_pop_elem', 'queue')}
      r7 = *(u64 *)(r10 -8)
      ${take('bpf_map_pop_elem', 'queue')}
      r8 = *(u64 *)(r10 -8)
      ${take('bpf_map_pop_elem', 'queue')}
      r1 = r0
      r0 = 1
      if r6 != 5 goto pc+4
      if r7 != 5 goto pc+3
      if r8 != 6 goto pc+2
      if r1 != -2 goto pc+1
      r0 = 2
      exit`,
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_for_each_map_elem visits every element of an ARRAY in order until it is told to stop',
    source: 'kernel/bpf/arraymap.c bpf_for_each_array_elem',
    maps: {
      counts: {
        ...ARRAY,
        entries: [
          [u32(0), u64(1n)],
          [u32(1), u64(2n)],
          [u32(2), u64(4n)],
          [u32(3), u64(8n)],
        ],
      },
    },
    program: forEach(
      `
        r5 = *(u32 *)(r2 +0)
        r1 = *(u64 *)(r3 +0)
        r2 = *(u64 *)(r4 +0)
        r2 += r1
        *(u64 *)(r4 +0) = r2
        *(u64 *)(r3 +0) = 0
        r0 = 0
        if r5 != 2 goto pc+1
        r0 = 1
        exit`,
      'r1 == 7',
      'r0 == 3',
    ),
    verdict: XDP_PASS,
    mapsAfter: {
      counts: [
        [u32(2), u64(0n)],
        [u32(3), u64(8n)],
      ],
    },
  },
  {
    name: 'bpf_for_each_map_elem on a HASH, deleting what it is given',
    source: 'kernel/bpf/hashtab.c bpf_for_each_hash_elem',
    maps: {
      counts: {
        ...HASH,
        entries: [
          [u32(10), u64(1n)],
          [u32(11), u64(2n)],
          [u32(12), u64(4n)],
        ],
      },
    },
    program: forEach(
      `
        r5 = *(u64 *)(r3 +0)
        r3 = *(u64 *)(r4 +0)
        r3 += r5
        *(u64 *)(r4 +0) = r3
        call bpf_map_delete_elem
        r0 = 0
        exit`,
      'r1 == 7',
      'r0 == 3',
    ),
    verdict: XDP_PASS,
    mapsAfter: {
      counts: [
        [u32(10), -2],
        [u32(11), -2],
        [u32(12), -2],
      ],
    },
  },
  {
    name: 'the value found is read again after an update in place',
    source: SOURCE,
    maps: { counts: { ...ARRAY, entries: [[u32(1), u64(5n)]] } },
    program: `${lookup('counts', 1)}
      if r0 == 0 goto out
      r6 = r0
      ${update('counts', 1, 1, 0)}
      r0 = *(u64 *)(r6 +0)
    out:
      exit`,
    verdict: XDP_DROP,
  },
  {
    name: 'the verdict is the lower half of R0',
    source: SOURCE,
    maps: { counts: { ...ARRAY, entries: [[u32(1), u64(0x1_0000_0000n)]] } },
    program: `${lookup('counts', 1)}
      if r0 == 0 goto pc+2
      r0 = *(u64 *)(r0 +0)
      exit
      r0 = 3
      exit`,
    // R0 is 2^32: the verdict is its lower half.
    verdict: XDP_ABORTED,
  },
];

function push(map: string, value: number): string {
  return `
    *(u64 *)(r10 -8) = ${value}
    r1 = map[${map}]
    r2 = r10
    r2 += -8
    r3 = 0
    call bpf_map_push_elem`;
}

function take(helper: string, map: string): string {
  return `
    r1 = map[${map}]
    r2 = r10
    r2 += -8
    call ${helper}`;
}

/** Sums in the u64 at R10 - 8, which the callback gets in R4; PASS when both conditions hold afterwards. */
function forEach(callback: string, sum: string, count: string): string {
  return `
      *(u64 *)(r10 -8) = 0
      r1 = map[counts]
      r2 = subprog[callback]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_for_each_map_elem
      r1 = *(u64 *)(r10 -8)
      if ${sum} goto pc+2
      r0 = 1
      exit
      if ${count} goto pc+2
      r0 = 0
      exit
      r0 = 2
      exit
    callback:
      ${callback}`;
}
