import { describe, expect, it } from 'vitest';
import { withBoundsTold } from '../../bench/verifier/bounded-move.js';
import { openKernelVerifier } from '../../bench/verifier/kernel-oracle.js';
import { meaningOf } from '../../bench/verifier/meaning.js';
import { withoutTailCalls } from '../../bench/verifier/without-tail-calls.js';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { GeneratedCase } from '../../src/conformance/program-generator/index.js';
import type {
  ProgramFacts,
  Rejection,
  Verification,
  Verifier,
  VerifyRequest,
} from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

const MAPS = [
  {
    handle: 1,
    name: 'wide',
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: 64,
    maxEntries: 1,
  },
  {
    handle: 2,
    name: 'programs',
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
    keySize: 4,
    valueSize: 4,
    maxEntries: 2,
  },
  {
    handle: 3,
    name: 'flows',
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
    keySize: 4,
    valueSize: 8,
    maxEntries: 2,
  },
];
const HANDLES = new Map(MAPS.map(({ name, handle }) => [name, handle]));

function requestOf(text: string): VerifyRequest {
  const insns = assemble(text, { maps: HANDLES });
  return {
    program: { name: 'p', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns },
    maps: new Map(MAPS.map(({ handle, ...map }) => [handle, { ...map, flags: 0 }])),
  };
}

function caseOf(program: Program): GeneratedCase {
  const maps = MAPS.map(({ handle, name, ...attributes }) => ({
    handle,
    name,
    attributes: { ...attributes, flags: 0 },
    initial: [],
  }));
  return { seed: 0, programs: [program], maps, frames: [], mutations: [] };
}

const abstract = new AbstractVerifier(DEFAULT_CONFIG);

/** A local function that another program may end. */
const LEFT = `
  left: r2 = map[programs]
  r3 = 0
  call bpf_tail_call
  r0 = 0
  exit`;

async function factsOf(request: VerifyRequest): Promise<ProgramFacts> {
  const verification = await abstract.verify(request);
  if (!verification.accepted) expect.fail(verification.reason);
  return verification.facts!;
}

describe('a program without its tail calls', () => {
  it('does what it did: where a call failed, the function goes on; where it did not, its caller gets any number', async () => {
    const { request, placeOf } = withoutTailCalls(
      requestOf(`call left\n if r0 == 7 goto seven\n r0 = 2\n exit\n seven: r0 = 1\n exit\n ${LEFT}`),
    );
    expect(request.program.insns.some(({ imm, opcode }) => opcode === 0x85 && imm === 12)).toBe(false);
    const { unreachable } = await factsOf(request);
    for (const insn of [0, 1, 2, 4, 6, 9, 10])
      expect(unreachable.has(placeOf(insn)), `insn ${insn}`).toBe(false);
  });

  it.each([
    [
      'a pointer into the packet',
      'stale-packet-pointer',
      'r6 = *(u32 *)(r1 +0)\n r2 = *(u32 *)(r1 +4)\n r3 = r6\n r3 += 8\n if r3 > r2 goto out\n call left\n r0 = *(u8 *)(r6 +0)\n out: r0 = 2\n exit',
    ],
    [
      'what the function would return',
      'pointer-offset-unbounded',
      'call left\n r1 = map[wide][0]+0\n r1 += r0\n r0 = *(u8 *)(r1 +0)\n r0 = 2\n exit',
    ],
  ])('keeps nobody from losing %s', async (_, code, text) => {
    const request = requestOf(`${text}\n ${LEFT}`);
    for (const each of [request, withoutTailCalls(request).request]) {
      const verification = await abstract.verify(each);
      expect(verification.accepted ? 'accepted' : verification.code).toBe(code);
    }
  });

  it('has the path of a kernel where that would be', () => {
    const { request, pathOf } = withoutTailCalls(requestOf(`call left\n exit\n ${LEFT}`));
    const path = pathOf([0, 2, 4, 5, 6, 7, 1]);
    expect(path).toEqual([0, 2, 4, 5, 6, 11, 12, 13, 1]);
    expect(pathOf([0, 2, 4, 5])).toEqual([0, 2, 4, 5]);
    expect(request.program.insns).toHaveLength(14);
  });
});

describe('what it means that only the kernel rejects', () => {
  /** The index is neither above `most` as signed nor above 62: with 0, it is that. */
  const text = (most: number) => `
    r9 = *(u32 *)(r1 +0)
    r8 = *(u32 *)(r1 +4)
    r2 = r9
    r2 += 8
    if r2 > r8 goto out
    r7 = *(u64 *)(r9 +0)
    if r7 s> ${most} goto out
    if r7 > 62 goto out
    r2 = map[wide][0]+0
    r2 += r7
    r0 = *(u8 *)(r2 +1)
    call left
    out: r0 = 2
    exit
    ${LEFT}`;
  const ACCESS = 11;

  async function meaning(most: number, judged: Verifier = abstract) {
    const request = requestOf(text(most));
    const theirs: Rejection = {
      accepted: false,
      verifier: 'kernel',
      code: 'map-value-bounds',
      reason: 'R2 max value is outside of the allowed memory range',
      insn: ACCESS,
      statistics: { processedInsns: 0, peakStates: 0, totalStates: 0 },
    };
    const kernel: Verifier = { name: 'kernel', verify: () => Promise.resolve(theirs) };
    const generated = caseOf(request.program);
    const judges = { abstract: judged, kernel };
    return meaningOf({ guest: judges, root: judges }, 'guest', generated, {
      abstract: { verification: await abstract.verify(request), program: 0 },
      kernel: { verification: theirs, program: 0 },
    });
  }

  it('is precision where abstract knows the one offset, tail calls or not', async () => {
    expect(await meaning(0)).toBe('precision');
  });

  it('is safety where it knows none, or has proved it only with what it believes of tail calls', async () => {
    expect(await meaning(1)).toBe('safety');
    const credulous: Verifier = {
      name: 'credulous',
      verify: async (request): Promise<Verification> => {
        const isStead = request.program.insns.every(({ opcode, imm }) => opcode !== 0x85 || imm !== 12);
        const verification = await abstract.verify(request);
        return isStead
          ? { ...verification, accepted: false, code: 'packet-bounds', reason: '' }
          : verification;
      },
    };
    expect(await meaning(0, credulous)).toBe('safety');
  });

  it('is told bounds by comparisons that change nothing', async () => {
    const request = requestOf(text(20));
    const told = (await withBoundsTold(DEFAULT_CONFIG, request, [0, 1, 2, 10, 11]))!;
    const from = 10;
    const added = told.request.program.insns.slice(from, from + 4);
    expect(added).toEqual(assemble(`if r7 >= 0 goto +1\n r7 = 0\n if r7 <= 20 goto +1\n r7 = 20`));
    expect(told.corrections).toEqual([from + 1, from + 3]);
    const { unreachable } = await factsOf(told.request);
    for (const insn of told.corrections) expect(unreachable.has(insn)).toBe(true);
    expect(await withBoundsTold(DEFAULT_CONFIG, request, [0, 1, 2, 11])).toBeUndefined();
  });

  it('is precision where what a callback returns is known by a division', async () => {
    const kernel = await openKernelVerifier(false);
    if (typeof kernel === 'string') return;
    const returns = (last: string) =>
      requestOf(
        `r1 = 4\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n r0 = 2\n exit\n cb: r0 = 7\n ${last}\n exit`,
      );
    const request = returns('r0 /= 7');
    const judges = { abstract, kernel };
    const generated = caseOf(request.program);
    const kernels = await kernel.verify(request);
    expect(kernels).toMatchObject({ accepted: false, code: 'callback-invalid' });
    const meaning = await meaningOf({ guest: judges, root: judges }, 'guest', generated, {
      abstract: { verification: await abstract.verify(request), program: 0 },
      kernel: { verification: kernels, program: 0 },
    });
    expect(meaning).toBe('precision');
    // It is not what the kernel takes anyway: it takes no more than 1.
    expect((await abstract.verify(returns('r0 /= 3'))).accepted).toBe(false);
  });

  /** R0 may be NULL, and is compared with a register, which is 0 on one way and `other` on the second. */
  const checked = (other: number, access = 'r0 = *(u8 *)(r0 +0)') =>
    requestOf(
      `r7 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -4) = r7\n r6 = 0\n if r7 > 3 goto zero\n r6 = ${other}\n zero: r1 = map[flows]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n if r6 == r0 goto out\n ${access}\n out: r0 = 2\n exit`,
    );

  it('is a NULL in a register where the kernel accepts a constant in its place', async () => {
    const kernel = await openKernelVerifier(true);
    if (typeof kernel === 'string') return;
    const root = new AbstractVerifier({ ...DEFAULT_CONFIG, allowPointerLeaks: true });
    const judges = { abstract: root, kernel };
    const of = async (request: VerifyRequest, ours = request) =>
      meaningOf({ guest: judges, root: judges }, 'root', caseOf(request.program), {
        abstract: { verification: await root.verify(ours), program: 0 },
        kernel: { verification: await kernel.verify(request), program: 0 },
      });
    expect(await of(checked(0))).toBe('NULL in a register');
    // What is no check for NULL, or would not be enough of one, excuses nothing, whoever says that it was accepted.
    expect((await root.verify(checked(5))).accepted).toBe(false);
    expect(await of(checked(5), checked(0))).toBe('safety');
    expect(await of(checked(0, 'r0 = *(u8 *)(r0 +8)'), checked(0))).toBe('safety');
  });

  it('is precision where the kernel accepts with the bounds of abstract, and safety where it then does not', async () => {
    const kernel = await openKernelVerifier(false);
    if (typeof kernel === 'string') return;
    const { length } = requestOf(text(20)).program.insns;
    const of = async (insns: string, rejects: (request: VerifyRequest) => boolean) => {
      const { program } = requestOf(insns);
      const stern: Verifier = {
        name: 'kernel',
        verify: async (request) =>
          rejects(request)
            ? {
                ...(await kernel.verify(request)),
                accepted: false,
                code: 'map-value-bounds',
                reason: 'stern',
                insn: ACCESS + request.program.insns.length - length,
              }
            : kernel.verify(request),
      };
      const generated = caseOf(program);
      const each = { abstract, kernel: stern };
      return meaningOf({ guest: each, root: each }, 'guest', generated, {
        abstract: { verification: await abstract.verify(requestOf(insns)), program: 0 },
        kernel: { verification: await stern.verify(requestOf(insns)), program: 0 },
      });
    };
    expect(await of(text(20), ({ program }) => program.insns.length === length)).toBe('precision');
    expect(await of(text(20), () => true)).toBe('safety');
  });
});
