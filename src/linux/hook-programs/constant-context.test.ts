import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { probeBpf } from '../bpf-probe.js';
import { KernelCase } from '../testing-kernel-case.js';
import { testRunXdp } from '../test-run.js';
import { constantContext } from './constant-context.js';
import { replaceMap } from './replace-map.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const xdp = (text: string): Program => ({
  name: 'constants',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

const array = (handle: number, first: number) => ({
  handle,
  name: `array${handle}`,
  attributes: { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 },
  initial: [{ key: new Uint8Array(4), value: Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 0) }],
});

async function factsOf(
  program: Program,
  maps: readonly ReturnType<typeof array>[] = [],
): Promise<ProgramFacts> {
  const known = new Map(maps.map(({ handle, name, attributes }) => [handle, { name, ...attributes }]));
  const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program, maps: known });
  if (!verification.accepted) throw new Error(verification.reason);
  return verification.facts!;
}

const PACKET = { packet: new Uint8Array(64) };

describe.skipIf(skipped !== '')(`constants instead of the context in the kernel${skipped}`, () => {
  // From the stack as from the context, at the same offsets.
  const program = xdp(`
    *(u64 *)(r10 -24) = 700
    *(u64 *)(r10 -16) = 1000
    *(u64 *)(r10 -8) = 0
    r6 = r1
    r0 = *(u32 *)(r6 +12)
    r2 = *(u32 *)(r6 +16)
    r0 <<= 8
    r0 += r2
    r3 = r10
    r3 += -28
    r2 = *(u32 *)(r3 +12)
    r0 += r2
    exit`);

  it('replaces the fields that it is given, and no other load', async () => {
    const facts = await factsOf(program);
    const kernel = new KernelCase();
    try {
      const run = (variant: Program): number => testRunXdp(kernel.load(variant), PACKET).verdict;
      // The kernel's own: loopback, queue 0.
      expect(run(program)).toBe((1 << 8) + 1000);
      const tap = constantContext(program, { ingress_ifindex: 5 }, facts);
      expect(run(tap.program)).toBe((5 << 8) + 1000);
      // What is constant now is no fact of the context any more.
      const queue = constantContext(tap.program, { ingress_ifindex: 7, rx_queue_index: 3 }, tap.facts);
      expect(run(queue.program)).toBe((5 << 8) + 3 + 1000);
    } finally {
      kernel.close();
    }
  });

  it('extends the sign where the load does', async () => {
    const signed = xdp('r0 = *(s32 *)(r1 +16)\nr0 >>= 32\nexit');
    const facts = await factsOf(signed);
    const kernel = new KernelCase();
    try {
      const variant = constantContext(signed, { rx_queue_index: 0x80000000 }, facts);
      expect(testRunXdp(kernel.load(variant.program), PACKET).verdict).toBe(0xffffffff);
      const unsigned = xdp('r0 = *(u32 *)(r1 +16)\nr0 >>= 32\nexit');
      const plain = constantContext(unsigned, { rx_queue_index: 0x80000000 }, await factsOf(unsigned));
      expect(testRunXdp(kernel.load(plain.program), PACKET).verdict).toBe(0);
    } finally {
      kernel.close();
    }
  });

  it('puts a map in the place of another, its facts as well', async () => {
    const maps = [array(1, 11), array(2, 22)];
    const reads = xdp(
      'r1 = map[fd:1][0]+0\nr0 = *(u32 *)(r1 +0)\nr1 = map[fd:2][0]+0\nr2 = *(u32 *)(r1 +0)\nr0 += r2\nexit',
    );
    const kernel = new KernelCase(maps);
    try {
      const { program: variant, facts } = replaceMap(reads, 1, 2, await factsOf(reads, maps));
      expect(testRunXdp(kernel.load(reads), PACKET).verdict).toBe(33);
      expect(testRunXdp(kernel.load(variant), PACKET).verdict).toBe(44);
      expect(facts).toEqual(await factsOf(variant, maps));
    } finally {
      kernel.close();
    }
  });
});
