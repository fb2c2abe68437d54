import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import type { Program } from '../bpf/program.js';
import type { BpfMap } from '../bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../bpf/runtime/frame-ring.js';
import type { ExecutionEnvironment } from '../core/contract/executor.js';
import { probeBpf } from './bpf-probe.js';
import { closeFd, fdById, mapInfo, mapLookup, progInfo, type ProgramInfo } from './bpf-syscall.js';
import { KernelBpfMap } from './kernel-bpf-map.js';
import { createKernelMap } from './kernel-map.js';
import { isKernelProgram, KernelLoadedProgram, type KernelLoadOptions } from './kernel-loaded-program.js';
import { loadKernelProgram } from './kernel-program.js';
import { probeNamespaces, testingNamespace } from './testing-namespace.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const namespaces = probeNamespaces();
const noNamespaces = namespaces.status === 'supported' ? '' : ` (skipped: ${namespaces.reason})`;

const ARRAY = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
  flags: 0,
};
const COUNT = 'r1 = map[count][0]+0\nr2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = 2\nexit';
const HANDLES = new Map([['count', 77]]);

const program = (text: string, more: Partial<Program> = {}): Program => ({
  name: 'test',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text, { maps: HANDLES }),
  ...more,
});
const environment = (
  maps: ReadonlyMap<number, BpfMap> = new Map(),
  more: Partial<ExecutionEnvironment> = {},
): ExecutionEnvironment => ({ maps, world: { trace() {} }, ...more });

describe.skipIf(skipped !== '')(`a program of the kernel's as a LoadedProgram${skipped}`, () => {
  let before = 0;
  const closers: { close(): void }[] = [];
  beforeEach(() => {
    before = readdirSync('/proc/self/fd').length;
  });
  afterEach(() => {
    for (const one of closers.splice(0)) one.close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
  const load = (
    text: string,
    env = environment(),
    options: KernelLoadOptions = {},
    more: Partial<Program> = {},
  ): KernelLoadedProgram => {
    const loaded = KernelLoadedProgram.load(program(text, more), env, options);
    closers.push(loaded);
    return loaded;
  };
  const counter = (): KernelBpfMap => {
    const map = new KernelBpfMap('count', ARRAY, createKernelMap({ ...ARRAY, name: 'count' }));
    closers.push(map);
    return map;
  };
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index & 0xff);

  it('runs on frames, again on what a run left, and in batches that wrap', () => {
    const loaded = load(`
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += 20
      r0 = 1
      if r4 > r3 goto out
      r5 = *(u8 *)(r2 +0)
      r5 += 1
      *(u8 *)(r2 +0) = r5
      r0 = 3
    out:
      exit`);
    const frames = loaded.openFrames(3);
    frames.load(0, bytes(60));
    frames.load(2, bytes(14), { dataMeta: Uint8Array.of(1, 2, 3, 4) });
    expect(loaded.run(frames, 0)).toEqual({ verdict: 3 });
    expect(loaded.run(frames, 0)).toEqual({ verdict: 3 });
    expect(frames.packet(0)).toEqual(Uint8Array.of(2, ...bytes(60).subarray(1)));
    expect(loaded.runBatch(frames, 2, 2)).toBe(0);
    expect([frames.verdict(2), frames.verdict(0)]).toEqual([1, 3]);
    expect(frames.packet(0)[0]).toBe(3);
    expect(frames.metadata(2)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(() => loaded.run(frames, 1)).toThrow('refused a frame of 0 bytes');
    expect(loaded.lastFault).toBeUndefined();
    frames.close();
  });

  it('refuses frames that a test run does not take', () => {
    const frames = load('r0 = 2\nexit').openFrames(1, 9000);
    expect(frames.longestFrame).toBe(3520);
    expect(() => frames.load(0, bytes(13))).toThrow('takes none of less than 14');
    expect(() => frames.load(0, bytes(3521))).toThrow('exceeds the limit of 3520');
    expect(() => frames.load(0, bytes(64), { dataMeta: bytes(3) })).toThrow('a multiple of 4');
    expect(() => frames.load(0, bytes(64), { egressIfindex: 1 })).toThrow('egress_ifindex');
  });

  it('keeps its maps when others close theirs, and lets them go', () => {
    const map = counter();
    const loaded = load(COUNT, environment(new Map([[77, map]])));
    expect(loaded.mapFds.get(77)).not.toBe(map.fd);
    const { id } = mapInfo(map.fd) as { id: number };
    map.close();
    const frames = loaded.openFrames(1);
    frames.load(0, bytes(64));
    loaded.run(frames, 0);
    expect(mapLookup(loaded.mapFds.get(77)!, new Uint8Array(4), 8)).toEqual(
      Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0),
    );
    // All that is needed to load it again.
    const variant = loadKernelProgram({ ...loaded.program, name: 'variant' }, loaded.mapFds);
    if (!variant.accepted) throw new Error(variant.log);
    closeFd(variant.programFd);
    loaded.close();
    loaded.close();
    expect(loaded.programFd).toBe(-1);
    expect(loaded.mapFds.size).toBe(0);
    // The kernel frees a map some time after its last reference is gone.
    return expect
      .poll(() => {
        const fd = fdById('map', id);
        if (fd >= 0) closeFd(fd);
        return fd;
      })
      .toBeLessThan(0);
  });

  it('has the id that the kernel gave it', () => {
    const loaded = load('r0 = 2\nexit');
    expect(loaded.id).toBe((progInfo(loaded.programFd) as ProgramInfo).id);
    expect(isKernelProgram(loaded)).toBe(true);
  });

  it('says why it cannot be loaded, and leaves nothing open', () => {
    const refusal = (text: string, env = environment()) => {
      try {
        load(text, env);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(refusal('r0 = *(u64 *)(r1 +0)\nexit', environment())).toMatchObject({
      code: 'executor-unsupported',
      message:
        'program test cannot run in the kernel: it is rejected at insn 0: EACCES, invalid bpf_context access off=0 size=8\n  0: R1=ctx() R10=fp0\n  0: (79) r0 = *(u64 *)(r1 +0)',
      at: { insn: 0 },
    });
    const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
    const stranger = { name: 'count', attributes: ARRAY, space: runtime.space } as unknown as BpfMap;
    expect(refusal(COUNT, environment(new Map([[77, stranger]])))).toMatchObject({
      code: 'executor-unsupported',
      message: 'program test cannot run in the kernel: insn 0: map count is not in the kernel',
      hint: 'use map backend kernel with it',
    });
    expect(refusal(COUNT)).toMatchObject({ code: 'executor-unsupported', at: { insn: 0 } });
    const map = counter();
    map.close();
    expect(refusal(COUNT, environment(new Map([[77, map]])))).toMatchObject({
      message: 'program test cannot run in the kernel: map count is closed (EBADF)',
    });
    expect(refusal('r0 = 2\nexit', environment(new Map(), { programId: 3 }))).toMatchObject({
      code: 'executor-unsupported',
    });
  });

  it('is loaded without CAP_PERFMON on request', () => {
    expect(() => load('r0 = r1\nexit', environment(), { perfmon: false })).toThrow('R0 leaks addr');
    load('r0 = r1\nexit');
  });

  it('runs no program of a devmap, and on nobody else’s frames', () => {
    const devmap = load('r0 = 2\nexit', environment(), {}, { attachType: 'BPF_XDP_DEVMAP' });
    const frames = devmap.openFrames(1);
    frames.load(0, bytes(64));
    expect(() => devmap.run(frames, 0)).toThrow('the kernel runs programs of BPF_XDP_DEVMAP in maps only');
    const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
    const ring = new FrameRing(runtime.space, 1);
    expect(() => load('r0 = 2\nexit').run(ring, 0)).toThrow('frames of its own party');
  });

  it('runs on the CPU it is told', () => {
    const loaded = load('call bpf_get_smp_processor_id\nexit', environment(), { cpu: 0 });
    const frames = loaded.openFrames(1);
    frames.load(0, bytes(64));
    for (let i = 0; i < 20; i++) expect(loaded.run(frames, 0)).toEqual({ verdict: 0 });
    const nowhere = load('r0 = 2\nexit', environment(), { cpu: 1023 });
    expect(() => nowhere.run(frames, 0)).toThrow('cannot run on CPU 1023');
  });

  it.skipIf(noNamespaces !== '')(`sees the device a frame comes from${noNamespaces}`, () => {
    const namespace = testingNamespace();
    try {
      namespace.ip('link', 'add', 'd0', 'index', '70003', 'type', 'veth', 'peer', 'name', 'd1');
      namespace.ip('link', 'set', 'd0', 'up');
      const text = 'r0 = *(u32 *)(r1 +12)\nexit';
      const there = load(text, environment(), { namespace });
      const here = load(text);
      const frames = there.openFrames(1);
      frames.load(0, bytes(64), { ingressIfindex: 70_003 });
      expect(there.run(frames, 0)).toEqual({ verdict: 70_003 });
      expect(() => here.run(frames, 0)).toThrow('refused a frame from queue 0 of ifindex 70003: ENODEV');
      frames.load(0, bytes(64), { ingressIfindex: 70_003, rxQueueIndex: 500 });
      expect(() => there.run(frames, 0)).toThrow('refused a frame from queue 500 of ifindex 70003');
      // The loopback device's, where it says nothing.
      frames.load(0, bytes(64));
      expect(here.run(frames, 0)).toEqual({ verdict: 1 });
    } finally {
      namespace.close();
    }
  });
});
