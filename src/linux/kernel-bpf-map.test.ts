import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { E2BIG, EBADF, EINVAL, ENOMEM, ENOENT } from '../bpf/errno.js';
import { BPF_MAP_TYPE, type MapAttributes, type MapTypeName } from '../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE, type XdpAttachType } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import * as bpf from './bpf-syscall.js';
import { onCpu } from './cpu-affinity.js';
import { KernelBpfMap, isKernelMap, type KernelBpfMapOptions } from './kernel-bpf-map.js';
import { createKernelMap } from './kernel-map.js';
import { forgetProgram, registerProgram } from './program-registry.js';
import { probeNamespaces, testingNamespace } from './testing-namespace.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const namespaces = probeNamespaces();
const noNamespaces = namespaces.status === 'supported' ? '' : ` (skipped: ${namespaces.reason})`;

const u32 = (...words: number[]): Uint8Array => new Uint8Array(Uint32Array.from(words).buffer);

describe.skipIf(skipped !== '')(`a map of the kernel's as a BpfMap${skipped}`, () => {
  const maps: KernelBpfMap[] = [];
  const fds: number[] = [];
  let before = 0;
  beforeEach(() => {
    before = readdirSync('/proc/self/fd').length;
  });
  afterEach(() => {
    for (const map of maps.splice(0)) map.close();
    for (const fd of fds.splice(0)) bpf.closeFd(fd);
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  const create = (
    type: MapTypeName,
    changes: Partial<MapAttributes> = {},
    options: KernelBpfMapOptions = {},
  ): KernelBpfMap => {
    const attributes = {
      type: BPF_MAP_TYPE[type],
      keySize: 4,
      valueSize: 4,
      maxEntries: 4,
      flags: 0,
      ...changes,
    };
    const fd = createKernelMap({ ...attributes, name: 'm' });
    expect(fd).toBeGreaterThanOrEqual(0);
    const map = new KernelBpfMap('m', attributes, fd, options);
    maps.push(map);
    return map;
  };
  const load = (text: string, names?: ReadonlyMap<string, number>, attachType: XdpAttachType = 'BPF_XDP') => {
    const { fd, log } = bpf.progLoad({
      name: 'p',
      type: BPF_PROG_TYPE_XDP,
      license: 'GPL',
      expectedAttachType: XDP_ATTACH_TYPE[attachType],
      logLevel: bpf.BPF_LOG_STATS | bpf.BPF_LOG_LEVEL1,
      insns: assemble(text, { maps: names }),
    });
    if (fd < 0) throw new Error(log);
    fds.push(fd);
    return { fd, id: (bpf.progInfo(fd) as bpf.ProgramInfo).id };
  };

  it('is told of by the program that uses it', () => {
    const maps = ['a', 'b'].map((name) => [name, create('BPF_MAP_TYPE_ARRAY').fd] as const);
    const text = maps.map(([name]) => `r1 = map[${name}]`).join('\n');
    const { fd } = load(`${text}\nr0 = 2\nexit`, new Map(maps));
    const ids = maps.map(([, each]) => (bpf.mapInfo(each) as bpf.MapInfo).id);
    expect(bpf.programMaps(fd)).toEqual(ids);
    expect(bpf.programMaps(load('r0 = 2\nexit').fd)).toEqual([]);
  });

  it('does nothing more once it is closed, and closes once', () => {
    const map = create('BPF_MAP_TYPE_ARRAY');
    const { fd } = map;
    map.close();
    map.close();
    expect(map.fd).toBe(-1);
    // Whoever gets the number next must not be taken for the map.
    const other = create('BPF_MAP_TYPE_ARRAY');
    expect(other.fd).toBe(fd);
    expect(map.lookup(u32(0))).toBe(-EBADF);
    expect(map.update(u32(0), u32(1), 0n)).toBe(-EBADF);
    expect(map.nextKey(null)).toBe(-EBADF);
    expect(map.freeze()).toBe(-EBADF);
    expect(other.lookup(u32(0))).toEqual(u32(0));
  });

  it('takes values of any size', () => {
    for (const valueSize of [8, 65_528, 65_536, 300_000]) {
      const map = create('BPF_MAP_TYPE_ARRAY', { valueSize, maxEntries: 2 });
      const value = Uint8Array.from({ length: valueSize }, (_, index) => (index * 7) & 0xff);
      expect(map.update(u32(1), value, 0n)).toBe(0);
      expect(Buffer.compare(map.lookup(u32(1)) as Uint8Array, value)).toBe(0);
      expect(map.lookup(u32(0))).toEqual(new Uint8Array(valueSize));
      const batch = map.lookupBatch(null, 9);
      if (typeof batch === 'number') throw new Error(`batch: ${batch}`);
      expect(Buffer.compare(batch.entries[1]!.value, value)).toBe(0);
    }
  });

  it('believes no file descriptor in a value', () => {
    const open = create('BPF_MAP_TYPE_ARRAY');
    const program = load('r0 = 2\nexit');
    const template = { type: 2, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 };
    expect(create('BPF_MAP_TYPE_ARRAY_OF_MAPS', { inner: template }).update(u32(0), u32(open.fd), 0n)).toBe(
      -EBADF,
    );
    expect(create('BPF_MAP_TYPE_PROG_ARRAY').update(u32(0), u32(program.fd), 0n)).toBe(-EBADF);
    const cpumap = create('BPF_MAP_TYPE_CPUMAP', { valueSize: 8, maxEntries: 1 });
    // ENOMEM is what a CPUMAP says of any program that it does not take.
    expect(cpumap.update(u32(0), u32(64, program.fd), 0n)).toBe(-ENOMEM);
    expect(cpumap.lookup(u32(0))).toBe(-ENOENT);
  });

  it('puts programs of this process into a PROG_ARRAY, by id', () => {
    const array = create('BPF_MAP_TYPE_PROG_ARRAY');
    const target = load('r0 = 1\nexit');
    expect(array.setProgram(1, target.id)).toBe(-EBADF);
    registerProgram(target.id, target.fd);
    expect(array.setProgram(1, target.id)).toBe(0);
    expect(array.lookup(u32(1))).toEqual(u32(target.id));
    const caller = load(
      'r2 = map[jump]\nr3 = 1\ncall bpf_tail_call\nr0 = 2\nexit',
      new Map([['jump', array.fd]]),
    );
    const run = (): unknown => bpf.progTestRun(caller.fd, { data: new Uint8Array(64) });
    expect(run()).toMatchObject({ retval: 1 });
    expect(array.delete(u32(1))).toBe(0);
    expect(run()).toMatchObject({ retval: 2 });
    forgetProgram(target.id, target.fd);
    expect(array.setProgram(1, target.id)).toBe(-EBADF);
    expect(create('BPF_MAP_TYPE_ARRAY').setProgram(0, target.id)).toBe(-EINVAL);
  });

  it('puts a program beside a device, by id', () => {
    const map = create('BPF_MAP_TYPE_DEVMAP', { valueSize: 8 });
    const program = load('r0 = 2\nexit', undefined, 'BPF_XDP_DEVMAP');
    registerProgram(program.id, program.fd);
    expect(map.update(u32(0), u32(1, program.id), 0n)).toBe(0);
    expect(map.lookup(u32(0))).toEqual(u32(1, program.id));
    expect(map.update(u32(1), u32(1, program.id + 1_000_000), 0n)).toBeLessThan(0);
    const plain = load('r0 = 2\nexit');
    registerProgram(plain.id, plain.fd);
    expect(map.update(u32(1), u32(1, plain.id), 0n)).toBe(-EINVAL);
    for (const { id, fd } of [program, plain]) forgetProgram(id, fd);
  });

  it.skipIf(noNamespaces !== '')(`finds devices in its namespace${noNamespaces}`, () => {
    const namespace = testingNamespace();
    try {
      namespace.ip('link', 'add', 'd0', 'index', '70002', 'type', 'veth', 'peer', 'name', 'd1');
      const there = create('BPF_MAP_TYPE_DEVMAP', {}, { namespace });
      const here = create('BPF_MAP_TYPE_DEVMAP');
      expect(there.update(u32(0), u32(70_002), 0n)).toBe(0);
      expect(there.lookup(u32(0))).toEqual(u32(70_002));
      expect(here.update(u32(0), u32(70_002), 0n)).toBe(-EINVAL);
    } finally {
      namespace.close();
    }
  });

  it('keeps an inner map for as long as an entry refers to it', () => {
    const released: string[] = [];
    const inner = (name: string): KernelBpfMap =>
      create('BPF_MAP_TYPE_ARRAY', {}, { onRelease: () => released.push(name) });
    const [a, b, c] = [inner('a'), inner('b'), inner('c')];
    const template = a.attributes;
    const outer = create('BPF_MAP_TYPE_HASH_OF_MAPS', { inner: template });
    for (const [key, map] of [a, b, c].entries()) expect(outer.setInnerMap(u32(key), map)).toBe(0);
    const { id } = bpf.mapInfo(a.fd) as bpf.MapInfo;
    expect(outer.lookup(u32(0))).toEqual(u32(id));
    const other = create('BPF_MAP_TYPE_ARRAY', { valueSize: 8 });
    expect(outer.setInnerMap(u32(0), other)).toBe(-EINVAL);
    for (const map of [a, b]) map.close();
    expect(released).toEqual([]);
    expect(outer.setInnerMap(u32(0), c)).toBe(0);
    expect(released).toEqual(['a']);
    expect(outer.delete(u32(1))).toBe(0);
    expect(released).toEqual(['a', 'b']);
    outer.close();
    expect(released).toEqual(['a', 'b']);
    c.close();
    expect(released).toEqual(['a', 'b', 'c']);
    expect(isKernelMap(outer)).toBe(true);
  });

  it('reads a ring buffer, many times round', () => {
    const ring = create('BPF_MAP_TYPE_RINGBUF', { keySize: 0, valueSize: 0, maxEntries: 4096 });
    // One record of 20 bytes and one that is discarded for each frame.
    const { fd } = load(
      `r6 = *(u32 *)(r1 +0)
       r2 = *(u32 *)(r1 +4)
       r7 = 0
       r3 = r6
       r3 += 14
       if r3 > r2 goto out
       r7 = *(u32 *)(r6 +0)
     out:
       *(u32 *)(r10 -24) = r7
       *(u32 *)(r10 -20) = 1
       *(u64 *)(r10 -16) = 2
       *(u64 *)(r10 -8) = 3
       r1 = map[ring]
       r2 = r10
       r2 += -24
       r3 = 20
       r4 = 0
       call bpf_ringbuf_output
       r1 = map[ring]
       r2 = 8
       r3 = 0
       call bpf_ringbuf_reserve
       if r0 == 0 goto end
       r1 = r0
       r2 = 0
       call bpf_ringbuf_discard
     end:
       r0 = 2
       exit`,
      new Map([['ring', ring.fd]]),
    );
    const send = (mark: number): void => {
      const data = new Uint8Array(64);
      data.set(u32(mark));
      expect(bpf.progTestRun(fd, { data })).toMatchObject({ retval: 2 });
    };
    expect(ring.drainRecords!()).toEqual([]);
    for (let round = 0; round < 300; round++) {
      send(round);
      send(round + 1000);
      const marks = ring.drainRecords!().map(({ data }) => [
        data.length,
        new DataView(data.buffer).getUint32(0, true),
      ]);
      expect(marks).toEqual([
        [20, round],
        [20, round + 1000],
      ]);
    }
    for (const mark of [1, 2, 3]) send(mark);
    expect(ring.drainRecords!({ bytes: 63, records: 9, recordBytes: 12 })).toHaveLength(1);
    expect(ring.drainRecords!({ bytes: 99, records: 0, recordBytes: 12 })).toEqual([]);
    expect(ring.nextRecordBytes!()).toBe(20);
    ring.skipRecord!();
    expect(ring.drainRecords!()).toMatchObject([{ lost: 1, data: { 0: 3 } }]);
    expect(ring.nextRecordBytes!()).toBeUndefined();
    ring.skipRecord!();
    // 32 bytes a record, 16 one that is discarded: what finds no room is lost.
    for (let mark = 0; mark < 200; mark++) send(mark);
    expect(ring.drainRecords!().length).toBeLessThanOrEqual(4096 / 48 + 1);
    ring.close();
    expect(ring.drainRecords!()).toEqual([]);
    expect(create('BPF_MAP_TYPE_ARRAY').drainRecords).toBeUndefined();
  });

  it('reads what programs send to the event of their CPU, many times round', () => {
    const events = create('BPF_MAP_TYPE_PERF_EVENT_ARRAY', { maxEntries: 2 }, { perfBufferBytes: 4096 });
    // bpf_perf_event_output of the current CPU, of 8 bytes on the stack and the first 14 of the packet.
    const { fd } = load(
      `*(u64 *)(r10 -8) = 7
       r2 = map[events]
       r3 = 0xeffffffffll
       r4 = r10
       r4 += -8
       r5 = 8
       call bpf_perf_event_output
       exit`,
      new Map([['events', events.fd]]),
    );
    const send = (): unknown => onCpu(0, () => bpf.progTestRun(fd, { data: new Uint8Array(64).fill(9) }));
    expect(send()).toMatchObject({ retval: -ENOENT >>> 0 });
    expect(events.update(u32(2), u32(0), 0n)).toBe(-E2BIG);
    expect(events.update(u32(0), u32(0xffff_ffff), 0n)).toBe(-EBADF);
    expect(events.update(u32(0), u32(0), 0n)).toBe(0);
    for (let round = 0; round < 100; round++) {
      expect(send()).toMatchObject({ retval: 0 });
      expect(send()).toMatchObject({ retval: 0 });
      // A record is 4 bytes of length and the data, padded to a multiple of 8 with what was there: 4 + 22 become 32.
      const data = [7, 0, 0, 0, 0, 0, 0, 0, ...new Uint8Array(14).fill(9)];
      const records = events.drainRecords!();
      expect(
        records.map((one) => [one.cpu, one.lost, one.data.length, [...one.data.subarray(0, 22)]]),
      ).toEqual([
        [0, 0, 28, data],
        [0, 0, 28, data],
      ]);
    }
    for (let record = 0; record < 3; record++) send();
    expect(events.drainRecords!({ bytes: 79, records: 9, recordBytes: 12 })).toHaveLength(1);
    expect(events.nextRecordBytes!()).toBe(28);
    events.skipRecord!();
    expect(events.drainRecords!()).toMatchObject([{ lost: 1 }]);
    expect(events.nextRecordBytes!()).toBeUndefined();
    // 40 bytes a record: some find no room, which the next that does tells.
    const results = Array.from({ length: 150 }, () => send() as { retval: number });
    const kept = results.filter(({ retval }) => retval === 0).length;
    expect(kept).toBe(Math.floor(4096 / 40));
    expect(events.drainRecords!()).toHaveLength(kept);
    expect(send()).toMatchObject({ retval: 0 });
    expect(events.drainRecords!()).toMatchObject([{ lost: 150 - kept }]);
    expect(events.update(u32(0), u32(0), 0n)).toBe(0);
    expect(events.delete(u32(0))).toBe(0);
    expect(send()).toMatchObject({ retval: -ENOENT >>> 0 });
    expect(events.drainRecords!()).toEqual([]);
  });
});
