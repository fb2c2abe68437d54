import { XdpbedError } from '../core/diagnostic.js';
import { EINVAL, EPERM, errnoName } from '../bpf/errno.js';
import { isLddw, type Insn } from '../bpf/insn.js';
import { BPF_PSEUDO_BTF_ID, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from '../bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE, type Program } from '../bpf/program.js';
import {
  BPF_F_XDP_HAS_FRAGS,
  BPF_LOG_LEVEL1,
  BPF_LOG_STATS,
  closeFd,
  progLoad,
  type ProgramLoad,
  type ProgramLoadResult,
} from './bpf-syscall.js';
import { CAP_PERFMON, CAP_SYS_ADMIN, withoutCapabilities } from './capabilities.js';
import { BpfThread } from './bpf-thread.js';
import { libc } from './libc.js';
import { withLiveFunctions, type LiveFunctions } from './live-functions.js';
import { loadProgramBtf } from './program-btf.js';

/** File descriptors of maps by the handle that a program's `lddw` insns carry in imm. */
export type KernelMapFds = ReadonlyMap<number, number>;

/** What the verifier of the kernel said. Its file descriptor is the caller's to close. */
export type KernelVerdict =
  | {
      readonly accepted: true;
      readonly programFd: number;
      readonly log: string;
      readonly logTruncated: boolean;
    }
  | {
      readonly accepted: false;
      /** Positive. */
      readonly errno: number;
      readonly log: string;
      readonly logTruncated: boolean;
    };

export interface KernelProgramOptions {
  /**
   * Bits of `BPF_LOG_…`. Left out: only the counts if the program is accepted, and the path that failed if it is
   * not, which costs a second load but leaves the first undisturbed.
   */
  readonly logLevel?: number | undefined;
  /** Bytes of log to read at most, where there is a `logLevel`. */
  readonly maxLog?: number | undefined;
  /**
   * False: loads without CAP_PERFMON, so that the kernel also rejects programs that give away addresses or read
   * stack that was never written, and guards against speculative execution; helpers such as bpf_trace_printk are
   * then not to be had. True (default) is what loaders run by root do.
   */
  readonly perfmon?: boolean | undefined;
}

const TOO_COMPLEX = /BPF program is too large/;
/** Bytes of log that show the end of a path. */
const PATH_LOG = 1024 * 1024;

/**
 * BPF_PROG_LOAD of a program with its maps; one that takes addresses of functions as `withLiveFunctions` makes it, its log
 * by the program's own slots. A rejection is a value. Throws `map-invalid` for a handle without a
 * map, and `host-unsupported` when this process may not load programs.
 */
export function loadKernelProgram(
  program: Program,
  maps: KernelMapFds,
  options: KernelProgramOptions = {},
): KernelVerdict {
  const loading = kernelLoading(program, maps, options);
  const load = (request: ProgramLoad): ProgramLoadResult =>
    options.perfmon === false
      ? withoutCapabilities([CAP_PERFMON, CAP_SYS_ADMIN], () => progLoad(request))
      : progLoad(request);
  let step = loading.next();
  while (step.done !== true) step = loading.next(load(step.value));
  return step.value;
}

/**
 * As {@link loadKernelProgram}, in a thread of its own, so that the event loop goes on: the kernel may take seconds to verify a
 * program that was made for it. One program at a time. The maps may be closed meanwhile. Without CAP_PERFMON
 * (`perfmon`), which is put aside for this thread, or where there can be no other, it is done at once.
 */
export async function loadKernelProgramAside(
  program: Program,
  maps: KernelMapFds,
  options: KernelProgramOptions = {},
): Promise<KernelVerdict> {
  const thread = options.perfmon === false ? undefined : await loadingThread();
  if (thread === undefined) return loadKernelProgram(program, maps, options);
  const own = new Map<number, number>();
  try {
    for (const [handle, fd] of maps) {
      const copy = libc().duplicate(fd);
      if (copy < 0) {
        throw new XdpbedError('map-invalid', `map ${handle} of program ${program.name}: ${errnoName(copy)}`);
      }
      own.set(handle, copy);
    }
    const loading = kernelLoading(program, own, options);
    try {
      let step = loading.next();
      while (step.done !== true) step = loading.next(await thread.load(step.value));
      return step.value;
    } finally {
      loading.return(undefined as never);
    }
  } finally {
    for (const fd of own.values()) closeFd(fd);
  }
}

let thread: Promise<BpfThread | undefined> | undefined;

/** Has it made, so that who loads the first program need not wait. It keeps no process from ending. */
export function loadingThread(): Promise<BpfThread | undefined> {
  thread ??= BpfThread.open().catch(() => undefined);
  return thread;
}

/** The loads that it takes to know what the kernel says of a program: each is to be given its result. */
function* kernelLoading(
  program: Program,
  maps: KernelMapFds,
  options: KernelProgramOptions,
): Generator<ProgramLoad, KernelVerdict, ProgramLoadResult> {
  const live = liveFunctions(program);
  if (!live.ok) return { accepted: false, errno: EINVAL, log: live.reason, logTruncated: false };
  const { translateLog = (log: string) => log } = live;
  const insns = withMapFds(live.program, maps);
  const btf = loadProgramBtf(insns, live.program.debug);
  const request = (logLevel: number, maxLog?: number): ProgramLoad => ({
    name: program.name,
    type: program.type,
    insns,
    // A Program keeps of its license only what the verifier looks at.
    license: program.gplCompatible ? 'GPL' : 'Proprietary',
    // Other types do not ask for it at load.
    expectedAttachType: program.type === BPF_PROG_TYPE_XDP ? XDP_ATTACH_TYPE[program.attachType] : 0,
    flags: program.frags === true ? BPF_F_XDP_HAS_FRAGS : 0,
    logLevel,
    maxLog,
    btf,
  });
  try {
    let result = yield request(options.logLevel ?? BPF_LOG_STATS, options.maxLog);
    // A program too complex to verify would take seconds with a log, and the path is not what it was rejected for.
    if (result.fd < 0 && !TOO_COMPLEX.test(result.log) && options.logLevel === undefined) {
      result = yield request(BPF_LOG_STATS | BPF_LOG_LEVEL1, PATH_LOG);
    }
    const { fd, logTruncated } = result;
    const log = translateLog(result.log);
    if (fd >= 0) return { accepted: true, programFd: fd, log, logTruncated };
    if (fd === -EPERM && log === '') {
      throw new XdpbedError(
        'host-unsupported',
        `program ${program.name} cannot be loaded: this process may not load XDP programs (${errnoName(fd)})`,
        { hint: 'run as root, or with CAP_BPF and CAP_NET_ADMIN' },
      );
    }
    return { accepted: false, errno: -fd, log, logTruncated };
  } finally {
    if (btf !== undefined) closeFd(btf.btfFd);
  }
}

/** A program with references to nowhere cannot be edited, and is none for the kernel either. */
function liveFunctions(program: Program): LiveFunctions {
  try {
    return withLiveFunctions(program);
  } catch (error) {
    if (!(error instanceof XdpbedError) || error.code !== 'insn-invalid') throw error;
    return { ok: false, reason: error.message };
  }
}

/**
 * The program's insns with file descriptors instead of handles. A number that is no handle of the program's must
 * not reach the kernel: it would be taken for one of this process's own file descriptors.
 */
export function withMapFds(program: Program, maps: KernelMapFds): Insn[] {
  const insns = [...program.insns];
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (!isLddw(insn)) continue;
    if (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE) {
      const fd = maps.get(insn.imm);
      if (fd === undefined) {
        throw new XdpbedError('map-invalid', `program ${program.name} has no map of handle ${insn.imm}`, {
          at: { insn: slot },
        });
      }
      insns[slot] = { ...insn, imm: fd };
    } else if (insn.src === BPF_PSEUDO_BTF_ID && insns[slot + 1]?.imm !== 0) {
      // The second slot names the BTF of a kernel module by file descriptor.
      throw new XdpbedError('insn-invalid', `program ${program.name} names a file descriptor of the host`, {
        at: { insn: slot },
      });
    }
    slot++;
  }
  return insns;
}
