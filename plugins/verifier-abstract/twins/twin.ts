import { BtfEncoder } from '../../../src/bpf/btf/btf-encoder.js';
import type { MapBtf } from '../../../src/bpf/btf/map-btf.js';
import {
  BPF_F_INNER_MAP,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE,
} from '../../../src/bpf/map-spec.js';
import { assemble } from '../../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../../src/bpf/program.js';
import type { VerifierMap, VerifyRequest } from '../../../src/core/contract/verifier.js';
import type { RejectionCode } from '../rejection-codes.js';

/** An unsafe program and the same with the least change that makes it safe. */
export interface Twin {
  readonly name: string;
  readonly code: RejectionCode;
  /** Assembler text; the maps of TWIN_MAPS can be named. */
  readonly rejected: string;
  readonly accepted: string;
  /** Not GPL-compatible when false. */
  readonly gpl?: boolean;
  /** The kernel accepts the rejected form when root loads it, and why we do not. */
  readonly kernelAcceptsAsRoot?: string;
  /** The class of a fault of the kernel's verifier that was published: CVE numbers, or in words. */
  readonly publishedAs?: string;
  /** The kernel rejects the accepted form, and why we do not. */
  readonly kernelRejectsAccepted?: string;
}

const map = (
  name: string,
  type: number,
  keySize: number,
  valueSize: number,
  maxEntries: number,
  rest: Partial<VerifierMap> = {},
): VerifierMap => ({ name, type, keySize, valueSize, maxEntries, flags: 0, ...rest });

const inner = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  flags: BPF_F_INNER_MAP,
};

/** BTF of a u32 key and of a value of these members, each a u32 or a struct of that name. */
function btf(...members: readonly (readonly [type: string, bytes: number])[]): MapBtf {
  const encoder = new BtfEncoder();
  const number = encoder.type('INT', { name: '__u32', sizeOrType: 4, body: [32] });
  let at = 0;
  const body = members.flatMap(([name, size], index) => {
    const type = name === 'u32' ? number : encoder.type('STRUCT', { name, sizeOrType: size });
    const member = [encoder.string(`m${index}`), type, at * 8];
    at += size;
    return member;
  });
  const valueType = encoder.type('STRUCT', { name: 'value', vlen: members.length, sizeOrType: at, body });
  return { bytes: encoder.bytes(), keyType: number, valueType };
}

const LOCK = ['bpf_spin_lock', 4] as const;
const WORD = ['u32', 4] as const;
const lockBtf = btf(LOCK, WORD, WORD, WORD);

const rodata = new Uint8Array(32);
rodata.set(new TextEncoder().encode('hello'), 0);
rodata.set(new TextEncoder().encode('%ps'), 8);
rodata.set([5, 0, 0, 0], 16);
rodata.set(new TextEncoder().encode('n=%d'), 20);
rodata.set(new TextEncoder().encode('%s'), 26);

/** Maps that every twin can use, by name; the handle is the place in the list plus 1. */
export const TWIN_MAPS: readonly VerifierMap[] = [
  map('flows', BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 4, 8, 16),
  map('values', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 16, 4),
  map('wide', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 256, 1),
  map('programs', BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4),
  map('ring', BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096),
  map('devices', BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP, 4, 4, 4),
  map('nested', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, { inner }),
  map('constants', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 32, 1, {
    flags: BPF_F_RDONLY_PROG,
    frozenValue: rodata,
  }),
  map('sink', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 8, 4, { flags: BPF_F_WRONLY_PROG }),
  map('queue', BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, 0, 8, 4),
  map('events', BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4),
  // What is not what it seems: inner hashes may be larger, arrays of a flag as well; elements come while one iterates.
  map('tables', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, {
    inner: { ...inner, type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, maxEntries: 2 },
  }),
  map('pair', BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 4, 8, 2),
  map('texts', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 32, 2, { flags: BPF_F_RDONLY_PROG, frozenValue: rodata }),
  map('outbox', BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, 0, 8, 4, { flags: BPF_F_WRONLY_PROG }),
  // What is not all data.
  map('locks', BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 4, 16, 16, { btf: lockBtf }),
  map('rooms', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 16, 4, { btf: lockBtf }),
  map('gate', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 16, 1, { btf: lockBtf }),
  map('door', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 16, 1, { btf: lockBtf }),
  map('recent', BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, 4, 16, 4, { btf: lockBtf }),
  map('twolocks', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 16, 1, { btf: btf(LOCK, WORD, LOCK, WORD) }),
  map('timers', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4, 24, 1, { btf: btf(['bpf_timer', 16], WORD, WORD) }),
  map('empty', BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, 4, 0, 4),
  map('sockets', BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP, 4, 4, 4),
];

const HANDLES = new Map(TWIN_MAPS.map(({ name }, index) => [name, index + 1]));
const MAPS = new Map(TWIN_MAPS.map((twinMap, index) => [index + 1, twinMap]));

/** One form of a twin, ready to be judged. */
export function requestOfTwin(twin: Twin, form: 'rejected' | 'accepted'): VerifyRequest {
  const program: Program = {
    name: 'twin',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: twin.gpl !== false,
    insns: assemble(twin[form], { maps: HANDLES }),
  };
  return { program, maps: MAPS };
}

/** R2 = data, R3 = data_end. */
export const PACKET = `
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
`;

/** R0 = pointer to the value of \`values\` under key 0, or NULL; the key is not a constant. */
export const LOOKUP = `
  r7 = *(u32 *)(r1 +16)
  *(u32 *)(r10 -4) = r7
  r2 = r10
  r2 += -4
  r1 = map[values]
  call bpf_map_lookup_elem
`;

/** As LOOKUP, and NULL is dealt with; the program has to have the label \`out\`. */
export const FOUND = `${LOOKUP}
  if r0 == 0 goto out
`;

export const PASS = `
  r0 = 2
  exit
`;
