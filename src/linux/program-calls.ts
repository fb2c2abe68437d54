import { EAGAIN, ENOSPC } from '../bpf/errno.js';
import { encodeInsns, type Insn } from '../bpf/insn.js';
import { BpfAttr, cString, infoByFd } from './bpf-attr.js';
import { BPF_ATTR, BPF_CMD, BPF_OBJ_NAME_LEN, BPF_PROG_INFO } from './bpf-layout.js';
import { libc } from './libc.js';

/** `log_level` of BPF_PROG_LOAD (include/linux/bpf_verifier.h): bits that may be combined. */
export const BPF_LOG_LEVEL1 = 1;
/** The state after every insn of every path; level 1 keeps only the path that failed. */
export const BPF_LOG_LEVEL2 = 2;
/** Time and stack depth, besides the line of counts that every level ends with. */
export const BPF_LOG_STATS = 4;

/** `prog_flags` of an XDP program that copes with frames in several buffers. */
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;

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
 */
export function progLoad(program: ProgramLoad): ProgramLoadResult {
  const loading = progLoading(program);
  let step = loading.next();
  while (step.done !== true) step = loading.next(step.value.call(BPF_CMD.BPF_PROG_LOAD));
  return step.value;
}

/** The calls that {@link progLoad} makes, one after the other: each is to be given what it returned. */
export function* progLoading(program: ProgramLoad): Generator<BpfAttr, ProgramLoadResult, number> {
  if (program.logLevel === 0) return { ...(yield* loadOnce(program, 0, 0)), logTruncated: false };
  const limit = program.maxLog ?? MAX_LOG;
  let size = Math.min(FIRST_LOG, limit);
  for (;;) {
    const result = yield* loadOnce(program, program.logLevel, size);
    if (result.fd !== -ENOSPC) return { fd: result.fd, log: result.log, logTruncated: false };
    if (size >= limit) {
      const { fd } = yield* loadOnce(program, BPF_LOG_STATS, FIRST_LOG);
      return { fd, log: result.log, logTruncated: true };
    }
    // Kernels before 6.4 do not tell how much they had to say.
    size = Math.min(limit, Math.max(result.trueSize + 1, size * 4));
  }
}

const LOAD = BPF_ATTR.prog_load;

function* loadOnce(
  program: ProgramLoad,
  logLevel: number,
  logSize: number,
): Generator<BpfAttr, { fd: number; log: string; trueSize: number }, number> {
  const log = new Uint8Array(logSize);
  const attr = new BpfAttr()
    .u32(LOAD.prog_type, program.type)
    .u32(LOAD.insn_cnt, program.insns.length)
    .pointer(LOAD.insns, encodeInsns(program.insns))
    .pointer(LOAD.license, new TextEncoder().encode(`${program.license}\0`))
    .u32(LOAD.log_level, logLevel)
    .u32(LOAD.log_size, logSize)
    .pointer(LOAD.log_buf, log)
    .u32(LOAD.prog_flags, program.flags ?? 0)
    .name(LOAD.prog_name, program.name)
    .u32(LOAD.expected_attach_type, program.expectedAttachType);
  const { btf } = program;
  if (btf !== undefined) {
    attr
      .u32(LOAD.prog_btf_fd, btf.btfFd)
      .u32(LOAD.func_info_rec_size, FUNC_INFO_SIZE)
      .pointer(LOAD.func_info, btf.functions)
      .u32(LOAD.func_info_cnt, btf.functions.length / FUNC_INFO_SIZE);
    if (btf.lines.length > 0) {
      attr
        .u32(LOAD.line_info_rec_size, LINE_INFO_SIZE)
        .pointer(LOAD.line_info, btf.lines)
        .u32(LOAD.line_info_cnt, btf.lines.length / LINE_INFO_SIZE);
    }
  }
  let fd = yield attr;
  // The verifier gives up with EAGAIN when a signal is pending.
  for (let attempt = 1; fd === -EAGAIN && attempt < RETRIES; attempt++) fd = yield attr;
  return { fd, log: cString(log), trueSize: attr.read32(LOAD.log_true_size) };
}

/** Bytes of `struct bpf_func_info` and `struct bpf_line_info`. */
export const FUNC_INFO_SIZE = 8;
export const LINE_INFO_SIZE = 16;

/** BPF_BTF_LOAD: a file descriptor, or `-errno`. */
export function btfLoad(btf: Uint8Array): number {
  return new BpfAttr()
    .pointer(BPF_ATTR.btf_load.btf, btf)
    .u32(BPF_ATTR.btf_load.btf_size, btf.length)
    .call(BPF_CMD.BPF_BTF_LOAD);
}

/** What BPF_OBJ_GET_INFO_BY_FD tells of a program. */
export interface ProgramInfo {
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  readonly name: string;
  /** Hash of the insns as they were loaded, 16 hex digits. */
  readonly tag: string;
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

/** Maps that are told of a program: a program has at most MAX_USED_MAPS (include/linux/bpf_verifier.h). */
const MAX_MAPS = 64;

/** Ids of the maps that a program uses, which stay as long as it does, or `-errno`. */
export function programMaps(fd: number): number[] | number {
  const ids = new Uint8Array(MAX_MAPS * 4);
  const info = infoByFd(fd, 64, (asked) => {
    asked.setUint32(BPF_PROG_INFO.nr_map_ids, MAX_MAPS, true);
    asked.setBigUint64(BPF_PROG_INFO.map_ids, libc().address(ids), true);
  });
  if (typeof info === 'number') return info;
  const count = Math.min(MAX_MAPS, info.getUint32(BPF_PROG_INFO.nr_map_ids, true));
  const view = new DataView(ids.buffer);
  return Array.from({ length: count }, (_, index) => view.getUint32(index * 4, true));
}

/** `struct bpf_prog_info`, or `-errno`. */
export function progInfo(fd: number): ProgramInfo | number {
  const info = infoByFd(fd, 232);
  if (typeof info === 'number') return info;
  return {
    id: info.getUint32(BPF_PROG_INFO.id, true),
    type: info.getUint32(BPF_PROG_INFO.type, true),
    name: cString(new Uint8Array(info.buffer, BPF_PROG_INFO.name, BPF_OBJ_NAME_LEN)),
    tag: Buffer.from(info.buffer, BPF_PROG_INFO.tag, 8).toString('hex'),
    jitedBytes: info.getUint32(BPF_PROG_INFO.jited_prog_len, true),
    xlatedBytes: info.getUint32(BPF_PROG_INFO.xlated_prog_len, true),
    verifiedInsns: info.getUint32(BPF_PROG_INFO.verified_insns, true),
    runTimeNs: info.getBigUint64(BPF_PROG_INFO.run_time_ns, true),
    runCount: info.getBigUint64(BPF_PROG_INFO.run_cnt, true),
  };
}
