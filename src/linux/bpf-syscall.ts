import { closeSync, readFileSync } from 'node:fs';
import { EAGAIN, ENOSPC } from '../bpf/errno.js';
import { encodeInsns, type Insn } from '../bpf/insn.js';
import { libc } from './libc.js';

/**
 * bpf(2) as functions: one per command, every one synchronous. A result below 0 is `-errno`; what is thrown is only
 * `host-unsupported`, where the system call cannot be made at all. File descriptors are close-on-exec, as the
 * kernel makes them, and the caller's to close.
 *
 * Layouts are those of `union bpf_attr`, `struct bpf_prog_info` and `struct bpf_map_info` in
 * include/uapi/linux/bpf.h of 6.18, little-endian, offsets in bytes. All are ABI: fields are only ever appended.
 */

/** `enum bpf_cmd`. */
const BPF_MAP_CREATE = 0;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_MAP_GET_NEXT_KEY = 4;
const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_BTF_LOAD = 18;
const BPF_MAP_FREEZE = 22;

/** Bytes of a map's or a program's name, the terminating NUL included (kernel `BPF_OBJ_NAME_LEN`). */
const BPF_OBJ_NAME_LEN = 16;

/** `log_level` of BPF_PROG_LOAD (include/linux/bpf_verifier.h): bits that may be combined. */
export const BPF_LOG_LEVEL1 = 1;
/** The state after every insn of every path; level 1 keeps only the path that failed. */
export const BPF_LOG_LEVEL2 = 2;
/** Time and stack depth, besides the line of counts that every level ends with. */
export const BPF_LOG_STATS = 4;

/** `prog_flags` of an XDP program that copes with frames in several buffers. */
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;

/**
 * A `union bpf_attr` under construction. It holds on to the memory that the kernel is told about until the call is
 * over.
 */
class Attr {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #referenced: Uint8Array[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  u32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  u64(at: number, value: bigint): this {
    this.#view.setBigUint64(at, value, true);
    return this;
  }

  /** A pointer to `bytes`; null when there are none. */
  pointer(at: number, bytes: Uint8Array | null): this {
    if (bytes === null || bytes.length === 0) return this;
    this.#referenced.push(bytes);
    return this.u64(at, libc().address(bytes));
  }

  /** Cut to 15 characters; what the kernel does not allow in names becomes `_`. */
  name(at: number, name: string): this {
    const ascii = name.slice(0, BPF_OBJ_NAME_LEN - 1).replaceAll(/[^A-Za-z0-9_.]/g, '_');
    this.bytes.set(new TextEncoder().encode(ascii), at);
    return this;
  }

  call(command: number): number {
    const result = libc().bpf(command, this.bytes);
    // The kernel has read and written through bare addresses: the buffers have to outlive the call.
    this.#referenced.length = 0;
    return result;
  }

  read32(at: number): number {
    return this.#view.getUint32(at, true);
  }
}

// Maps ---------------------------------------------------------------------------------------------------------

export interface MapCreation {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** A map with the attributes of what an ARRAY_OF_MAPS or HASH_OF_MAPS may hold. */
  readonly innerMapFd?: number | undefined;
  /** A loaded BTF and the types of key and value in it; a key of type 0 is that of global data. */
  readonly btf?: { readonly fd: number; readonly keyType: number; readonly valueType: number } | undefined;
}

/**
 * BPF_MAP_CREATE: a file descriptor, or `-errno`.
 * ```
 * +0 map_type u32 · +4 key_size u32 · +8 value_size u32 · +12 max_entries u32 · +16 map_flags u32
 * +20 inner_map_fd u32 · +24 numa_node u32 · +28 map_name char[16] · +48 btf_fd u32 · +52 btf_key_type_id u32
 * +56 btf_value_type_id u32
 * ```
 */
export function mapCreate(map: MapCreation): number {
  return new Attr(72)
    .u32(0, map.type)
    .u32(4, map.keySize)
    .u32(8, map.valueSize)
    .u32(12, map.maxEntries)
    .u32(16, map.flags)
    .u32(20, map.innerMapFd ?? 0)
    .name(28, map.name)
    .u32(48, map.btf?.fd ?? 0)
    .u32(52, map.btf?.keyType ?? 0)
    .u32(56, map.btf?.valueType ?? 0)
    .call(BPF_MAP_CREATE);
}

/** `+0 map_fd u32 · +8 key u64 (pointer) · +16 value or next_key u64 (pointer) · +24 flags u64`. */
function elementCall(
  command: number,
  fd: number,
  key: Uint8Array | null,
  value: Uint8Array | null,
  flags: bigint,
): number {
  return new Attr(32).u32(0, fd).pointer(8, key).pointer(16, value).u64(24, flags).call(command);
}

/**
 * BPF_MAP_UPDATE_ELEM: 0 or `-errno`. Key and value have the sizes of the map; a value of a per-CPU map is
 * `roundUp(valueSize, 8) * possibleCpus()` bytes. Into a PROG_ARRAY or a map of maps the value is the program's or
 * the map's file descriptor, a u32. Bytes that are missing would be read beyond the buffer: callers check sizes.
 */
export function mapUpdate(fd: number, key: Uint8Array | null, value: Uint8Array, flags = 0n): number {
  return elementCall(BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
}

/**
 * BPF_MAP_LOOKUP_ELEM: the value, or `-errno`. `valueSize` is as {@link mapUpdate} says; from a PROG_ARRAY or a
 * map of maps the kernel gives the id of what is there.
 */
export function mapLookup(fd: number, key: Uint8Array, valueSize: number, flags = 0n): Uint8Array | number {
  const value = new Uint8Array(valueSize);
  const result = elementCall(BPF_MAP_LOOKUP_ELEM, fd, key, value, flags);
  return result < 0 ? result : value;
}

/** BPF_MAP_DELETE_ELEM: 0 or `-errno`. */
export function mapDelete(fd: number, key: Uint8Array): number {
  return elementCall(BPF_MAP_DELETE_ELEM, fd, key, null, 0n);
}

/** BPF_MAP_GET_NEXT_KEY: the key after `key`, the first one for null; `-ENOENT` after the last. */
export function mapNextKey(fd: number, key: Uint8Array | null, keySize: number): Uint8Array | number {
  const next = new Uint8Array(keySize);
  const result = elementCall(BPF_MAP_GET_NEXT_KEY, fd, key, next, 0n);
  return result < 0 ? result : next;
}

/** BPF_MAP_FREEZE: no more updates through the system call. 0 or `-errno`. `+0 map_fd u32`. */
export function mapFreeze(fd: number): number {
  return new Attr(4).u32(0, fd).call(BPF_MAP_FREEZE);
}

/** What BPF_OBJ_GET_INFO_BY_FD tells of a map. */
export interface MapInfo {
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
}

/**
 * `struct bpf_map_info`, or `-errno`.
 * ```
 * +0 type u32 · +4 id u32 · +8 key_size u32 · +12 value_size u32 · +16 max_entries u32 · +20 map_flags u32
 * +24 name char[16]
 * ```
 */
export function mapInfo(fd: number): MapInfo | number {
  const info = infoByFd(fd, 40);
  if (typeof info === 'number') return info;
  return {
    type: info.getUint32(0, true),
    id: info.getUint32(4, true),
    keySize: info.getUint32(8, true),
    valueSize: info.getUint32(12, true),
    maxEntries: info.getUint32(16, true),
    flags: info.getUint32(20, true),
    name: cString(new Uint8Array(info.buffer, 24, BPF_OBJ_NAME_LEN)),
  };
}

/** CPUs that per-CPU maps have values for: the kernel's possible ones, whether they are there or not. */
export function possibleCpus(): number {
  cpus ??= readPossibleCpus();
  return cpus;
}

let cpus: number | undefined;

/** `0-3`, `0`, `0,2-5`. */
function readPossibleCpus(): number {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'latin1');
  return text
    .trim()
    .split(',')
    .map((range) => range.split('-').map(Number))
    .reduce((count, [first = 0, last = first]) => count + last - first + 1, 0);
}

// Programs -----------------------------------------------------------------------------------------------------

/** BTF that goes with a program: names of its functions and its source lines. */
export interface ProgramBtfRecords {
  readonly btfFd: number;
  /** `struct bpf_func_info` records of 8 bytes: insn_off u32, type_id u32. */
  readonly functions: Uint8Array;
  /** `struct bpf_line_info` records of 16 bytes: insn_off, file_name_off, line_off, line_col u32 each. */
  readonly lines: Uint8Array;
}

export interface ProgramLoad {
  readonly name: string;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  readonly insns: readonly Insn[];
  readonly license: string;
  /** `enum bpf_attach_type`. */
  readonly expectedAttachType: number;
  /** `BPF_F_…`, e.g. {@link BPF_F_XDP_HAS_FRAGS}. */
  readonly flags?: number | undefined;
  /** Bits of `BPF_LOG_…`; 0: no log. */
  readonly logLevel: number;
  /** Bytes of log to read at most, of a longer one the end; {@link MAX_LOG} unless told. */
  readonly maxLog?: number | undefined;
  readonly btf?: ProgramBtfRecords | undefined;
}

export interface ProgramLoadResult {
  /** A file descriptor, or `-errno`: EACCES and EINVAL are the verifier's no, EPERM the lack of a capability. */
  readonly fd: number;
  readonly log: string;
  /** The log was longer than `maxLog`; `log` is its end. */
  readonly logTruncated: boolean;
}

/** The most log that a load reads, in bytes. */
export const MAX_LOG = 16 * 1024 * 1024;
const FIRST_LOG = 256 * 1024;
/** How often a load is tried again that a signal interrupted. */
const RETRIES = 5;

/**
 * BPF_PROG_LOAD. The buffer of the log grows as the kernel asks; where `maxLog` does not hold it, the
 * program is loaded once more with the shortest log, since a log that does not fit is itself a failure.
 * ```
 * +0 prog_type u32 · +4 insn_cnt u32 · +8 insns u64 · +16 license u64 · +24 log_level u32 · +28 log_size u32
 * +32 log_buf u64 · +44 prog_flags u32 · +48 prog_name char[16] · +68 expected_attach_type u32
 * +72 prog_btf_fd u32 · +76 func_info_rec_size u32 · +80 func_info u64 · +88 func_info_cnt u32
 * +92 line_info_rec_size u32 · +96 line_info u64 · +104 line_info_cnt u32 · +140 log_true_size u32 (out)
 * ```
 * insns, license, log_buf, func_info and line_info are pointers.
 */
export function progLoad(program: ProgramLoad): ProgramLoadResult {
  if (program.logLevel === 0) return { ...loadOnce(program, 0, 0), logTruncated: false };
  const limit = program.maxLog ?? MAX_LOG;
  let size = Math.min(FIRST_LOG, limit);
  for (;;) {
    const result = loadOnce(program, program.logLevel, size);
    if (result.fd !== -ENOSPC) return { fd: result.fd, log: result.log, logTruncated: false };
    if (size >= limit) {
      const { fd } = loadOnce(program, BPF_LOG_STATS, FIRST_LOG);
      return { fd, log: result.log, logTruncated: true };
    }
    // Kernels before 6.4 do not tell how much they had to say.
    size = Math.min(limit, Math.max(result.trueSize + 1, size * 4));
  }
}

function loadOnce(
  program: ProgramLoad,
  logLevel: number,
  logSize: number,
): { fd: number; log: string; trueSize: number } {
  const log = new Uint8Array(logSize);
  const attr = new Attr(144)
    .u32(0, program.type)
    .u32(4, program.insns.length)
    .pointer(8, encodeInsns(program.insns))
    .pointer(16, new TextEncoder().encode(`${program.license}\0`))
    .u32(24, logLevel)
    .u32(28, logSize)
    .pointer(32, log)
    .u32(44, program.flags ?? 0)
    .name(48, program.name)
    .u32(68, program.expectedAttachType);
  const { btf } = program;
  if (btf !== undefined) {
    attr
      .u32(72, btf.btfFd)
      .u32(76, FUNC_INFO_SIZE)
      .pointer(80, btf.functions)
      .u32(88, btf.functions.length / FUNC_INFO_SIZE);
    if (btf.lines.length > 0) {
      attr
        .u32(92, LINE_INFO_SIZE)
        .pointer(96, btf.lines)
        .u32(104, btf.lines.length / LINE_INFO_SIZE);
    }
  }
  const retry = attr.bytes.slice();
  let fd = attr.call(BPF_PROG_LOAD);
  // The verifier gives up with EAGAIN when a signal is pending.
  for (let attempt = 1; fd === -EAGAIN && attempt < RETRIES; attempt++) {
    attr.bytes.set(retry);
    fd = attr.call(BPF_PROG_LOAD);
  }
  return { fd, log: cString(log), trueSize: attr.read32(140) };
}

/** Bytes of `struct bpf_func_info` and `struct bpf_line_info`. */
export const FUNC_INFO_SIZE = 8;
export const LINE_INFO_SIZE = 16;

/**
 * BPF_BTF_LOAD: a file descriptor, or `-errno`.
 * `+0 btf u64 (pointer) · +8 btf_log_buf u64 · +16 btf_size u32 · +20 btf_log_size u32 · +24 btf_log_level u32`.
 */
export function btfLoad(btf: Uint8Array): number {
  return new Attr(28).pointer(0, btf).u32(16, btf.length).call(BPF_BTF_LOAD);
}

/** What BPF_OBJ_GET_INFO_BY_FD tells of a program. */
export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Bytes of machine code; 0 when the kernel interprets the program. */
  readonly jitedBytes: number;
  /** Bytes of insns after the verifier's rewriting. */
  readonly xlatedBytes: number;
  /** Insns the verifier walked over, each visit counted. */
  readonly verifiedInsns: number;
  /** Only counted while `kernel.bpf_stats_enabled` is set. */
  readonly runTimeNs: bigint;
  readonly runCount: bigint;
}

/**
 * `struct bpf_prog_info`, or `-errno`.
 * ```
 * +4 id u32 · +16 jited_prog_len u32 · +20 xlated_prog_len u32 · +64 name char[16]
 * +192 run_time_ns u64 · +200 run_cnt u64 · +216 verified_insns u32
 * ```
 */
export function progInfo(fd: number): ProgramInfo | number {
  const info = infoByFd(fd, 232);
  if (typeof info === 'number') return info;
  return {
    id: info.getUint32(4, true),
    name: cString(new Uint8Array(info.buffer, 64, BPF_OBJ_NAME_LEN)),
    jitedBytes: info.getUint32(16, true),
    xlatedBytes: info.getUint32(20, true),
    verifiedInsns: info.getUint32(216, true),
    runTimeNs: info.getBigUint64(192, true),
    runCount: info.getBigUint64(200, true),
  };
}

/** BPF_OBJ_GET_INFO_BY_FD: `+0 bpf_fd u32 · +4 info_len u32 · +8 info u64 (pointer)`. */
function infoByFd(fd: number, size: number): DataView | number {
  const info = new Uint8Array(size);
  const result = new Attr(16).u32(0, fd).u32(4, size).pointer(8, info).call(BPF_OBJ_GET_INFO_BY_FD);
  return result < 0 ? result : new DataView(info.buffer);
}

export interface ProgramTestRun {
  readonly data: Uint8Array;
  /** `struct xdp_md` as the run starts with; see {@link progTestRun}. */
  readonly context?: Uint8Array | undefined;
  /** Bytes that the packet may have grown to. */
  readonly outputSize?: number | undefined;
  /** How often the program runs on the same packet, which is not restored in between; 0 and 1: once. */
  readonly repeat?: number | undefined;
}

export interface ProgramTestResult {
  /** R0's lower 32 bits after the last run. */
  readonly retval: number;
  /** Nanoseconds of one run on average, the kernel's own loop included (some 29 ns). */
  readonly duration: number;
  /** From data_meta to data_end. */
  readonly data: Uint8Array;
  /** As long as `context` was. */
  readonly context: Uint8Array;
}

/**
 * BPF_PROG_TEST_RUN of an XDP program: the result, or `-errno`. EINVAL: fewer than 14 bytes, more than a page
 * holds (unless the program has {@link BPF_F_XDP_HAS_FRAGS}), a context that does not fit the data, or a program
 * for a devmap or cpumap, which the kernel does not run so. ENOSPC: the packet outgrew `outputSize`.
 * In the context, `data` is the length of the metadata that `data` begins with, `data_end` the length of `data`,
 * and the rest 0, before and after.
 * ```
 * +0 prog_fd u32 · +4 retval u32 (out) · +8 data_size_in u32 · +12 data_size_out u32 (in, out) · +16 data_in u64
 * +24 data_out u64 · +32 repeat u32 · +36 duration u32 (out) · +40 ctx_size_in u32 · +44 ctx_size_out u32 (in, out)
 * +48 ctx_in u64 · +56 ctx_out u64
 * ```
 */
export function progTestRun(fd: number, run: ProgramTestRun): ProgramTestResult | number {
  const output = new Uint8Array(run.outputSize ?? run.data.length);
  const context = run.context ?? null;
  const contextOutput = new Uint8Array(context?.length ?? 0);
  const attempt = (): { result: number; attr: Attr } => {
    const attr = new Attr(80)
      .u32(0, fd)
      .u32(8, run.data.length)
      .u32(12, output.length)
      .pointer(16, run.data)
      .pointer(24, output)
      .u32(32, run.repeat ?? 1)
      .u32(40, contextOutput.length)
      .u32(44, contextOutput.length)
      .pointer(48, context)
      .pointer(56, contextOutput);
    return { result: attr.call(BPF_PROG_TEST_RUN), attr };
  };
  let { result, attr } = attempt();
  for (let attempts = 1; result === -EINTR && attempts < RETRIES; attempts++) ({ result, attr } = attempt());
  if (result < 0) return result;
  return {
    retval: attr.read32(4),
    duration: attr.read32(36),
    data: output.subarray(0, attr.read32(12)),
    context: contextOutput,
  };
}

const EINTR = 4;

/** Closes a file descriptor that one of these functions made. */
export function closeFd(fd: number): void {
  closeSync(fd);
}

function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
