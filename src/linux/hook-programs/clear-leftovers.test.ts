import { beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { EFAULT, EINVAL } from '../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import type { ProgramFacts, VerifierMap } from '../../core/contract/verifier.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { probeBpf } from '../bpf-probe.js';
import { mapLookup } from '../bpf-syscall.js';
import { loadKernelProgram } from '../kernel-program.js';
import { closeFd } from '../bpf-syscall.js';
import { KernelCase } from '../testing-kernel-case.js';
import { testRunSkb, testRunXdp } from '../test-run.js';
import { clearLeftovers, ZEROS_MAP } from './clear-leftovers.js';
import { xdpToTcx } from './xdp-to-tcx.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

/** Bytes that a program tells of what it found, and behind them what the helper said. */
const BYTES = 200;
const DUMP = {
  handle: 1,
  name: 'dump',
  attributes: {
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: BYTES + 8,
    maxEntries: 1,
    flags: 0,
  },
  initial: [],
};
const ZEROS = { handle: 100, name: 'zeros', attributes: ZEROS_MAP, initial: [] };
const FRAME = Uint8Array.from({ length: 256 }, (_, at) => (at % 255) + 1);
const DIRT = 0x5a5a5a5a;

const xdp = (text: string): Program => ({
  name: 'leftovers',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

/** Has the map's value in R7 and the context in R6 and R1. */
const BEGIN = `
    r6 = r1
    *(u32 *)(r10 -4) = 0
    r1 = map[fd:1]
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0`;
const END = `
  out:
    r0 = 2
    exit`;

const words = (count: number, text: (at: number) => string): string =>
  Array.from({ length: count / 8 }, (_, word) => text(8 * word)).join('\n');
const below = (bytes: number): string => `-${bytes}`;

/**
 * Leaves dirt on the stack, then loads bytes to where it lies: in a function whose frame is where that of the one before
 * was. Of a length by path the kernel knows each, the facts know none.
 */
const loading = (offset: number, length: number | 'by path'): string => `${BEGIN}
    call dirty
    r1 = r6
    r2 = r7
    call load
    ${END}
  dirty:
    r0 = ${DIRT}
    ${words(BYTES, (at) => `*(u32 *)(r10 ${below(BYTES - at)}) = r0\n*(u32 *)(r10 ${below(BYTES - at - 4)}) = r0`)}
    r0 = 0
    exit
  load:
    r6 = r2
    ${
      length === 'by path'
        ? `r5 = *(u32 *)(r1 +16)
           r4 = 64
           if r5 == 0 goto known
           r4 = 72
         known:`
        : `r4 = ${length}`
    }
    r2 = ${offset}
    r3 = r10
    r3 += -${BYTES}
    call bpf_xdp_load_bytes
    *(u64 *)(r6 +${BYTES}) = r0
    ${words(length === 'by path' ? 64 : length & ~7, (at) => `r1 = *(u64 *)(r10 ${below(BYTES - at)})\n*(u64 *)(r6 +${at}) = r1`)}
    r0 = 0
    exit`;

/** Gains bytes in front of the packet, leaves dirt there, gives them up, and gains and tells them once more. */
function moving(helper: 'bpf_xdp_adjust_head' | 'bpf_xdp_adjust_meta', bytes: number): string {
  const [start, end] = helper === 'bpf_xdp_adjust_head' ? [0, 4] : [8, 0];
  const gain = (each: (at: number) => string): string => `
    r1 = r6
    r2 = ${-bytes}
    call ${helper}
    *(u64 *)(r7 +${BYTES}) = r0
    r2 = *(u32 *)(r6 +${start})
    r3 = *(u32 *)(r6 +${end})
    r4 = r2
    r4 += ${bytes}
    if r4 > r3 goto out
    r5 = ${DIRT}
    ${Array.from({ length: bytes / 4 }, (_, word) => each(4 * word)).join('\n')}`;
  return `${BEGIN}
    ${gain((at) => `*(u32 *)(r2 +${at}) = r5`)}
    r1 = r6
    r2 = ${bytes}
    call ${helper}
    ${gain((at) => `r5 = *(u32 *)(r2 +${at})\n*(u32 *)(r7 +${at}) = r5`)}
    ${END}`;
}

/** By default it takes nothing for written that bpf_xdp_load_bytes may have left as it was; a testbed may let addresses be told. */
const CREDULOUS = { ...DEFAULT_CONFIG, allowPointerLeaks: true };

async function factsOf(program: Program): Promise<ProgramFacts> {
  const maps = new Map<number, VerifierMap>([[1, { ...DUMP.attributes, name: 'dump' }]]);
  const verification = await new AbstractVerifier(CREDULOUS).verify({ program, maps });
  if (!verification.accepted) throw new Error(verification.reason);
  return verification.facts!;
}

async function cleared(program: Program): Promise<Program> {
  const rewriting = clearLeftovers(program, { zeros: ZEROS.handle, facts: await factsOf(program) });
  if (!rewriting.ok) throw new Error(rewriting.reason);
  return rewriting.program;
}

async function tcx(program: Program): Promise<Program> {
  const context = { ingress_ifindex: 1, rx_queue_index: 0 };
  const rewriting = xdpToTcx(program, { facts: await factsOf(program), tx: 'drop', context });
  if (!rewriting.ok) throw new Error(rewriting.reason);
  return rewriting.program;
}

interface Told {
  readonly bytes: Uint8Array;
  readonly said: number;
  readonly packet: Uint8Array;
}

function run(program: Program): Told {
  const kernel = new KernelCase([DUMP, ZEROS]);
  try {
    const fd = kernel.load(program);
    const { packet } = program.type === 6 ? testRunXdp(fd, { packet: FRAME }) : testRunSkb(fd, FRAME);
    const value = mapLookup(kernel.fds.get(DUMP.handle)!, new Uint8Array(4), BYTES + 8);
    if (typeof value === 'number') throw new Error(`the dump cannot be read: ${value}`);
    return {
      bytes: value.slice(0, BYTES),
      said: Number(new DataView(value.buffer, value.byteOffset).getBigInt64(BYTES, true)),
      packet,
    };
  } finally {
    kernel.close();
  }
}

const zeros = (count: number): Uint8Array => new Uint8Array(count);
const isDirty = ({ bytes }: Told): boolean => bytes.includes(DIRT & 0xff);

describe.skipIf(skipped !== '')(`what was there before${skipped}`, () => {
  describe.each([
    ['beyond the end', 200, 64, -EINVAL],
    ['beyond the end, by one byte', 256 - 199, BYTES, -EINVAL],
    ['at an offset that no packet has', 0x10000, 64, -EFAULT],
    ['of a length that is none of words', 250, 13, -EINVAL],
    ['of a length that depends on the path', 200, 'by path' as const, -EINVAL],
  ])('bpf_xdp_load_bytes %s', (_, offset, length, error) => {
    it('does not tell a guest’s program', async () => {
      const program = xdp(loading(offset, length));
      if (length !== 'by path') expect(isDirty(run(program))).toBe(true);
      const told = run(await cleared(program));
      expect(told).toEqual({ bytes: zeros(BYTES), said: error, packet: FRAME });
    });

    it('does not tell its twin for skbs', async () => {
      const told = run(await tcx(xdp(loading(offset, length))));
      expect(told).toMatchObject({ bytes: zeros(BYTES), said: error });
    });
  });

  it.each([
    [0, 64],
    [56, BYTES],
  ])('is no matter where bpf_xdp_load_bytes has data: at %i, %i bytes', async (offset, length) => {
    const program = xdp(loading(offset, length));
    const expected = zeros(BYTES);
    expected.set(FRAME.subarray(offset, offset + length));
    for (const each of [program, await cleared(program), await tcx(program)])
      expect(run(each)).toMatchObject({ bytes: expected, said: 0 });
  });

  it.each([
    ['bpf_xdp_adjust_head', 8],
    ['bpf_xdp_adjust_head', 4],
    ['bpf_xdp_adjust_head', 192],
    ['bpf_xdp_adjust_meta', 4],
    ['bpf_xdp_adjust_meta', 8],
    ['bpf_xdp_adjust_meta', 128],
  ] as const)('%s does not tell: %i bytes', async (helper, bytes) => {
    const program = xdp(moving(helper, bytes));
    expect(isDirty(run(program))).toBe(true);
    const told = run(await cleared(program));
    expect(told).toMatchObject({ bytes: zeros(BYTES), said: 0 });
    const gained = helper === 'bpf_xdp_adjust_head' ? bytes : 0;
    expect(told.packet).toEqual(Uint8Array.from([...zeros(gained), ...FRAME]));
  });

  it.each([
    ['bpf_xdp_adjust_head', 14],
    ['bpf_xdp_adjust_head', -1],
    ['bpf_xdp_adjust_head', -216],
    ['bpf_xdp_adjust_head', -217],
    ['bpf_xdp_adjust_head', 243],
    ['bpf_xdp_adjust_head', -0x8000_0000],
    ['bpf_xdp_adjust_meta', 4],
    ['bpf_xdp_adjust_meta', 0],
    ['bpf_xdp_adjust_meta', -212],
    ['bpf_xdp_adjust_meta', -3],
    ['bpf_xdp_adjust_meta', -0x8000_0000],
  ])('%s says what it says without: %i bytes', async (helper, bytes) => {
    const program = xdp(`${BEGIN}
      r1 = r6
      r2 = ${bytes}
      call ${helper}
      *(u64 *)(r7 +${BYTES}) = r0
      ${END}`);
    const before = run(program);
    expect(run(await cleared(program))).toEqual(before);
  });

  it('does not make the kernel follow twice as many ways at each call', async () => {
    const loads = Array.from(
      { length: 40 },
      (_, at) => `
      r1 = r6
      r2 = ${at}
      r3 = r10
      r3 += -13
      r4 = 13
      call bpf_xdp_load_bytes
      r1 = *(u8 *)(r10 -13)
      r7 += r1`,
    ).join('');
    const program = await cleared(
      xdp(`r6 = r1\nr7 = 0\n${loads}\nr0 = 2\nif r7 == 7 goto out\nr0 = 1\nout:\nexit`),
    );
    const verdict = loadKernelProgram(program, new Map());
    expect(verdict).toMatchObject({ accepted: true });
    if (verdict.accepted) closeFd(verdict.programFd);
    expect(Number(/processed (\d+) insns/.exec(verdict.log)?.[1])).toBeLessThan(10_000);
  });
});

describe('clearLeftovers', () => {
  let facts: ProgramFacts;
  beforeAll(() => {
    facts = { accesses: new Map(), calls: new Map(), unreachable: new Set() };
  });

  it('refuses a program that names the map of zeros', () => {
    const program = xdp('r1 = map[fd:100]\nr0 = 2\nexit');
    expect(clearLeftovers(program, { zeros: 100, facts })).toMatchObject({ ok: false, insn: 0 });
  });

  it('leaves a program alone that calls none of the helpers', () => {
    const program = xdp('r0 = 2\nexit');
    expect(clearLeftovers(program, { zeros: 100, facts })).toMatchObject({ ok: true, program });
  });
});
