import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { EINVAL, ENOENT, EPERM } from '../bpf/errno.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import * as bpf from './bpf-syscall.js';
import { CAP_PERFMON, CAP_SYS_ADMIN, withoutCapabilities } from './capabilities.js';
import { createKernelMap, kernelValue, kernelValueSize } from './kernel-map.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const ARRAY = {
  name: 'array',
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 2,
  flags: 0,
};
const HASH = { ...ARRAY, name: 'hash', type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH };

const fds: number[] = [];
const keep = (fd: number): number => {
  expect(fd).toBeGreaterThanOrEqual(0);
  fds.push(fd);
  return fd;
};
const load = (text: string, logLevel: number, maxLog?: number): bpf.ProgramLoadResult =>
  bpf.progLoad({
    name: 'a program of a long name',
    type: BPF_PROG_TYPE_XDP,
    license: 'GPL',
    expectedAttachType: XDP_ATTACH_TYPE.BPF_XDP,
    insns: assemble(text),
    logLevel,
    maxLog,
  });

describe.skipIf(skipped !== '')(`bpf(2)${skipped}`, () => {
  let before = 0;
  beforeEach(() => {
    before = readdirSync('/proc/self/fd').length;
  });
  afterEach(() => {
    for (const fd of fds.splice(0)) bpf.closeFd(fd);
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  it('creates a map, reads and changes its elements', () => {
    const fd = keep(createKernelMap(HASH));
    const key = bytes(1, 2, 3, 4);
    const value = bytes(8, 7, 6, 5, 4, 3, 2, 1);
    expect(bpf.mapLookup(fd, key, 8)).toBe(-ENOENT);
    expect(bpf.mapUpdate(fd, key, value)).toBe(0);
    expect(bpf.mapLookup(fd, key, 8)).toEqual(value);
    expect(bpf.mapNextKey(fd, null, 4)).toEqual(key);
    expect(bpf.mapNextKey(fd, key, 4)).toBe(-ENOENT);
    expect(bpf.mapDelete(fd, key)).toBe(0);
    expect(bpf.mapDelete(fd, key)).toBe(-ENOENT);
    expect(bpf.mapInfo(fd)).toMatchObject({ type: 1, keySize: 4, valueSize: 8, maxEntries: 2, name: 'hash' });
  });

  it('works on elements in batches', () => {
    const fd = keep(createKernelMap({ ...HASH, maxEntries: 100 }));
    const target = { fd, keySize: 4, valueSize: 8 };
    const keys = Uint8Array.from({ length: 40 * 4 }, (_, index) => (index % 4 === 0 ? index / 4 : 0));
    const values = Uint8Array.from({ length: 40 * 8 }, (_, index) => (index % 8 === 0 ? index / 8 + 100 : 0));
    expect(bpf.mapUpdateBatch(fd, keys, values, 40)).toEqual({ status: 0, done: 40 });
    expect(bpf.mapLookup(fd, bytes(39, 0, 0, 0), 8)).toEqual(bytes(139, 0, 0, 0, 0, 0, 0, 0));
    // BPF_NOEXIST is no flag of a batch: nothing is done.
    expect(bpf.mapUpdateBatch(fd, keys, values, 40, 1n)).toEqual({ status: -EINVAL, done: 0 });

    const drain = (remove: boolean): number[][] => {
      const found: number[][] = [];
      let cursor: Uint8Array | null = null;
      do {
        const batch = bpf.mapLookupBatch(target, cursor, 16, remove);
        if (typeof batch === 'number') throw new Error(`batch: ${batch}`);
        for (let index = 0; index < batch.count; index++) {
          found.push([batch.keys[index * 4]!, batch.values[index * 8]!]);
        }
        ({ cursor } = batch);
      } while (cursor !== null);
      return found.sort(([a = 0], [b = 0]) => a - b);
    };
    const all = Array.from({ length: 40 }, (_, index) => [index, index + 100]);
    expect(drain(false)).toEqual(all);
    expect(bpf.mapDeleteBatch(fd, keys.subarray(0, 40), 10)).toEqual({ status: 0, done: 10 });
    // One that is gone stops a batch, and tells how far it came.
    expect(bpf.mapDeleteBatch(fd, Uint8Array.of(10, 0, 0, 0, 11, 0, 0, 0, 3, 0, 0, 0), 3)).toEqual({
      status: -ENOENT,
      done: 2,
    });
    expect(drain(true)).toEqual(all.slice(12));
    expect(drain(false)).toEqual([]);
    const array = keep(createKernelMap(ARRAY));
    expect(bpf.mapDeleteBatch(array, new Uint8Array(8), 2).status).toBeLessThan(0);
  });

  it('gives -errno for a map that the kernel does not take', () => {
    expect(createKernelMap({ ...ARRAY, keySize: 3 })).toBe(-EINVAL);
  });

  it('freezes a map for the system call', () => {
    const fd = keep(createKernelMap(ARRAY));
    expect(bpf.mapFreeze(fd)).toBe(0);
    expect(bpf.mapUpdate(fd, bytes(0, 0, 0, 0), new Uint8Array(8))).toBe(-EPERM);
  });

  it('creates maps of maps, perf event arrays and ring buffers as libbpf does', () => {
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS;
    keep(createKernelMap({ ...ARRAY, type, valueSize: 4, inner: ARRAY }));
    const perf = { ...ARRAY, type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY, valueSize: 4, maxEntries: 0 };
    expect(bpf.mapInfo(keep(createKernelMap(perf)))).toMatchObject({ maxEntries: bpf.possibleCpus() });
    const ring = { ...ARRAY, type: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0 };
    expect(bpf.mapInfo(keep(createKernelMap({ ...ring, maxEntries: 5000 })))).toMatchObject({
      maxEntries: 8192,
    });
  });

  it('spreads one value over all CPUs of a per-CPU map', () => {
    const map = { ...ARRAY, type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY, valueSize: 4 };
    const fd = keep(createKernelMap(map));
    const value = kernelValue(map, bytes(1, 2, 3, 4));
    expect(value).toHaveLength(8 * bpf.possibleCpus());
    expect(bpf.mapUpdate(fd, bytes(0, 0, 0, 0), value)).toBe(0);
    expect(bpf.mapLookup(fd, bytes(0, 0, 0, 0), kernelValueSize(map))).toEqual(value);
  });

  it('loads a program and tells of it', () => {
    const { fd, log } = load('r0 = 2\nexit', bpf.BPF_LOG_STATS);
    keep(fd);
    expect(log).toMatch(/^processed 2 insns/m);
    expect(bpf.progInfo(fd)).toMatchObject({ name: 'a_program_of_a_', verifiedInsns: 2 });
  });

  it('reads a log of any length, and the end of one that is too long', () => {
    const long = `r0 = 0\n${'r0 += 1\n'.repeat(40_000)}exit`;
    const whole = load(long, bpf.BPF_LOG_LEVEL2);
    keep(whole.fd);
    expect(whole.log.length).toBeGreaterThan(1_000_000);
    expect(whole.log).toMatch(/^(func#0 @0|0: R1=ctx)/);
    const end = load(long, bpf.BPF_LOG_LEVEL2, 65_536);
    keep(end.fd);
    expect(end).toMatchObject({ logTruncated: true });
    expect(end.log.length).toBeLessThan(65_536);
    expect(end.log).toMatch(/processed 40002 insns.*\n$/);
  });

  it('runs a program on a packet', () => {
    const { fd } = load('r0 = 3\nexit', 0);
    keep(fd);
    expect(bpf.progTestRun(fd, { data: new Uint8Array(64) })).toMatchObject({ retval: 3 });
    expect(bpf.progTestRun(fd, { data: new Uint8Array(13) })).toBe(-EINVAL);
  });

  it('puts capabilities aside, and takes them back', () => {
    const leak = (): bpf.ProgramLoadResult => load('r0 = r1\nexit', bpf.BPF_LOG_STATS);
    const refused = withoutCapabilities([CAP_PERFMON, CAP_SYS_ADMIN], leak);
    expect(refused.log).toContain('R0 leaks addr as return value');
    const { fd } = leak();
    keep(fd);
  });
});
