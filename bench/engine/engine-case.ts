import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import type { Insn } from '../../src/bpf/insn.js';
import { assemble } from '../../src/bpf/assembler.js';
import { linkProgram } from '../../src/bpf/link.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../src/bpf/map-spec.js';
import {
  BPF_ADD,
  BPF_ATOMIC,
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
  BPF_STX,
  OP_EXIT,
} from '../../src/bpf/opcodes.js';
import { BPF_FIB_LKUP_RET } from '../../src/bpf/runtime/fib-lookup.js';
import type { HelperNetwork } from '../../src/bpf/runtime/helper-world.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { mapSpec, u32Key } from '../../src/conformance/offload/offload-rig.js';

/** One row of the table: a program, its maps and the frames it gets. */
export interface EngineCase {
  readonly name: string;
  readonly program: Program;
  /** By the handle in the program's insns. */
  readonly maps: ReadonlyMap<number, MapSpec>;
  /** Programs to be put in PROG_ARRAYs. */
  readonly programArrays: readonly {
    readonly handle: number;
    readonly index: number;
    readonly program: Program;
  }[];
  /** What is in maps before the clock starts. */
  readonly content: readonly {
    readonly handle: number;
    readonly key: Uint8Array;
    readonly value: Uint8Array;
  }[];
  readonly flows: number;
  /** The frame of a flow. */
  frame(flow: number): Uint8Array;
  /** What helpers see of routes: of the engines' world, and as commands of ip(8) for the kernel. */
  readonly routes?: { readonly network: HelperNetwork; readonly commands: readonly string[] };
}

/**
 * The cases. Each counter is measured twice: as compiled, with an atomic add, which costs the kernel a locked
 * instruction and an executor of one thread nothing, and with a plain add, which is the fairer comparison.
 */
export function engineCases(): EngineCase[] {
  return [
    fromObject('xdp1, 64 B', 'xdp1', 64, 1),
    withPlainAdds(fromObject('xdp1, plain add', 'xdp1', 64, 1)),
    fromObject('xdp2, 64 B', 'xdp2', 64, 1),
    withPlainAdds(fromObject('xdp2, plain add', 'xdp2', 64, 1)),
    fromObject('checksum, 1500 B', 'csum1500', 1500, 1),
    fromObject('5-tuple hash, 1 key', 'flow_count', 64, 1),
    fromObject('5-tuple hash, 1024 keys', 'flow_count', 64, 1024),
    withPlainAdds(fromObject('5-tuple hash, plain add', 'flow_count', 64, 1024)),
    fromObject('4 tail calls', 'tail_chain', 64, 1, 'tail_entry'),
    fromText(
      'bpf_redirect_map',
      REDIRECT_MAP,
      [mapSpec('m', { type: T.BPF_MAP_TYPE_DEVMAP, valueSize: 4 })],
      [{ handle: 1, key: u32Key(0), value: u32Key(LOOPBACK_IFINDEX) }],
    ),
    fromText('hash update, same key', UPDATE, [HASH]),
    fromText('hash update and delete', UPDATE_DELETE, [HASH]),
    fromText('array update', UPDATE, [mapSpec('m')]),
    fromText('bpf_csum_diff, 20 B', CSUM_DIFF, []),
    { ...fromText('bpf_fib_lookup', FIB_LOOKUP, []), routes: { network: STEADY, commands: ROUTES } },
    {
      ...fromText('bpf_fib_lookup, asked anew', FIB_LOOKUP, []),
      routes: { network: NETWORK, commands: ROUTES },
    },
    fromText('ring buffer output, 16 B', RING_OUTPUT, [RING]),
    fromText('ring buffer reserve, submit', RING_RESERVE, [RING]),
  ];
}

const T = BPF_MAP_TYPE;
const HASH = mapSpec('m', { type: T.BPF_MAP_TYPE_HASH, maxEntries: 1024 });
/** An interface that every network namespace has; nothing is sent there. */
const LOOPBACK_IFINDEX = 1;

const REDIRECT_MAP = `
  r1 = map[m]
  r2 = 0
  r3 = 0
  call bpf_redirect_map
  exit`;
/** Key 1, value 7. */
const ENTRY = `
  *(u32 *)(r10 -4) = 1
  *(u64 *)(r10 -16) = 7
  r2 = r10
  r2 += -4
  r1 = map[m]`;
const UPDATE = `${ENTRY}
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  r0 = 2
  exit`;
const UPDATE_DELETE = UPDATE.replace(
  'r0 = 2',
  `${ENTRY}
  call bpf_map_delete_elem
  r0 = 2`,
);
/** Room for what one round of measurement sends; it is emptied in between. */
const RING = mapSpec('m', {
  type: T.BPF_MAP_TYPE_RINGBUF,
  keySize: 0,
  valueSize: 0,
  maxEntries: 4 * 1024 * 1024,
});
/** Flags 1: nobody is woken. */
const RING_OUTPUT = `
  *(u64 *)(r10 -16) = 7
  *(u64 *)(r10 -8) = 8
  r1 = map[m]
  r2 = r10
  r2 += -16
  r3 = 16
  r4 = 1
  call bpf_ringbuf_output
  r0 = 2
  exit`;
const RING_RESERVE = `
  r1 = map[m]
  r2 = 16
  r3 = 0
  call bpf_ringbuf_reserve
  if r0 == 0 goto +5
  *(u64 *)(r0 +0) = 7
  *(u64 *)(r0 +8) = 8
  r1 = r0
  r2 = 1
  call bpf_ringbuf_submit
  r0 = 2
  exit`;
/** Of 10.9.0.2 on the loopback device: sent on, if there is a way. */
const FIB_LOOKUP = `
  ${Array.from({ length: 8 }, (_, i) => `*(u64 *)(r10 ${-64 + 8 * i}) = 0`).join('\n')}
  *(u8 *)(r10 -64) = 2
  *(u32 *)(r10 -56) = ${LOOPBACK_IFINDEX}
  *(u32 *)(r10 -48) = 0x0100000a
  *(u32 *)(r10 -32) = 0x0200090a
  r2 = r10
  r2 += -64
  r3 = 64
  r4 = 0
  call bpf_fib_lookup
  if r0 == 0 goto +2
  r0 = 1
  exit
  r0 = 3
  exit`;
/** All is reached by the gateway 192.168.7.2. */
const NETWORK: HelperNetwork = {
  mtu: () => 1500,
  fibLookup: () => ({
    result: BPF_FIB_LKUP_RET.SUCCESS,
    ifindex: 2,
    mtu: 1500,
    nextHop: Uint8Array.of(192, 168, 7, 2),
    sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
  }),
};
/** Its answers never change. */
const STEADY: HelperNetwork = { ...NETWORK, onChange: () => () => {} };
const ROUTES = [
  'link set lo up',
  'link add out address 02:00:00:00:00:01 type veth peer name far',
  'link set far up',
  'addr add 192.168.7.1/24 dev out',
  'link set out up',
  'neigh add 192.168.7.2 lladdr 02:00:00:00:00:02 nud permanent dev out',
  'route add 10.9.0.0/24 via 192.168.7.2',
];
/** The five words from the IPv4 header of the frame on. */
const CSUM_DIFF = `
  r3 = *(u32 *)(r1 +0)
  r4 = *(u32 *)(r1 +4)
  r0 = 0
  r5 = r3
  r5 += 34
  if r5 > r4 goto +7
  r3 += 14
  r1 = 0
  r2 = 0
  r4 = 20
  r5 = 0
  call bpf_csum_diff
  r0 &= 3
  exit`;

/** A program of few insns, all of whose cost is one helper. */
function fromText(
  name: string,
  text: string,
  specs: readonly MapSpec[],
  content: EngineCase['content'] = [],
): EngineCase {
  const handles = new Map(specs.map((map, index) => [map.name, index + 1]));
  const insns = assemble(text, { maps: handles });
  return {
    name,
    program: { name: 'text', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns },
    maps: new Map(specs.map((map) => [handles.get(map.name)!, map])),
    programArrays: [],
    content,
    flows: 1,
    frame: (flow) => udpFrame(64, flow),
  };
}

function fromObject(name: string, object: string, length: number, flows: number, entry?: string): EngineCase {
  const bytes = readFileSync(join(repositoryRoot(), 'testbeds/programs', `${object}.o`));
  const spec = readObject(bytes, object);
  const handles = new Map(spec.maps.map((map, index) => [map.name, index + 1]));
  const link = (program: string | undefined): Program =>
    linkProgram(
      spec.programs.find((p) => program === undefined || p.name === program)!,
      handles,
    );
  return {
    name,
    program: link(entry),
    maps: new Map(spec.maps.map((map) => [handles.get(map.name)!, map])),
    programArrays: spec.maps.flatMap((map) =>
      map.initial.flatMap((entry) =>
        'programName' in entry
          ? [
              {
                handle: handles.get(map.name)!,
                index: new DataView(entry.key.buffer, entry.key.byteOffset).getUint32(0, true),
                program: link(entry.programName),
              },
            ]
          : [],
      ),
    ),
    content: [],
    flows,
    frame: (flow) => udpFrame(length, flow),
  };
}

/** Replaces `lock *(u64 *)(rD + off) += rS` by a load, an add and a store. */
function withPlainAdds(test: EngineCase): EngineCase {
  const isAtomicAdd = (insn: Insn): boolean =>
    (insn.opcode & ~0x18) === (BPF_STX | BPF_ATOMIC) && insn.imm === BPF_ADD;
  const old = test.program.insns;
  // Where each slot goes; the code grows by two slots at each replacement.
  const place: number[] = [];
  let at = 0;
  for (const insn of old) {
    place.push(at);
    at += isAtomicAdd(insn) ? 3 : 1;
  }
  const insns: Insn[] = [];
  old.forEach((insn, slot) => {
    const klass = insn.opcode & BPF_CLASS_MASK;
    const operation = insn.opcode & BPF_OP_MASK;
    if (isAtomicAdd(insn)) {
      // R5 is free: the add comes after the lookup that clobbered it.
      insns.push({ opcode: 0x79, dst: 5, src: insn.dst, off: insn.off, imm: 0 });
      insns.push({ opcode: 0x0f, dst: 5, src: insn.src, off: 0, imm: 0 });
      insns.push({ opcode: 0x7b, dst: insn.dst, src: 5, off: insn.off, imm: 0 });
    } else if (
      (klass === BPF_JMP || klass === BPF_JMP32) &&
      operation !== BPF_CALL &&
      insn.opcode !== OP_EXIT
    ) {
      insns.push({ ...insn, off: place[slot + 1 + insn.off]! - place[slot]! - 1 });
    } else {
      insns.push(insn);
    }
  });
  return { ...test, program: { ...test.program, insns, debug: undefined } };
}

/** Ethernet, IPv4, UDP; the flow is the source port. Bytes behind the headers count up. */
function udpFrame(length: number, flow: number): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, i) => i & 0xff);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0]);
  view.setUint16(16, length - 14);
  view.setUint16(18, 0);
  view.setUint16(20, 0);
  frame.set([64, 17], 22);
  frame.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  view.setUint16(34, flow, true);
  view.setUint16(36, 9);
  return frame;
}

/** The folder with package.json: this file runs from bench/ as well as from dist/bench/. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}
