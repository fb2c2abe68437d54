import { helperName } from '../../../bpf/helper-ids.js';
import { mapTypeName } from '../../../bpf/map-spec.js';

/**
 * What a device is able to do for its guest: what a driver may ask for, and what two hosts are compared by before a
 * guest moves from one to the other. A bit or number says what the device can do at all; policies may still deny.
 */
export interface DeviceCapabilities {
  /** Insns of a program. */
  readonly maxInsns: number;
  /** Objects of all kinds together. */
  readonly maxObjects: number;
  /** Bytes of a key. */
  readonly maxKeyBytes: number;
  /** Bytes of a value, of all CPUs together. */
  readonly maxValueBytes: number;
  /** Elements of a batch. */
  readonly maxBatch: number;
  /** Bytes of a BTF section. */
  readonly maxBtfBytes: number;
  /** Values in a per-CPU map. */
  readonly cpus: number;
  /** What policies grant the guest at most; 0 where nothing limits it. */
  readonly granted: { readonly maps: number; readonly programs: number; readonly mapMemory: bigint };
  /** Bit n: commands with that number are understood. */
  readonly commands: bigint;
  /** Bit n: BPF_MAP_TYPE_* with that number. */
  readonly mapTypes: bigint;
  /** Bit n: hook point n. */
  readonly hookPoints: bigint;
  /** {@link PROGRAM_FEATURE} */
  readonly programFeatures: bigint;
  /** Bit n: the helper with that number. */
  readonly helpers: bigint;
}

/** Bits of {@link DeviceCapabilities.programFeatures}. */
export const PROGRAM_FEATURE = {
  /** bpf_tail_call into a PROG_ARRAY. */
  TAIL_CALL: 0,
  /** ARRAY_OF_MAPS and HASH_OF_MAPS. */
  MAP_IN_MAP: 1,
  /** BTF for maps and programs. */
  BTF: 2,
  /** Frames in several buffers, BPF_F_XDP_HAS_FRAGS. */
  FRAGS: 3,
  /** XDP_REDIRECT. */
  REDIRECT: 4,
  /** Records of ring buffers and perf events are read over the channel. */
  RECORDS: 5,
  /** Functions of its own (BPF-to-BPF calls). */
  SUBPROGRAMS: 6,
} as const;
export type ProgramFeature = keyof typeof PROGRAM_FEATURE;

/** Of what is missing, so much is called by its name. */
const MAX_NAMED = 8;

/** What `wanted` has that `offered` has not, in words; empty when a guest that uses all of `wanted` gets along. */
export function missingCapabilities(wanted: DeviceCapabilities, offered: DeviceCapabilities): string[] {
  const problems: string[] = [];
  const numbers = [
    ['maxInsns', 'insns of a program'],
    ['maxObjects', 'objects'],
    ['maxKeyBytes', 'bytes of a key'],
    ['maxValueBytes', 'bytes of a value'],
    ['maxBatch', 'elements of a batch'],
    ['maxBtfBytes', 'bytes of BTF'],
  ] as const;
  for (const [field, what] of numbers) {
    if (offered[field] < wanted[field])
      problems.push(`${offered[field]} ${what}, ${wanted[field]} are needed`);
  }
  // Per-CPU values have one length everywhere that a guest knows of.
  if (offered.cpus !== wanted.cpus) {
    problems.push(`${offered.cpus} CPUs in per-CPU maps, ${wanted.cpus} are needed`);
  }
  const number = (bit: number): string => String(bit);
  const sets = [
    ['commands', 'command', number],
    ['mapTypes', 'map type', mapTypeName],
    ['hookPoints', 'hook point', number],
    ['programFeatures', 'program feature', number],
    ['helpers', 'helper', helperName],
  ] as const;
  for (const [field, what, nameOf] of sets) {
    const missing = bits(wanted[field] & ~offered[field]).map(nameOf);
    if (missing.length > MAX_NAMED)
      missing.splice(MAX_NAMED, missing.length, `${missing.length - MAX_NAMED} more`);
    if (missing.length > 0) problems.push(`no ${what} ${missing.join(', ')}`);
  }
  return problems;
}

/** The numbers of the bits that are set, ascending. */
export function bits(set: bigint): number[] {
  const numbers: number[] = [];
  for (let bit = 0, rest = set; rest > 0n; bit++, rest >>= 1n) if ((rest & 1n) === 1n) numbers.push(bit);
  return numbers;
}

export function bitSet(numbers: Iterable<number>): bigint {
  let set = 0n;
  for (const number of numbers) set |= 1n << BigInt(number);
  return set;
}
