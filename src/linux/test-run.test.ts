import { describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import type { Program } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import { closeFd, mapLookup } from './bpf-syscall.js';
import { createKernelMap } from './kernel-map.js';
import { runInKernel } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const program = (text: string, maps?: ReadonlyMap<string, number>): Program => ({
  name: 'test_run',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text, { maps }),
});
const frame = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index & 0xff);

describe.skipIf(skipped !== '')(`the kernel as an oracle${skipped}`, () => {
  it('tells verdict and packet of each frame', () => {
    const swap = program(`
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += 60
      r0 = 1
      if r4 > r3 goto out
      *(u8 *)(r2 +0) = 99
      r0 = 3
    out:
      exit`);
    const result = runInKernel(swap, new Map(), [{ packet: frame(60) }, { packet: frame(59) }]);
    if (!result.accepted) throw new Error(result.log);
    const changed = frame(60);
    changed[0] = 99;
    expect(result.runs).toEqual([
      { verdict: 3, packet: changed, meta: new Uint8Array(0) },
      { verdict: 1, packet: frame(59), meta: new Uint8Array(0) },
    ]);
  });

  it('tells packets that have moved, and metadata', () => {
    const push = program('r2 = -4\ncall bpf_xdp_adjust_head\nr0 = 2\nexit');
    const grown = runInKernel(push, new Map(), [{ packet: frame(60) }]);
    if (!grown.accepted) throw new Error(grown.log);
    expect(grown.runs[0]!.packet.slice(4)).toEqual(frame(60));

    const meta = program('r2 = -4\ncall bpf_xdp_adjust_meta\nr0 = 2\nexit');
    const run = runInKernel(meta, new Map(), [{ packet: frame(60), meta: frame(8) }]);
    if (!run.accepted) throw new Error(run.log);
    expect(run.runs[0]!.packet).toEqual(frame(60));
    expect(run.runs[0]!.meta).toHaveLength(12);
    expect(run.runs[0]!.meta.slice(4)).toEqual(frame(8));
  });

  it('works on maps of the caller', () => {
    const fd = createKernelMap({
      name: 'count',
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
      flags: 0,
    });
    const count = program(
      'r1 = map[count][0]+0\nr2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = 2\nexit',
      new Map([['count', 77]]),
    );
    const packet = frame(64);
    expect(runInKernel(count, new Map([[77, fd]]), [{ packet }, { packet }])).toMatchObject({
      accepted: true,
    });
    expect(mapLookup(fd, new Uint8Array(4), 8)).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0));
    closeFd(fd);
  });

  it('never passes a handle on that names no map: it would be a file descriptor of this process', () => {
    const reads = program('r1 = map[m]\nr0 = 2\nexit', new Map([['m', 1]]));
    expect(() => runInKernel(reads, new Map(), [])).toThrow('program test_run has no map of handle 1');
  });

  it('gives back a rejection, and names a frame that the kernel does not take', () => {
    expect(runInKernel(program('exit'), new Map(), [])).toMatchObject({ accepted: false, errno: 13 });
    expect(() => runInKernel(program('r0 = 2\nexit'), new Map(), [{ packet: frame(13) }])).toThrow(
      'BPF_PROG_TEST_RUN refused a frame of 13 bytes',
    );
  });

  it('knows functions well enough for callbacks', () => {
    const loop = program(`
      r1 = 5
      r2 = subprog[step]
      r3 = 0
      r4 = 0
      call bpf_loop
      exit
    step:
      r0 = 0
      exit`);
    const result = runInKernel(loop, new Map(), [{ packet: frame(64) }]);
    if (!result.accepted) throw new Error(result.log);
    expect(result.runs[0]!.verdict).toBe(5);
  });
});
