import { readdirSync } from 'node:fs';
import { Value } from '@sinclair/typebox/value';
import { afterEach, describe, expect, it } from 'vitest';
import { E2BIG, EINVAL, ENOMEM } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { mapBackendConformance } from '../../src/conformance/map-backend/map-backend-suite.js';
import { MAP_BACKEND } from '../../src/core/contract/map-backend.js';
import { PARTY_MEMORY } from '../../src/core/contract/party.js';
import { Scope } from '../../src/core/plugin/scope.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { possibleCpus } from '../../src/linux/bpf-syscall.js';
import { NETWORK_NAMESPACE } from '../../src/linux/network-namespace.js';
import plugin from './index.js';
import { KernelMapBackend, type KernelMapConfig } from './kernel-map-backend.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`conformance${skipped}`, () => {
  mapBackendConformance('kernel', () => {
    const backend = new KernelMapBackend({ memoryMiB: 1024, perfBufferPages: 16 });
    return { backend, cpus: possibleCpus(), dispose: () => backend.stop() };
  });
});

const ARRAY: MapAttributes = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 1024,
  maxEntries: 512,
  flags: 0,
};

describe.skipIf(skipped !== '')(`map backend kernel${skipped}`, () => {
  const backends: KernelMapBackend[] = [];
  afterEach(() => {
    for (const backend of backends.splice(0)) backend.stop();
  });
  const open = (memoryMiB: number): KernelMapBackend => {
    const backend = new KernelMapBackend({ memoryMiB, perfBufferPages: 16 });
    backends.push(backend);
    return backend;
  };
  const create = (backend: KernelMapBackend, attributes: MapAttributes) => {
    const map = backend.create(attributes, { name: 'm' });
    if (typeof map === 'number') throw new Error(`refused with ${map}`);
    return map;
  };

  it('closes every map when it is stopped', () => {
    const before = readdirSync('/proc/self/fd').length;
    const backend = open(64);
    const maps = [create(backend, ARRAY), create(backend, ARRAY), create(backend, ARRAY)];
    maps[1]!.close();
    backend.stop();
    backend.stop();
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
    expect(backend.memory().used).toBe(0);
  });

  it('takes no more memory than it may', () => {
    const backend = open(1);
    const cost = backend.memoryCost(ARRAY);
    const first = create(backend, ARRAY);
    expect(backend.memory()).toEqual({ total: 1 << 20, used: cost });
    expect(backend.create(ARRAY, { name: 'm' })).toBe(-ENOMEM);
    expect(backend.create({ ...ARRAY, maxEntries: 0xffff_ffff }, { name: 'm' })).toBe(-ENOMEM);
    first.close();
    create(backend, ARRAY);
  });

  it('counts an inner map that was closed for as long as an entry holds it', () => {
    const backend = open(1);
    const inner = create(backend, ARRAY);
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS;
    const outer = backend.create({ ...ARRAY, type, valueSize: 4 }, { name: 'o', innerTemplate: inner });
    if (typeof outer === 'number') throw new Error(`refused with ${outer}`);
    expect(outer.setInnerMap(new Uint8Array(4), inner)).toBe(0);
    inner.close();
    expect(backend.create(ARRAY, { name: 'm' })).toBe(-ENOMEM);
    expect(outer.delete(new Uint8Array(4))).toBe(0);
    create(backend, ARRAY);
  });

  it('says what the kernel says of attributes that are none, without taking the memory first', () => {
    const backend = open(1);
    const HASH = { ...ARRAY, type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH };
    const creation = (attributes: MapAttributes) => backend.create(attributes, { name: 'm' });
    expect(creation({ ...HASH, maxEntries: 0xffff_ffff })).toBe(-E2BIG);
    expect(creation({ ...HASH, keySize: 0, maxEntries: 1e6 })).toBe(-EINVAL);
    expect(creation({ ...HASH, maxEntries: 1e6 })).toBe(-ENOMEM);
    const RING = { ...ARRAY, type: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0 };
    expect(creation({ ...RING, maxEntries: 3 << 20 })).toBe(-EINVAL);
    expect(creation({ ...RING, maxEntries: 4 << 20 })).toBe(-ENOMEM);
    // Types that no XDP program uses are not served, whatever the kernel has.
    expect(creation({ ...ARRAY, type: 26 })).toBe(-EINVAL);
  });

  it('takes no more than its party may have', () => {
    const config = Value.Default(plugin.configSchema, {}) as KernelMapConfig;
    for (const [memory, total] of [
      [1 << 20, 1 << 20],
      [2 ** 31, config.memoryMiB * 2 ** 20],
      [undefined, config.memoryMiB * 2 ** 20],
    ] as const) {
      const scope = new Scope('a party');
      if (memory !== undefined) scope.bindValue(PARTY_MEMORY, memory);
      const below = scope.child('a plugin');
      void plugin.register(below, config);
      const backend = below.resolve(MAP_BACKEND) as KernelMapBackend;
      backends.push(backend);
      expect(backend.memory().total).toBe(total);
    }
  });

  it('gives maps that name devices the namespace of its scope, if there is one', () => {
    const config = Value.Default(plugin.configSchema, {}) as KernelMapConfig;
    const entered: string[] = [];
    const namespace = {
      name: 'there',
      run<T>(work: () => T): T {
        entered.push('there');
        return work();
      },
    };
    for (const bound of [false, true]) {
      const scope = new Scope('a party');
      if (bound) scope.bindValue(NETWORK_NAMESPACE, namespace);
      const below = scope.child('a plugin');
      void plugin.register(below, config);
      const backend = below.resolve(MAP_BACKEND) as KernelMapBackend;
      backends.push(backend);
      const type = BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP;
      const devmap = create(backend, { ...ARRAY, type, valueSize: 4 });
      expect(devmap.update(new Uint8Array(4), Uint8Array.of(1, 0, 0, 0), 0n)).toBe(0);
      expect(create(backend, ARRAY).update(new Uint8Array(4), new Uint8Array(1024), 0n)).toBe(0);
      expect(entered).toEqual(bound ? ['there'] : []);
    }
  });
});
