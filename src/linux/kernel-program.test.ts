import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import type { Program } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import { closeFd } from './bpf-syscall.js';
import { createKernelMap } from './kernel-map.js';
import {
  loadingThread,
  loadKernelProgram,
  loadKernelProgramAside,
  type KernelVerdict,
} from './kernel-program.js';
import { testRunXdp } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const xdp = (text: string): Program => ({
  name: 'aside',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

/** The kernel's verifier follows each of its 400,000 rounds. */
const SLOW = xdp('r6 = 0\nagain: r6 += 1\nif r6 < 400000 goto again\nr0 = 2\nexit');
const FRAME = new Uint8Array(64);

const openFds = (): number => readdirSync('/proc/self/fd').length;

function programFd(verdict: KernelVerdict): number {
  if (!verdict.accepted) throw new Error(verdict.log);
  return verdict.programFd;
}

describe.skipIf(skipped !== '')(`loadKernelProgramAside${skipped}`, () => {
  it('lets the event loop go on', async () => {
    await loadingThread();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const loading = loadKernelProgramAside(SLOW, new Map());
    const fd = programFd(await loading);
    clearInterval(timer);
    closeFd(fd);
    // It takes hundreds of milliseconds.
    expect(turns).toBeGreaterThan(10);
  });

  it('needs the maps no more once it was called, and leaves nothing open', async () => {
    await loadingThread();
    const before = openFds();
    const map = createKernelMap({
      name: 'm',
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
      flags: 0,
    });
    const slow = loadKernelProgramAside(SLOW, new Map());
    const loading = loadKernelProgramAside(
      xdp('r1 = map[fd:1][0] + 0\nr0 = *(u64 *)(r1 +0)\nr0 += 2\nexit'),
      new Map([[1, map]]),
    );
    // It waits for the other, and has its own of the map by then.
    await Promise.resolve();
    closeFd(map);
    closeFd(programFd(await slow));
    const fd = programFd(await loading);
    expect(testRunXdp(fd, { packet: FRAME }).verdict).toBe(2);
    closeFd(fd);
    expect(openFds()).toBe(before);
  });

  it.each([
    ['that is rejected', 'r0 = r5\nexit'],
    [
      'with functions',
      'r1 = 3\nr2 = subprog[f]\nr3 = 0\nr4 = 0\ncall bpf_loop\nr0 = 2\nexit\nf: r0 = 0\nexit',
    ],
  ])('says of a program %s what loadKernelProgram says', async (_, text) => {
    const before = openFds();
    const verdicts = [
      loadKernelProgram(xdp(text), new Map()),
      await loadKernelProgramAside(xdp(text), new Map()),
    ];
    for (const verdict of verdicts) if (verdict.accepted) closeFd(verdict.programFd);
    const said = verdicts.map((verdict) => ({
      ...verdict,
      programFd: 0,
      log: verdict.log.replaceAll(/verification time \d+ usec/g, ''),
    }));
    expect(said[1]).toEqual(said[0]);
    expect(openFds()).toBe(before);
  });

  it('throws for a map that there is none of', async () => {
    const before = openFds();
    await expect(loadKernelProgramAside(xdp('r1 = map[fd:7]\nr0 = 2\nexit'), new Map())).rejects.toThrow(
      'has no map of handle 7',
    );
    await expect(loadKernelProgramAside(xdp('r0 = 2\nexit'), new Map([[1, 99_999]]))).rejects.toThrow(
      'EBADF',
    );
    expect(openFds()).toBe(before);
  });
});
