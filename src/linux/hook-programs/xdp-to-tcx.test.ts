import { readdirSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { disassemble } from '../../bpf/disassembler.js';
import { readObject } from '../../bpf/elf/object-spec.js';
import type { Program } from '../../bpf/program.js';
import { ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { ethernetFrames, readCapture } from '../../packet/capture.js';
import { SeededRandom } from '../../conformance/verifier/seeded-random.js';
import { XDP_PASS, XDP_TX } from '../../bpf/xdp.js';
import type { ProgramFacts, VerifierMap } from '../../core/contract/verifier.js';
import { generateCase } from '../../conformance/program-generator/index.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { probeBpf } from '../bpf-probe.js';
import { loadKernelObject } from '../kernel-object.js';
import { KernelCase, mapLines, pinToFirstCpu, type KernelCaseMap } from '../testing-kernel-case.js';
import { testRunSkb, testRunXdp } from '../test-run.js';
import { clearLeftovers } from './clear-leftovers.js';
import { replaceExits } from './main-function.js';
import { NO_VERDICT_COUNTER, VERDICT_COUNTERS, VERDICT_COUNTERS_MAP } from './verdict-counters.js';
import { TCX_ACTION } from './tcx-action.js';
import { SAME_HELPERS, xdpToTcx, type TcxOptions } from './xdp-to-tcx.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const COUNTERS: KernelCaseMap = {
  handle: 100,
  name: 'counters',
  attributes: VERDICT_COUNTERS_MAP,
  initial: [],
};
const LOOPBACK = 1;
const TX = { ifindex: LOOPBACK, into: 'ingress' } as const;
/** What BPF_PROG_TEST_RUN gives an XDP program. */
const TEST_RUN_CONTEXT = { ingress_ifindex: LOOPBACK, rx_queue_index: 0 };

const xdp = (text: string): Program => ({
  name: 'to_tcx',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

async function factsOf(
  program: Program,
  maps: ReadonlyMap<number, VerifierMap> = new Map(),
): Promise<ProgramFacts> {
  const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program, maps });
  if (!verification.accepted) throw new Error(verification.reason);
  return verification.facts!;
}

async function convert(program: Program, options: Partial<TcxOptions> = {}) {
  return xdpToTcx(program, { facts: await factsOf(program), tx: TX, ...options });
}

/** The action that corresponds to an XDP verdict. */
function actionOf(verdict: number): number {
  if (verdict === XDP_PASS) return TCX_ACTION.TCX_NEXT;
  return verdict === XDP_TX ? TCX_ACTION.TCX_REDIRECT : TCX_ACTION.TCX_DROP;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const PROGRAMS = new URL('../../../testbeds/programs/', import.meta.url);
/** What takes too long to verify for a test, and what is rejected. */
const NOT_RUN = new Set(['nat.o', 'too_big.o']);
const OBJECTS = readdirSync(PROGRAMS).filter((name) => name.endsWith('.o') && !NOT_RUN.has(name));

describe('xdpToTcx', () => {
  const read = (field: string): Program => xdp(`r2 = *(u32 *)(r1 +${field})\nr0 = 2\nexit`);

  it.each([
    [
      'call bpf_xdp_adjust_head',
      'bpf_xdp_adjust_head has no twin: what moves the start of an skb changes its headers, too',
    ],
    ['call bpf_xdp_adjust_meta', 'bpf_xdp_adjust_meta has no twin: on egress there is no metadata'],
    [
      'call bpf_xdp_adjust_tail',
      'bpf_xdp_adjust_tail has no twin: bpf_skb_change_tail cuts no frame shorter than its headers, and none that is to be segmented',
    ],
  ])('refuses %s, naming insn and helper', async (call, reason) => {
    expect(await convert(xdp(`r2 = 0\n${call}\nr0 = 2\nexit`))).toEqual({ ok: false, reason, insn: 1 });
  });

  it('refuses redirects, tail calls, other helpers and kernel functions', async () => {
    const facts: ProgramFacts = { accesses: new Map(), calls: new Map(), unreachable: new Set() };
    const refusal = (text: string): unknown => xdpToTcx(xdp(text), { facts, tx: TX });
    for (const [helper, why] of [
      [
        'bpf_redirect',
        'returns other numbers and takes other flags in tcx; where a frame may go is the host’s matter',
      ],
      ['bpf_redirect_map', 'is not to be had in tcx'],
      ['bpf_tail_call', 'goes to XDP programs, which would have to be rewritten as well'],
      ['bpf_fib_lookup', 'compares the skb with the MTU as well in tcx'],
      ['bpf_check_mtu', 'lets frames that are to be segmented pass in tcx'],
      ['bpf_sk_lookup_tcp', 'is not known to do the same in tcx'],
    ]) {
      const reason = `${helper} ${why}`;
      expect(refusal(`r0 = 0\ncall ${helper}\nexit`)).toEqual({ ok: false, reason, insn: 1 });
    }
    const reason = 'it calls a function of the kernel, which need not be there for tcx';
    expect(refusal('call kernel-function#3\nexit')).toEqual({ ok: false, reason, insn: 0 });
  });

  it('takes away what no path leads to, whole functions included, and drops what would come to it', () => {
    const program = xdp(`
      r6 = 1
      if r6 != 1 goto never
      call f
      exit
    never:
      call bpf_xdp_adjust_head
      call g
      exit
    f:
      r0 = 2
      if r6 == 7 goto later
      exit
    later:
      r0 = 3ll
      exit
    g:
      call bpf_xdp_adjust_head
      exit`);
    const unreachable = new Set([4, 5, 6, 10, 12, 13, 14]);
    const facts: ProgramFacts = { accesses: new Map(), calls: new Map(), unreachable };
    const result = xdpToTcx(program, { facts, tx: TX });
    if (!result.ok) throw new Error(result.reason);
    expect(disassemble(result.program.insns)).toBe(
      disassemble(
        assemble(`
          r6 = 1
          if r6 != 1 goto never
          call f
        exit:
          if w0 == 2 goto pass
          if w0 == 3 goto tx
          w0 = 2
          exit
        pass:
          w0 = -1
          exit
        tx:
          w1 = 1
          w2 = 1
          call bpf_redirect
          exit
        never:
          w0 = 0
          goto exit
        f:
          r0 = 2
          if r6 == 7 goto later
          exit
        later:
          r0 = 0
          exit`),
      ),
    );
    expect(result.facts!.unreachable.size).toBe(0);
  });

  it('refuses fields that an skb on egress does not have, unless it is given a number', async () => {
    const refusal = (reason: string): unknown => ({ ok: false, reason, insn: 0 });
    expect(await convert(read('8'))).toEqual(
      refusal('it reads data_meta: metadata in front of the packet is not there on egress'),
    );
    expect(await convert(read('16'))).toEqual(
      refusal(
        'it reads rx_queue_index, which an skb on egress does not have, and no number was given for it',
      ),
    );
    expect(await convert(read('16'), { context: { rx_queue_index: 2 } })).toMatchObject({ ok: true });
    const devmap = { ...read('20'), attachType: 'BPF_XDP_DEVMAP' } as const;
    expect(await convert(devmap)).toEqual(refusal('it reads egress_ifindex, for which no number was given'));
    expect(await convert(devmap, { context: { egress_ifindex: 2 } })).toMatchObject({ ok: true });
  });

  it('is a SCHED_CLS program without frags and without facts of an XDP context', async () => {
    const result = await convert({
      ...xdp('r2 = *(u32 *)(r1 +0)\n*(u64 *)(r10 -8) = 1\nr0 = 2\nexit'),
      frags: true,
    });
    if (!result.ok) throw new Error(result.reason);
    expect(result.program).toMatchObject({ type: 3, frags: undefined });
    expect([...result.facts!.accesses.values()].map(({ region }) => region)).toEqual(['stack']);
  });

  it('puts nothing in front of a program that does not look at the packet', async () => {
    const result = await convert(xdp('r0 = *(u32 *)(r1 +12)\nexit'));
    if (!result.ok) throw new Error(result.reason);
    expect(result.program.insns[0]).toEqual(assemble('r0 = *(u32 *)(r1 +40)')[0]);
  });
});

describe.skipIf(skipped !== '')(`xdpToTcx in the kernel${skipped}`, () => {
  beforeAll(pinToFirstCpu);

  async function run(program: Program, packet: Uint8Array, before = '') {
    const kernel = new KernelCase([COUNTERS]);
    try {
      const result = await convert(program, { counters: COUNTERS.handle });
      if (!result.ok) throw new Error(result.reason);
      const editor = new ProgramEditor(result.program);
      editor.insertBefore(0, { insns: assemble(before) }, { jumps: 'past' });
      const after = testRunSkb(kernel.load(editor.finish().program), packet);
      const counts = Array.from({ length: VERDICT_COUNTERS }, (_, index) =>
        kernel.sum(COUNTERS.handle, index),
      );
      return { ...after, packet: hex(after.packet), counts };
    } finally {
      kernel.close();
    }
  }

  it.each([
    [0, TCX_ACTION.TCX_DROP],
    [1, TCX_ACTION.TCX_DROP],
    [2, TCX_ACTION.TCX_NEXT],
    [3, TCX_ACTION.TCX_REDIRECT],
    [4, TCX_ACTION.TCX_DROP],
    [5, TCX_ACTION.TCX_DROP],
    [-1, TCX_ACTION.TCX_DROP],
  ])('turns verdict %d into action %d and counts it as a verdict', async (verdict, action) => {
    const { counts, ...after } = await run(xdp(`r0 = ${verdict}\nexit`), new Uint8Array(64));
    expect(after.action).toBe(action);
    expect(counts.map((count, index) => count > 0 && index).filter((index) => index !== false)).toEqual([
      verdict < 0 ? NO_VERDICT_COUNTER : verdict,
    ]);
  });

  it('keeps only helpers that both types of program have', () => {
    const kernel = new KernelCase();
    try {
      const isKnown = (type: number, helper: number): boolean => {
        // Its arguments are wrong; what a type does not have is not looked at that far.
        const result = kernel.tryLoad({ ...xdp(`call ${helper}\nr0 = 2\nexit`), type });
        return typeof result === 'number' || !/unknown func|cannot use helper/.test(result);
      };
      const missing = [...SAME_HELPERS].filter((helper) => !isKnown(6, helper) || !isKnown(3, helper));
      expect(missing).toEqual([]);
      expect([isKnown(3, 51), isKnown(6, 51)]).toEqual([false, true]);
    } finally {
      kernel.close();
    }
  });

  // Loads all of a packet that it takes for one of 64 bytes, counts how often, and passes it on.
  const ADDRESSES = 'ffffffffffff021122334455';
  const BODY = `0800${'00'.repeat(50)}`;
  const untagged = Uint8Array.from(Buffer.from(ADDRESSES + BODY, 'hex'));
  /** Verdict XDP_PASS if the packet in memory has `length` bytes and `tpid` behind the addresses. */
  const expects = (length: number, tpid: number): Program =>
    xdp(`
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += ${length}
      r0 = 1
      if r4 != r3 goto out
      if r4 > r3 goto out
      r5 = *(u16 *)(r2 +12)
      r5 = be16 r5
      if r5 != ${tpid} goto out
      *(u8 *)(r2 +${length - 1}) = 0xee
      r0 = 2
    out:
      exit`);
  const changed = (text: string): string => `${text.slice(0, -2)}ee`;
  const push = (proto: number, tci: number): string =>
    `r6 = r1\nr2 = ${((proto & 0xff) << 8) | (proto >> 8)}\nr3 = ${tci}\ncall bpf_skb_vlan_push\nr1 = r6`;

  it('shows a packet without a tag as it is', async () => {
    expect(await run(expects(64, 0x0800), untagged)).toMatchObject({
      action: TCX_ACTION.TCX_NEXT,
      packet: changed(ADDRESSES + BODY),
    });
  });

  it('shows a VLAN tag of the metadata where it is in a frame', async () => {
    const after = await run(expects(68, 0x8100), untagged, push(0x8100, 0x6abc));
    expect(after).toMatchObject({
      action: TCX_ACTION.TCX_NEXT,
      packet: changed(`${ADDRESSES}81006abc${BODY}`),
    });
  });

  it('shows an outer and an inner tag, in that order', async () => {
    const after = await run(
      expects(72, 0x88a8),
      untagged,
      `${push(0x8100, 0x0123)}\n${push(0x88a8, 0x0456)}`,
    );
    expect(after).toMatchObject({
      action: TCX_ACTION.TCX_NEXT,
      packet: changed(`${ADDRESSES}88a804568100${'0123'}${BODY}`),
    });
  });

  it('aborts what has three tags', async () => {
    const three = [push(0x8100, 1), push(0x8100, 2), push(0x88a8, 3)].join('\n');
    const after = await run(expects(76, 0x88a8), untagged, three);
    expect(after).toMatchObject({ action: TCX_ACTION.TCX_DROP, counts: [1, 0, 0, 0, 0, 0] });
  });

  it('tells helpers the length with the tag in it', async () => {
    const length = xdp('call bpf_xdp_get_buff_len\nif r0 != 68 goto out\nr0 = 2\nout:\nexit');
    expect(await run(length, untagged, push(0x8100, 5))).toMatchObject({ action: TCX_ACTION.TCX_NEXT });
  });

  it.each(['load', 'store'])(
    'gives bpf_xdp_%s_bytes the errors and the buffer that XDP gives it',
    async (what) => {
      const copy = (offset: number, length: number): Program =>
        xdp(`
        r6 = r1
        *(u64 *)(r10 -16) = 0x11223344
        *(u64 *)(r10 -8) = 0x55667788
        r2 = ${offset}ll
        r3 = r10
        r3 += -16
        r4 = ${length}
        call bpf_xdp_${what}_bytes
        r1 = *(u64 *)(r10 -16)
        r0 *= 31
        r0 += r1
        r1 = *(u64 *)(r10 -8)
        r0 *= 31
        r0 += r1
        r1 = r0
        r1 >>= 32
        r0 ^= r1
        w0 %= 251
        w0 += 7
        exit`);
      /** The sum is no verdict: both sides store it where both can be read, in the packet. */
      const storing = (program: Program): Program => {
        const editor = new ProgramEditor(program);
        const code = `
        *(u64 *)(r10 -8) = 0
        *(u32 *)(r10 -8) = r0
        r1 = r6
        r2 = 60
        r3 = r10
        r3 += -8
        r4 = 4
        call bpf_xdp_store_bytes
        r0 = 2
        exit`;
        replaceExits(editor, program, { insns: assemble(code) });
        return editor.finish().program;
      };
      const packet = Uint8Array.from({ length: 64 }, (_, at) => at + 1);
      const sums = new Set<string>();
      for (const [offset, length] of [
        [0, 16],
        [5, 3],
        [48, 16],
        [49, 16],
        [64, 1],
        [63, 1],
        [0xffff, 16],
        [0x10000, 16],
        [0xffffffff, 16],
        // Only the lower 32 bits count.
        [0x100000004, 8],
      ] as const) {
        const program = storing(copy(offset, length));
        const kernel = new KernelCase();
        try {
          // What a guest's program is given as XDP, too.
          const plain = clearLeftovers(program, { zeros: 100, facts: await factsOf(program) });
          if (!plain.ok) throw new Error(plain.reason);
          const before = testRunXdp(kernel.load(plain.program), { packet });
          const after = await run(program, packet);
          expect(after.packet, `${offset}, ${length}`).toBe(hex(before.packet));
          sums.add(hex(before.packet));
        } finally {
          kernel.close();
        }
      }
      expect(sums.size).toBeGreaterThan(5);
    },
  );

  it('does what generated programs do: verdict, packet and maps', async () => {
    let [compared, frames, everyVerdict] = [0, 0, 0];
    let voided = 0;
    for (let seed = 1; seed <= 350; seed++) {
      const generated = generateCase(seed, { target: 'kernel', statements: 15 });
      const program = withSmallVerdicts(generated.programs[0]!);
      const attributes = new Map(
        generated.maps.map((map) => [map.handle, { ...map.attributes, name: map.name }]),
      );
      const result = xdpToTcx(program, {
        facts: await factsOf(program, attributes),
        tx: TX,
        counters: COUNTERS.handle,
        context: TEST_RUN_CONTEXT,
      });
      if (!result.ok) continue;
      const [plain, tcx] = [new KernelCase(generated.maps), new KernelCase(generated.maps)];
      try {
        tcx.addMap(COUNTERS);
        const original = plain.tryLoad(program);
        if (typeof original === 'string') continue;
        const variant = tcx.tryLoad(result.program);
        if (typeof variant === 'string') {
          // bpf_skb_store_bytes voids pointers into the packet, bpf_xdp_store_bytes does not.
          expect(
            program.insns.some(({ opcode, imm }) => opcode === 0x85 && imm === 190),
            variant,
          ).toBe(true);
          voided++;
          continue;
        }
        const tally = new Array<number>(VERDICT_COUNTERS).fill(0);
        for (const { packet } of generated.frames) {
          // What an XDP program with frags sees of a longer frame is its first page.
          if (packet.length > LONGEST_SKB || !isTakenAsSkb(packet)) continue;
          const before = testRunXdp(original, { packet });
          const after = testRunSkb(variant, packet);
          expect(after.action, `seed ${seed}`).toBe(actionOf(before.verdict));
          expect(hex(after.packet), `seed ${seed}`).toBe(hex(before.packet));
          tally[Math.min(before.verdict, NO_VERDICT_COUNTER)]!++;
          frames++;
        }
        const lines = tcx.mapLines().filter((line) => !line.startsWith('map counters:'));
        expect(lines, `seed ${seed}`).toEqual(plain.mapLines());
        const counts = tally.map((_, index) => tcx.sum(COUNTERS.handle, index));
        expect(counts, `seed ${seed}`).toEqual(tally);
        everyVerdict |= tally.reduce((bits, count, verdict) => bits | (count > 0 ? 1 << verdict : 0), 0);
        compared++;
      } finally {
        plain.close();
        tcx.close();
      }
    }
    expect(compared).toBeGreaterThan(240);
    expect(frames).toBeGreaterThan(500);
    expect(everyVerdict).toBe(0b111111);
    expect(voided).toBeLessThan(5);
  });

  /** Programs of testbeds/programs that are refused, with the first word of why; all others are not. */
  const REFUSED: Readonly<Record<string, string>> = {
    push_header: 'bpf_xdp_adjust_head',
    pop_header: 'bpf_xdp_adjust_head',
    trim_tail: 'bpf_xdp_adjust_tail',
    grow_tail: 'bpf_xdp_adjust_tail',
    meta_roundtrip: 'it',
    balance_ipv4: 'bpf_xdp_adjust_head',
    balance: 'bpf_tail_call',
    to_device: 'bpf_redirect_map',
    to_all_devices: 'bpf_redirect_map',
    to_cpu: 'bpf_redirect_map',
    to_socket: 'bpf_redirect_map',
    to_ifindex: 'bpf_redirect',
    stage1: 'bpf_tail_call',
    stage2: 'bpf_tail_call',
    stage3: 'bpf_tail_call',
    tail_entry: 'bpf_tail_call',
    xdp_redirect: 'bpf_redirect_map',
  };

  it.each(OBJECTS)('does what the programs of %s do', async (file) => {
    const object = readObject(readFileSync(new URL(file, PROGRAMS)));
    // BPF_PROG_TEST_RUN runs no programs of device and CPU maps.
    for (const spec of object.programs.filter(({ attachType }) => attachType === 'BPF_XDP')) {
      const [plain, tcx] = [object, object].map((each) => loadKernelObject(each, spec));
      if (!plain!.accepted || !tcx!.accepted) throw new Error(`${spec.name} is rejected`);
      const counters = new KernelCase([COUNTERS]);
      try {
        const names = [...tcx!.maps.keys()];
        const known = new Map<number, VerifierMap>(
          names.map((name, index) => {
            const map = object.maps.find((other) => other.name === name)!;
            const [first] = map.initial;
            const content = first !== undefined && 'value' in first ? first.value : undefined;
            return [index + 1, { ...map, frozenValue: map.frozen === true ? content : undefined }];
          }),
        );
        const result = xdpToTcx(tcx!.program, {
          facts: await factsOf(tcx!.program, known),
          tx: TX,
          counters: COUNTERS.handle,
          context: TEST_RUN_CONTEXT,
        });
        expect(result.ok ? undefined : result.reason.split(' ', 1)[0], spec.name).toBe(REFUSED[spec.name]);
        if (!result.ok) continue;
        for (const [handle, fd] of tcx!.handles) counters.fds.set(handle, fd);
        const variant = counters.load(result.program);
        const verdicts = new Set<number>();
        for (const packet of REAL_FRAMES) {
          const before = testRunXdp(plain!.programFd, { packet });
          const after = testRunSkb(variant, packet);
          expect([after.action, hex(after.packet)], spec.name).toEqual([
            actionOf(before.verdict),
            hex(before.packet),
          ]);
          verdicts.add(before.verdict);
        }
        const lines = (maps: ReadonlyMap<string, number>): string[] =>
          object.maps
            .filter(({ name }) => maps.has(name))
            .flatMap((map) =>
              mapLines({ name: map.name, attributes: map }, maps.get(map.name)!).map((line) =>
                file === 'globals.o' ? withoutTime(line) : line,
              ),
            );
        expect(lines(tcx!.maps), spec.name).toEqual(lines(plain!.maps));
      } finally {
        counters.close();
        plain!.close();
        tcx!.close();
      }
    }
  });
});

/** Of a capture with all sorts of protocols, each frame as it is and with bytes changed, so that parsers turn off late. */
const REAL_FRAMES: readonly Uint8Array[] = (() => {
  const random = new SeededRandom(3);
  const capture = readCapture(
    readFileSync(new URL('../../../testbeds/captures/mixed.pcap', import.meta.url)),
  );
  return ethernetFrames(capture).flatMap(({ data }) => [
    data,
    ...Array.from({ length: 6 }, () => {
      const changed = Uint8Array.from(data);
      for (let i = 0; i < 3; i++) changed[14 + random.below(data.length - 14)] = random.below(256);
      return changed;
    }),
  ]);
})();

/** The last variable of globals.o's .bss is the time of the last packet, a u64. */
function withoutTime(line: string): string {
  return line.startsWith('map .bss:') ? line.slice(0, -16) : line;
}

const LONGEST_SKB = 3000;

/** Newer kernels refuse an skb with the EtherType of IP and no whole header. */
function isTakenAsSkb(packet: Uint8Array): boolean {
  const etherType = (packet[12]! << 8) | packet[13]!;
  return !((etherType === 0x0800 && packet.length < 34) || (etherType === 0x86dd && packet.length < 54));
}

/** What a generated program returns is mostly no verdict: here it is often one. */
function withSmallVerdicts(program: Program): Program {
  const editor = new ProgramEditor(program);
  replaceExits(editor, program, { insns: assemble('w0 %= 6\nexit') });
  return editor.finish().program;
}
