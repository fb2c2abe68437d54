import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { Value } from '@sinclair/typebox/value';
import { assemble } from '../../bpf/assembler.js';
import { Btf } from '../../bpf/btf/btf.js';
import { ElfFile } from '../../bpf/elf/elf-file.js';
import {
  E2BIG,
  EACCES,
  EBADF,
  EBUSY,
  EEXIST,
  EINVAL,
  EMSGSIZE,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
} from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { hex, normative } from '../../conformance/offload/normative.js';
import { u32Key, type OffloadRigOptions } from '../../conformance/offload/offload-rig.js';
import { ProgramHook } from './program-hook.js';
import type { BpfReply, BpfRequest, LookupBatch, UpdateBatch } from './protocol/control-protocol.js';
import { NO_USAGE } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(name: string, cpus = 1): TestingParty {
  return testingParty(name, { cpus, mebibytes: 32, verifier: new AbstractVerifier(DEFAULT_CONFIG) });
}

function guest(options: Partial<OffloadRigOptions> = {}): BpfOffloadGuest {
  return new BpfOffloadGuest({ host: party('host'), guest: party('guest'), ...options });
}

/** A device whose offloaded programs can be run. */
function running(): {
  g: BpfOffloadGuest;
  run: (text: string, maps: Record<string, number>) => Promise<string>;
} {
  const place = new ProgramHook('guest0.eth0', 2);
  const g = guest({ device: { place } });
  let link: number | undefined;
  const run = async (text: string, maps: Record<string, number>): Promise<string> => {
    const insns = encodeInsns(assemble(text, { maps: new Map(Object.entries(maps)) }));
    const program = await g.program(insns);
    if (link === undefined) link = await g.link(program);
    else await g.expect('done', { kind: 'update-link', link, program });
    await g.close(program);
    return place.runOn(new Uint8Array(64)).action;
  };
  return { g, run };
}

const T = {
  HASH: 1,
  ARRAY: 2,
  PROG_ARRAY: 3,
  PERCPU_ARRAY: 6,
  LRU_HASH: 9,
  LPM_TRIE: 11,
  ARRAY_OF_MAPS: 12,
  HASH_OF_MAPS: 13,
  QUEUE: 22,
  RINGBUF: 27,
};
const HASH = { mapType: T.HASH, maxEntries: 16 };
const value = (byte: number): Uint8Array => new Uint8Array(8).fill(byte);
const update = (handle: number, index: number, byte: number, flags = 0n): BpfRequest => ({
  kind: 'update-elem',
  handle,
  key: u32Key(index),
  value: value(byte),
  flags,
});
const lookup = (handle: number, index: number, valueSize = 8): BpfRequest => ({
  kind: 'lookup-elem',
  handle,
  key: u32Key(index),
  valueSize,
});
const remove = (handle: number, index: number, valueSize = 8): BpfRequest => ({
  kind: 'delete-elem',
  handle,
  key: u32Key(index),
  valueSize,
});
const put = (handle: number, index: number, object: number): BpfRequest => ({
  kind: 'update-elem',
  handle,
  key: u32Key(index),
  value: u32Key(object),
  flags: 0n,
});
const PASS = encodeInsns(assemble('r0 = 2\nexit'));

describe('MAP_CREATE', () => {
  normative('dev-map-type', 'makes the types of the capabilities, and no other', async () => {
    const g = guest();
    const { mapTypes } = g.device.capabilities;
    for (let type = 0; type < 34; type++) {
      if (((mapTypes >> BigInt(type)) & 1n) === 1n) continue;
      const request = {
        kind: 'create-map',
        mapType: type,
        keySize: 4,
        valueSize: 4,
        maxEntries: 1,
        mapFlags: 0,
      } as const;
      expect(await g.errno(request), `type ${type}`).toBe(EOPNOTSUPP);
    }
    // What leads out of the guest's own objects: DEVMAP 14, SOCKMAP 15, CPUMAP 16, XSKMAP 17, DEVMAP_HASH 25.
    for (const type of [14n, 15n, 16n, 17n, 25n]) expect((mapTypes >> type) & 1n).toBe(0n);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  normative('dev-map-held', 'takes no more elements that are objects than there are objects', async () => {
    const g = guest();
    const inner = await g.map();
    const of = (mapType: number, maxEntries: number): Promise<number | undefined> =>
      g.errno({
        kind: 'create-map',
        mapType,
        keySize: 4,
        valueSize: 4,
        maxEntries,
        mapFlags: 0,
        ...(mapType === T.PROG_ARRAY ? {} : { inner }),
      });
    for (const type of [T.PROG_ARRAY, T.ARRAY_OF_MAPS, T.HASH_OF_MAPS]) {
      expect(await of(type, 4097), String(type)).toBe(E2BIG);
      const before = g.accounts.usageOf('guest0').mapMemory;
      expect(await of(type, 4096), String(type)).toBeUndefined();
      // What holds the objects is charged, too, and not only the map's own memory.
      expect(g.accounts.usageOf('guest0').mapMemory - before, String(type)).toBeGreaterThan(4096 * 256);
    }
  });

  normative('dev-map-inner', 'asks for an inner map where the type holds maps, and only there', async () => {
    const g = guest();
    const inner = await g.map();
    const of = (mapType: number, handle?: number) =>
      g.errno({
        kind: 'create-map',
        mapType,
        keySize: 4,
        valueSize: 4,
        maxEntries: 2,
        mapFlags: 0,
        ...(handle === undefined ? {} : { inner: handle }),
      });
    expect(await of(T.ARRAY_OF_MAPS)).toBe(EBADF);
    expect(await of(T.HASH_OF_MAPS, 4095)).toBe(EBADF);
    expect(await of(T.HASH_OF_MAPS, await g.program(PASS))).toBe(EBADF);
    expect(await of(T.HASH, inner)).toBe(EINVAL);
    // Kinds in kinds would let maps hold one another in a circle.
    const outer = await g.map({ mapType: T.ARRAY_OF_MAPS, valueSize: 4, inner });
    expect(await of(T.HASH_OF_MAPS, outer)).toBe(EINVAL);
    expect(await of(T.ARRAY_OF_MAPS, await g.map({ mapType: T.PROG_ARRAY, valueSize: 4 }))).toBe(EINVAL);
    expect(await of(T.HASH_OF_MAPS, inner)).toBeUndefined();
  });

  normative('dev-map-zero-seed', 'gives no map whose collisions a guest can choose', async () => {
    const g = guest();
    expect(
      await g.errno({
        kind: 'create-map',
        mapType: T.HASH,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        mapFlags: 0x40,
      }),
    ).toBe(EOPNOTSUPP);
  });

  normative('dev-map-percpu-limit', 'refuses per-CPU values that no command could carry', async () => {
    const g = guest({ host: party('host', 4) });
    const of = (valueSize: number) =>
      g.errno({
        kind: 'create-map',
        mapType: T.PERCPU_ARRAY,
        keySize: 4,
        valueSize,
        maxEntries: 1,
        mapFlags: 0,
      });
    expect(await of(16_384)).toBeUndefined();
    expect(await of(16_392)).toBe(E2BIG);
    expect(g.accounts.usageOf('guest0').maps).toBe(1);
  });

  normative('dev-map-refused', 'leaves nothing behind when it fails', async () => {
    const g = guest();
    const inner = await g.map();
    const usage = g.accounts.usageOf('guest0');
    const bad: readonly Partial<Extract<BpfRequest, { kind: 'create-map' }>>[] = [
      { mapType: T.ARRAY, keySize: 8 },
      { mapType: T.HASH, maxEntries: 0 },
      { mapType: T.HASH, maxEntries: 0xffff_ffff },
      { mapType: T.LPM_TRIE, keySize: 4 },
      { mapType: T.RINGBUF, keySize: 0, valueSize: 0, maxEntries: 100 },
      { mapType: T.ARRAY_OF_MAPS, valueSize: 8, inner },
      { mapFlags: 0xffff_0000 },
    ];
    for (const attributes of bad) {
      const reply = await g.send({
        kind: 'create-map',
        mapType: T.ARRAY,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        mapFlags: 0,
        ...attributes,
      });
      expect(reply.kind, JSON.stringify(attributes)).toBe('error');
      expect(g.accounts.usageOf('guest0')).toEqual(usage);
    }
    expect(g.device.objectCount).toBe(1);
  });
});

describe('an element', () => {
  normative('dev-map-sizes', 'is asked for with the sizes that the map has, or not at all', async () => {
    const g = guest();
    const map = await g.map();
    const key = new Uint8Array(5);
    const wrong: readonly BpfRequest[] = [
      { kind: 'lookup-elem', handle: map, key, valueSize: 8 },
      { kind: 'lookup-elem', handle: map, key: u32Key(0), valueSize: 4 },
      { kind: 'lookup-elem', handle: map, key: u32Key(0), valueSize: 0 },
      { kind: 'update-elem', handle: map, key, value: value(1), flags: 0n },
      { kind: 'update-elem', handle: map, key: u32Key(0), value: new Uint8Array(9), flags: 0n },
      { kind: 'delete-elem', handle: map, key, valueSize: 8 },
      { kind: 'delete-elem', handle: map, key: u32Key(0), valueSize: 7 },
      { kind: 'get-first', handle: map, keySize: 5, valueSize: 8 },
      { kind: 'get-next', handle: map, key, valueSize: 0 },
      { kind: 'get-next', handle: map, key: u32Key(0), valueSize: 9 },
      {
        kind: 'lookup-batch',
        handle: map,
        keySize: 4,
        valueSize: 9,
        count: 1,
        cursor: undefined,
        remove: false,
      },
      {
        kind: 'lookup-batch',
        handle: map,
        keySize: 3,
        valueSize: 8,
        count: 1,
        cursor: undefined,
        remove: false,
      },
      {
        kind: 'update-batch',
        handle: map,
        keySize: 4,
        valueSize: 4,
        count: 1,
        keys: u32Key(0),
        values: new Uint8Array(4),
        flags: 0n,
      },
      { kind: 'delete-batch', handle: map, keySize: 2, count: 2, keys: u32Key(0) },
    ];
    for (const request of wrong) expect(await g.errno(request), request.kind).toBe(EINVAL);
  });

  normative(
    'dev-map-value-size',
    'is deleted, and the next key found, without the size of a value',
    async () => {
      const g = guest();
      const map = await g.map(HASH);
      await g.expect('done', update(map, 7, 1));
      expect(
        await g.expect('key', { kind: 'get-first', handle: map, keySize: 4, valueSize: 0 }),
      ).toMatchObject({ key: u32Key(7) });
      await g.expect('done', remove(map, 7, 0));
      expect(await g.errno({ kind: 'get-first', handle: map, keySize: 4, valueSize: 8 })).toBe(ENOENT);
    },
  );

  normative(
    ['dev-map-elem', 'dev-map-update-flags'],
    'is looked up, updated as the flags say, and deleted',
    async () => {
      const g = guest();
      const map = await g.map(HASH);
      expect(await g.errno(lookup(map, 1))).toBe(ENOENT);
      expect(await g.errno(update(map, 1, 1, 2n))).toBe(ENOENT);
      expect(await g.errno(update(map, 1, 1, 1n))).toBeUndefined();
      expect(await g.errno(update(map, 1, 2, 1n))).toBe(EEXIST);
      expect(await g.errno(update(map, 1, 3, 2n))).toBeUndefined();
      expect(await g.expect('value', lookup(map, 1))).toMatchObject({ value: value(3) });
      expect(await g.errno(remove(map, 1))).toBeUndefined();
      expect(await g.errno(remove(map, 1))).toBe(ENOENT);
      const small = await g.map({ mapType: T.HASH, maxEntries: 1 });
      await g.expect('done', update(small, 1, 1));
      expect(await g.errno(update(small, 2, 1))).toBe(E2BIG);
      expect(
        await g.expect('value', {
          kind: 'lookup-and-delete-elem',
          handle: small,
          key: u32Key(1),
          valueSize: 8,
        }),
      ).toMatchObject({ value: value(1) });
      expect(await g.errno(lookup(small, 1))).toBe(ENOENT);
    },
  );

  normative('dev-map-next-key', 'is found after another, and ENOENT after the last', async () => {
    const g = guest();
    const map = await g.map(HASH);
    for (const index of [1, 2, 3]) await g.expect('done', update(map, index, index));
    const seen = new Set<number>();
    let request: BpfRequest = { kind: 'get-first', handle: map, keySize: 4, valueSize: 8 };
    let reply: BpfReply;
    while ((reply = await g.send(request)).kind === 'key') {
      seen.add(reply.key[0]!);
      request = { kind: 'get-next', handle: map, key: reply.key, valueSize: 8 };
    }
    expect(reply).toMatchObject({ kind: 'error', errno: ENOENT });
    expect([...seen].sort()).toEqual([1, 2, 3]);
  });

  normative(
    'dev-map-percpu',
    'of a per-CPU map is the values of all CPUs, each rounded up to 8 bytes',
    async () => {
      const g = guest({ host: party('host', 3) });
      const map = await g.map({ mapType: T.PERCPU_ARRAY, valueSize: 4 });
      expect((await g.info('map', map)).valueSize).toBe(24);
      const bytes = hex('01000000 00000000 | 02000000 00000000 | 03000000 00000000');
      await g.expect('done', { kind: 'update-elem', handle: map, key: u32Key(0), value: bytes, flags: 0n });
      expect(await g.expect('value', lookup(map, 0, 24))).toMatchObject({ value: bytes });
      expect(await g.errno(lookup(map, 0, 4))).toBe(EINVAL);
      const batch = await g.expect('elements', {
        kind: 'lookup-batch',
        handle: map,
        keySize: 4,
        valueSize: 24,
        count: 8,
        cursor: undefined,
        remove: false,
      });
      expect(batch.count).toBe(4);
      expect(batch.values.subarray(0, 24)).toEqual(bytes);
    },
  );

  normative('dev-map-queue', 'of a queue has no key', async () => {
    const g = guest();
    const queue = await g.map({ mapType: T.QUEUE, keySize: 0 });
    for (const byte of [1, 2]) {
      await g.expect('done', {
        kind: 'update-elem',
        handle: queue,
        key: new Uint8Array(),
        value: value(byte),
        flags: 0n,
      });
    }
    const pop: BpfRequest = {
      kind: 'lookup-and-delete-elem',
      handle: queue,
      key: new Uint8Array(),
      valueSize: 8,
    };
    expect(await g.expect('value', pop)).toMatchObject({ value: value(1) });
    expect(await g.expect('value', pop)).toMatchObject({ value: value(2) });
    expect(await g.errno(pop)).toBe(ENOENT);
  });
});

describe('a map of maps or programs', () => {
  normative(['dev-object-elem', 'dev-object-elem-any'], 'takes handles and gives ids', async () => {
    const g = guest();
    const other = await g.map();
    const inner = await g.map();
    const outer = await g.map({ mapType: T.HASH_OF_MAPS, valueSize: 4, maxEntries: 2, inner });
    await g.expect('done', put(outer, 5, inner));
    expect(await g.expect('value', lookup(outer, 5, 4))).toMatchObject({ value: u32Key(2) });
    await g.expect('done', put(outer, 5, other));
    expect(await g.expect('value', lookup(outer, 5, 4))).toMatchObject({ value: u32Key(1) });
    expect(await g.errno(lookup(outer, 6, 4))).toBe(ENOENT);
    expect(await g.errno(put(outer, 6, 4095))).toBe(EBADF);
    expect(await g.errno(put(outer, 6, await g.program(PASS)))).toBe(EBADF);
    expect(await g.errno(put(outer, 6, await g.map({ valueSize: 16 })))).toBe(EINVAL);
    for (const flags of [1n, 2n])
      expect(
        await g.errno({ kind: 'update-elem', handle: outer, key: u32Key(5), value: u32Key(inner), flags }),
      ).toBe(EINVAL);
    const jumps = await g.map({ mapType: T.PROG_ARRAY, valueSize: 4 });
    expect(await g.errno(put(jumps, 0, inner))).toBe(EBADF);
    await g.expect('done', put(jumps, 0, await g.program(PASS)));
    expect(await g.expect('value', lookup(jumps, 0, 4))).toMatchObject({ value: u32Key(2) });
    expect(await g.errno(put(jumps, 4, await g.program(PASS)))).toBe(E2BIG);
    expect(
      await g.errno({
        kind: 'lookup-batch',
        handle: jumps,
        keySize: 4,
        valueSize: 4,
        count: 1,
        cursor: undefined,
        remove: false,
      }),
    ).toBe(EOPNOTSUPP);
  });

  normative('dev-object-elem-keeps', 'keeps what it holds, as long as it holds it', async () => {
    const g = guest();
    const inner = await g.map();
    const outer = await g.map({ mapType: T.ARRAY_OF_MAPS, valueSize: 4, maxEntries: 2, inner });
    const held = await g.map();
    await g.expect('done', put(outer, 0, held));
    await g.expect('done', put(outer, 1, held));
    await g.close(held);
    expect(g.accounts.usageOf('guest0').maps).toBe(3);
    await g.expect('done', remove(outer, 0, 4));
    expect(g.accounts.usageOf('guest0').maps).toBe(3);
    await g.expect('done', put(outer, 1, inner));
    expect(g.accounts.usageOf('guest0').maps).toBe(2);
    await g.close(outer);
    await g.close(inner);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  normative('dev-prog-array-clear', 'of programs lets go of them when its last name goes', async () => {
    const g = guest();
    const jumps = await g.map({ mapType: T.PROG_ARRAY, valueSize: 4 });
    const text = 'r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit';
    const caller = await g.program(encodeInsns(assemble(text, { maps: new Map([['j', jumps]]) })));
    await g.expect('done', put(jumps, 0, caller));
    await g.close(caller);
    expect(g.device.objectCount).toBe(2);
    await g.expect('done', { kind: 'pin', handle: jumps, name: 'j' });
    await g.close(jumps);
    expect(g.device.objectCount).toBe(2);
    await g.expect('done', { kind: 'unpin', name: 'j' });
    // Neither keeps the other any more.
    expect(g.device.objectCount).toBe(0);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  normative('dev-map-in-map', 'is reached by programs, and shows what was put into it', async () => {
    const { g, run } = running();
    const inner = await g.map({ maxEntries: 1 });
    const outer = await g.map({ mapType: T.ARRAY_OF_MAPS, valueSize: 4, maxEntries: 1, inner });
    const text = `
      *(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = map[outer]
      call bpf_map_lookup_elem
      if r0 == 0 goto none
      r1 = r0
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto none
      r0 = *(u64 *)(r0 +0)
      r0 &= 3
      exit
    none:
      r0 = 1
      exit`;
    expect(await run(text, { outer })).toBe('XDP_DROP');
    await g.expect('done', put(outer, 0, inner));
    await g.expect('done', {
      kind: 'update-elem',
      handle: inner,
      key: u32Key(0),
      value: hex('03 00 00 00 00 00 00 00'),
      flags: 0n,
    });
    await g.close(inner);
    expect(await run(text, { outer })).toBe('XDP_TX');
  });
});

describe('a batch', () => {
  const batch = (handle: number, keys: readonly number[], flags = 0n): UpdateBatch => ({
    kind: 'update-batch',
    handle,
    keySize: 4,
    valueSize: 8,
    count: keys.length,
    keys: Uint8Array.from(keys.flatMap((key) => [...u32Key(key)])),
    values: Uint8Array.from(keys.flatMap((key) => [...value(key)])),
    flags,
  });
  const all = (handle: number, more: Partial<LookupBatch> = {}): LookupBatch => ({
    kind: 'lookup-batch',
    handle,
    keySize: 4,
    valueSize: 8,
    count: 64,
    cursor: undefined,
    remove: false,
    ...more,
  });

  normative(
    ['dev-batch-lookup', 'dev-batch-remove'],
    'goes on from its cursor, and takes away what it returns when it shall',
    async () => {
      for (const mapType of [T.HASH, T.LRU_HASH, T.ARRAY]) {
        const g = guest();
        const map = await g.map({ mapType, maxEntries: 100 });
        const keys = Array.from({ length: 100 }, (_, index) => index);
        expect(await g.expect('count', batch(map, keys))).toMatchObject({ count: 100 });
        const seen: number[] = [];
        let cursor: Uint8Array | undefined;
        do {
          const part = await g.expect('elements', all(map, { count: 32, cursor }));
          expect(part.count).toBeLessThanOrEqual(32);
          for (let index = 0; index < part.count; index++) {
            seen.push(part.keys[4 * index]!);
            expect(part.values.subarray(8 * index, 8 * index + 8)).toEqual(value(part.keys[4 * index]!));
          }
          cursor = part.next;
        } while (cursor !== undefined);
        expect(seen.sort((a, b) => a - b)).toEqual(keys);
        if (mapType === T.ARRAY) {
          // An array's elements are always there.
          expect(await g.errno(all(map, { remove: true }))).toBe(EINVAL);
          continue;
        }
        let removed = 0;
        for (let rounds = 0; rounds < 100 && removed < 100; rounds++) {
          removed += (await g.expect('elements', all(map, { count: 64, remove: true }))).count;
        }
        expect(removed).toBe(100);
        expect(await g.errno({ kind: 'get-first', handle: map, keySize: 4, valueSize: 0 })).toBe(ENOENT);
      }
    },
  );

  normative(
    'dev-batch-cursor',
    'takes no cursor that is none of the map’s for a fault of its own',
    async () => {
      const g = guest();
      for (const mapType of [T.HASH, T.LRU_HASH, T.ARRAY]) {
        const map = await g.map({ mapType, maxEntries: 8 });
        for (const cursor of [
          Uint8Array.of(1),
          new Uint8Array(4).fill(0xff),
          new Uint8Array(8).fill(0xff),
          new Uint8Array(512).fill(0xff),
        ]) {
          const reply = await g.send(all(map, { cursor }));
          expect(
            reply.kind === 'elements' || (reply.kind === 'error' && [ENOENT, EINVAL].includes(reply.errno!)),
          ).toBe(true);
        }
      }
      expect(g.device.statistics.refusals.internal).toBe(0);
    },
  );

  normative(
    ['dev-batch-fails', 'dev-batch-error-count'],
    'ends at the first element that fails, and tells how many were done',
    async () => {
      const g = guest();
      const map = await g.map(HASH);
      await g.expect('done', update(map, 3, 9));
      expect(await g.send(batch(map, [1, 2, 3, 4], 1n))).toMatchObject({
        kind: 'error',
        errno: EEXIST,
        count: 2,
      });
      expect(await g.errno(lookup(map, 2))).toBeUndefined();
      expect(await g.errno(lookup(map, 4))).toBe(ENOENT);
      const deletion = {
        kind: 'delete-batch',
        handle: map,
        keySize: 4,
        count: 3,
        keys: Uint8Array.from([1, 7, 2].flatMap((key) => [...u32Key(key)])),
      } as const;
      expect(await g.send(deletion)).toMatchObject({ kind: 'error', errno: ENOENT, count: 1 });
      expect(await g.errno(lookup(map, 1))).toBe(ENOENT);
      expect(await g.errno(lookup(map, 2))).toBeUndefined();
    },
  );

  normative(
    ['dev-batch-fewer', 'dev-batch-trie'],
    'of a trie, which may be as deep as its keys are long, has fewer elements',
    async () => {
      const g = guest();
      // 32 bits of prefix: 256 elements.
      const trie = await g.map({ mapType: T.LPM_TRIE, keySize: 8, maxEntries: 512, mapFlags: 1 });
      const keyOf = (index: number): number[] => [32, 0, 0, 0, 10, 0, index >> 8, index & 0xff];
      const keys = (from: number, count: number): Uint8Array =>
        Uint8Array.from(Array.from({ length: count }, (_, index) => keyOf(from + index)).flat());
      const some = (from: number, count: number) =>
        ({
          kind: 'update-batch',
          handle: trie,
          keySize: 8,
          valueSize: 8,
          count,
          keys: keys(from, count),
          values: new Uint8Array(8 * count),
          flags: 0n,
        }) as const;
      expect(await g.send(some(0, 257))).toMatchObject({ kind: 'error', errno: E2BIG, count: 0 });
      for (const from of [0, 256]) await g.expect('count', some(from, 256));
      const seen = new Set<string>();
      let cursor: Uint8Array | undefined;
      do {
        const part = await g.expect('elements', all(trie, { keySize: 8, count: 4096, cursor }));
        expect(part.count).toBeLessThanOrEqual(256);
        for (let index = 0; index < part.count; index++)
          seen.add(part.keys.slice(8 * index, 8 * index + 8).join('.'));
        cursor = part.next;
      } while (cursor !== undefined);
      expect(seen.size).toBe(512);
      const gone = {
        kind: 'delete-batch',
        handle: trie,
        keySize: 8,
        count: 257,
        keys: keys(0, 257),
      } as const;
      expect(await g.send(gone)).toMatchObject({ kind: 'error', errno: E2BIG, count: 0 });
      await g.expect('count', { ...gone, count: 256, keys: keys(0, 256) });
    },
  );

  normative('dev-batch-held', 'of elements that are objects has fewer of them', async () => {
    const g = guest();
    const inner = await g.map();
    for (const mapType of [T.HASH_OF_MAPS, T.ARRAY_OF_MAPS]) {
      const outer = await g.map({ mapType, valueSize: 4, maxEntries: 1024, inner });
      const keys = (count: number): Uint8Array =>
        Uint8Array.from(Array.from({ length: count }, (_, index) => [index & 0xff, index >> 8, 0, 0]).flat());
      const some = (count: number): UpdateBatch => ({
        kind: 'update-batch',
        handle: outer,
        keySize: 4,
        valueSize: 4,
        count,
        keys: keys(count),
        values: Uint8Array.from(Array.from({ length: count }, () => [...u32Key(inner)]).flat()),
        flags: 0n,
      });
      const gone = (count: number) =>
        ({ kind: 'delete-batch', handle: outer, keySize: 4, count, keys: keys(count) }) as const;
      expect(await g.send(some(513))).toMatchObject({ kind: 'error', errno: E2BIG, count: 0 });
      expect(await g.expect('count', some(512))).toMatchObject({ count: 512 });
      expect(await g.send(gone(513))).toMatchObject({ kind: 'error', errno: E2BIG, count: 0 });
      expect(await g.expect('count', gone(512))).toMatchObject({ count: 512 });
    }
  });

  normative(
    'dev-freeze',
    'and every other change is refused once the map is frozen; what is read is not',
    async () => {
      const g = guest();
      const inner = await g.map();
      const hash = await g.map(HASH);
      await g.expect('done', update(hash, 1, 1));
      const outer = await g.map({ mapType: T.HASH_OF_MAPS, valueSize: 4, maxEntries: 2, inner });
      await g.expect('done', put(outer, 1, inner));
      for (const handle of [hash, outer]) await g.expect('done', { kind: 'freeze-map', handle });
      const usage = g.accounts.usageOf('guest0');
      const changes: readonly BpfRequest[] = [
        update(hash, 1, 2),
        update(hash, 2, 2),
        remove(hash, 1),
        { kind: 'lookup-and-delete-elem', handle: hash, key: u32Key(1), valueSize: 8 },
        all(hash, { remove: true }),
        put(outer, 1, inner),
        put(outer, 2, inner),
        remove(outer, 1, 4),
      ];
      for (const request of changes) expect(await g.errno(request), request.kind).toBe(EPERM);
      expect(await g.send(batch(hash, [5]))).toMatchObject({ kind: 'error', errno: EPERM, count: 0 });
      expect(g.accounts.usageOf('guest0')).toEqual(usage);
      expect(await g.expect('value', lookup(hash, 1))).toMatchObject({ value: value(1) });
      expect((await g.expect('elements', all(hash))).count).toBe(1);
      expect(await g.expect('value', lookup(outer, 1, 4))).toMatchObject({ value: u32Key(1) });
      await g.close(outer);
      await g.close(inner);
      expect(g.accounts.usageOf('guest0').maps).toBe(1);
    },
  );

  normative('dev-freeze-once', 'and freezing again is EBUSY', async () => {
    const g = guest();
    const map = await g.map();
    await g.expect('done', { kind: 'freeze-map', handle: map });
    expect(await g.errno({ kind: 'freeze-map', handle: map })).toBe(EBUSY);
  });

  normative('dev-freeze-programs', 'and a PROG_ARRAY is not frozen', async () => {
    const g = guest();
    const jumps = await g.map({ mapType: T.PROG_ARRAY, valueSize: 4 });
    expect(await g.errno({ kind: 'freeze-map', handle: jumps })).toBe(EOPNOTSUPP);
  });

  normative(
    'dev-freeze-constant',
    'and what is frozen and read-only for programs is a constant to the verifier',
    async () => {
      const { g, run } = running();
      // A value that decides whether the stack is overrun: accepted only if its value is known.
      const text = `
      r1 = map[m][0]+0
      r2 = *(u64 *)(r1 +0)
      r3 = r10
      r3 += -16
      r3 += r2
      *(u64 *)(r3 +0) = 1
      r0 = 3
      exit`;
      const BPF_F_RDONLY_PROG = 0x80;
      const settings = await g.map({ maxEntries: 1, mapFlags: BPF_F_RDONLY_PROG });
      await g.expect('done', {
        kind: 'update-elem',
        handle: settings,
        key: u32Key(0),
        value: hex('08 00 00 00 00 00 00 00'),
        flags: 0n,
      });
      await expect(run(text, { m: settings })).rejects.toThrow('errno 13');
      await g.expect('done', { kind: 'freeze-map', handle: settings });
      expect(await run(text, { m: settings })).toBe('XDP_TX');
    },
  );
});

describe('records', () => {
  const RING = { mapType: T.RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 };
  const output = (byte: number, length: number): string => `
      r1 = map[ring]
      r2 = ${length}
      r3 = 0
      call bpf_ringbuf_reserve
      if r0 == 0 goto full
      *(u8 *)(r0 +0) = ${byte}
      r1 = r0
      r2 = 0
      call bpf_ringbuf_submit
      r0 = 2
      exit
    full:
      r0 = 1
      exit`;
  const read = (handle: number, bytes: number): BpfRequest => ({ kind: 'read-records', handle, bytes });
  const first = (reply: BpfReply): number[] =>
    reply.kind === 'records' ? reply.records.map(({ data }) => data[0]!) : [];

  normative(
    ['dev-records', 'dev-records-room'],
    'are returned once, oldest first, as many as fit',
    async () => {
      const { g, run } = running();
      const ring = await g.map(RING);
      for (const byte of [1, 2, 3]) expect(await run(output(byte, 8), { ring })).toBe('XDP_PASS');
      expect(await g.errno(read(ring, 12 + 7))).toBe(EMSGSIZE);
      expect(first(await g.send(read(ring, 2 * 20 + 19)))).toEqual([1, 2]);
      expect(await run(output(4, 8), { ring })).toBe('XDP_PASS');
      expect(first(await g.send(read(ring, 4096)))).toEqual([3, 4]);
      expect(await g.expect('records', read(ring, 4096))).toEqual({ kind: 'records', records: [] });
    },
  );

  normative(
    'dev-records-bounded',
    'that wait in the device are never more than the map can hold',
    async () => {
      const { g, run } = running();
      const ring = await g.map(RING);
      // What there is no room for stays in the map: a full map stays full, and programs see that.
      for (let count = 0; count < 400; count++) {
        const action = await run(output(1, 1000), { ring });
        if (count > 12) expect(action).toBe('XDP_DROP');
        expect(await g.errno(read(ring, 12))).toBe(EMSGSIZE);
      }
      let waiting = 0;
      for (let got = 1; got > 0; waiting += got) got = first(await g.send(read(ring, 4096))).length;
      expect(waiting).toBe(4);
    },
  );

  normative('dev-records-lost', 'that no answer can hold are lost, and counted with the next', async () => {
    const { g, run } = running();
    const ring = await g.map({ ...RING, maxEntries: 1 << 20 });
    expect(await run(output(1, 300_000), { ring })).toBe('XDP_PASS');
    expect(await run(output(2, 8), { ring })).toBe('XDP_PASS');
    expect(await g.errno(read(ring, 1000))).toBe(EMSGSIZE);
    const { records } = await g.expect('records', read(ring, 1000));
    expect(records).toMatchObject([{ lost: 1 }]);
    expect(records[0]!.data[0]).toBe(2);
  });

  normative('dev-records-type', 'are of maps that have them', async () => {
    const g = guest();
    expect(await g.errno(read(await g.map(), 100))).toBe(EOPNOTSUPP);
  });
});

describe('BTF', () => {
  const file = readFileSync(new URL('../../../testbeds/programs/xdp2.o', import.meta.url));
  const elf = new ElfFile(file);
  const section = Uint8Array.from(elf.bytesOf(elf.section('.BTF')!));
  const types = new Btf(section);
  const idOf = (size: number): number => {
    for (let id = 1; id < types.typeCount; id++) {
      if (types.type(id).kind === 'INT' && types.sizeOf(id) === size) return id;
    }
    throw new RangeError(`no integer of ${size} bytes`);
  };
  const [int4, int8] = [idOf(4), idOf(8)];

  normative('dev-btf-read', 'comes back as it was sent, as far as was asked', async () => {
    const g = guest();
    const btf = await g.handle({ kind: 'load-btf', bytes: section });
    const read = async (offset: number, length: number) =>
      (await g.expect('bytes', { kind: 'read-btf', handle: btf, offset, length })).bytes;
    expect(await read(0, 65_536)).toEqual(section);
    expect(await read(2, 3)).toEqual(section.subarray(2, 5));
    expect(await read(section.length - 1, 10)).toEqual(section.subarray(-1));
    expect(await read(section.length, 10)).toHaveLength(0);
    expect(await read(0xffff_ffff, 10)).toHaveLength(0);
    expect(g.accounts.usageOf('guest0').btfMemory).toBe(section.length);
    await g.close(btf);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  normative('dev-btf-malformed', 'that is not well-formed is refused, and not kept', async () => {
    const g = guest();
    const bad = [new Uint8Array(), section.subarray(0, 23), section.subarray(0, section.length - 1)];
    for (const at of [0, 2, 4, 12, 16, 20])
      bad.push(Uint8Array.from(section, (byte, index) => (index === at ? byte ^ 0xff : byte)));
    for (const bytes of bad)
      expect(await g.errno({ kind: 'load-btf', bytes }), `${bytes.length}`).toBe(EINVAL);
    expect(g.device.objectCount).toBe(0);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  normative(
    ['dev-map-btf', 'dev-map-btf-keeps'],
    'of a map says how long its keys and values are, and stays as long as it',
    async () => {
      const g = guest();
      const btf = await g.handle({ kind: 'load-btf', bytes: section });
      const of = (keyType: number, valueType: number, handle = btf) =>
        g.send({
          kind: 'create-map',
          mapType: T.HASH,
          keySize: 4,
          valueSize: 8,
          maxEntries: 4,
          mapFlags: 0,
          btf: { handle, keyType, valueType },
        });
      for (const reply of [
        await of(int8, int8),
        await of(int4, int4),
        await of(int4, 0),
        await of(int4, 99_999),
      ])
        expect(reply).toMatchObject({ kind: 'error', errno: EINVAL });
      expect(await of(int4, int8, 4095)).toMatchObject({ kind: 'error', errno: EBADF });
      const created = await of(int4, int8);
      if (created.kind !== 'handle') throw new RangeError('refused');
      const info = await g.info('map', created.handle);
      expect(info).toMatchObject({ btf: 1, keyType: int4, valueType: int8 });
      await g.close(btf);
      const again = await g.handle({ kind: 'open-by-id', object: 'btf', id: info.btf });
      expect((await g.info('btf', again)).size).toBe(section.length);
      await g.close(again);
      await g.close(created.handle);
      expect(g.device.objectCount).toBe(0);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
    },
  );

  normative(
    'dev-btf-account',
    'is charged for as long as it is kept, what maps keep of it included',
    async () => {
      const config = Value.Default(QuotaConfig, {
        'per-guest': { 'btf-memory': section.length + 60 },
      }) as QuotaConfig;
      const g = guest({ policies: [new Quota(config)] });
      const btf = await g.handle({ kind: 'load-btf', bytes: section });
      expect(await g.errno({ kind: 'load-btf', bytes: section })).toBe(EACCES);
      const of = {
        kind: 'create-map',
        mapType: T.HASH,
        keySize: 4,
        valueSize: 8,
        maxEntries: 4,
        mapFlags: 0,
        btf: { handle: btf, keyType: int4, valueType: int8 },
      } as const;
      const before = g.accounts.usageOf('guest0');
      expect(await g.errno(of)).toBe(EACCES);
      expect(g.accounts.usageOf('guest0')).toEqual(before);
    },
  );

  describe('of the worst kind', () => {
    /** What the device does for a request: words that it reads, and bytes that it makes into text. */
    async function workOf(bytes: Uint8Array) {
      const g = guest();
      const request: BpfRequest = { kind: 'load-btf', bytes };
      const sent = g.protocol.encodeRequest(request);
      const decode = vi.spyOn(TextDecoder.prototype, 'decode');
      const read = vi.spyOn(DataView.prototype, 'getUint32');
      let written: Uint8Array;
      let text: number;
      let words: number;
      try {
        written = await g.sendBytes(sent, g.protocol.replyBytes(request));
        text = decode.mock.calls.reduce((sum, [input]) => sum + (input?.byteLength ?? 0), 0);
        words = read.mock.calls.length;
      } finally {
        decode.mockRestore();
        read.mockRestore();
      }
      const answer = g.protocol.decodeReply(request, sent, written);
      return { reply: answer.ok ? answer.reply : answer, text, words };
    }

    it('is given up before its names take more than eight times their table and 1 MiB to read', async () => {
      // Runs of 1022 bytes that are no ASCII, and names that begin at the beginning of each: 2.6 MB, if all were read.
      const strings = new Uint8Array(32_768).fill(0xff);
      for (let at = 0; at < strings.length; at += 1023) strings[at] = 0;
      strings[strings.length - 1] = 0;
      const nameOf = (index: number): number => 1 + 1023 * (index % 32) + Math.floor(index / 32);
      const members = Array.from({ length: 2700 }, (_, index) => [nameOf(index), 0, 0]).flat();
      const bytes = sectionOf([0, (4 << 24) | 2700, 8, ...members], strings);
      expect(bytes.length).toBeLessThanOrEqual(65_536);
      const { reply, text, words } = await workOf(bytes);
      expect(reply).toMatchObject({ kind: 'error', errno: EINVAL });
      expect(text).toBeGreaterThan(2 ** 20);
      expect(text).toBeLessThanOrEqual(8 * strings.length + 2 ** 20);
      expect(words).toBeLessThan((2 * bytes.length) / 4);
    });

    it('has each word read once or twice, and not its variables among one another', async () => {
      const variables = Array.from({ length: 5400 }, (_, index) => [
        0,
        Math.imul(index, 2654435761),
        4,
      ]).flat();
      const bytes = sectionOf([1, (15 << 24) | 5400, 8, ...variables], Uint8Array.of(0, 65, 0));
      expect(bytes.length).toBeLessThanOrEqual(65_536);
      const { reply, words } = await workOf(bytes);
      expect(reply).toMatchObject({ kind: 'handle' });
      expect(words).toBeGreaterThan(5400);
      expect(words).toBeLessThan((2 * bytes.length) / 4);
    });
  });
});

/** A `.BTF` section of these words of types and these strings. */
function sectionOf(words: readonly number[], strings: Uint8Array): Uint8Array {
  const types = new Uint8Array(Uint32Array.from(words, (word) => word >>> 0).buffer);
  const bytes = new Uint8Array(24 + types.length + strings.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x9f, 0xeb, 1]);
  view.setUint32(4, 24, true);
  view.setUint32(12, types.length, true);
  view.setUint32(16, types.length, true);
  view.setUint32(20, strings.length, true);
  bytes.set(types, 24);
  bytes.set(strings, 24 + types.length);
  return bytes;
}
