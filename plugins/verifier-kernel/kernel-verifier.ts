import { Type, type Static } from '@sinclair/typebox';
import type { LineInfo } from '../../src/bpf/btf/btf-ext.js';
import { formatInsn } from '../../src/bpf/disassembler.js';
import { E2BIG, EPERM, errnoName } from '../../src/bpf/errno.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { findInvalidInsn } from '../../src/bpf/insn-validity.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_CALL_HELPER,
  BPF_CLASS_MASK,
  BPF_LDX,
  BPF_MEM,
  BPF_MODE_MASK,
  BPF_PSEUDO_BTF_ID,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_IDX,
  BPF_PSEUDO_MAP_IDX_VALUE,
  BPF_PSEUDO_MAP_VALUE,
  BPF_ST,
  BPF_STX,
  MAX_BPF_STACK,
  OP_CALL,
} from '../../src/bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, programTypeName } from '../../src/bpf/program.js';
import type { Lifecycle, ProbeResult } from '../../src/core/contract/plugin.js';
import type {
  Rejection,
  Verification,
  Verifier,
  VerifierMap,
  VerifierStatistics,
  VerifyRequest,
} from '../../src/core/contract/verifier.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { BPF_LOG_LEVEL2, BPF_LOG_STATS, closeFd, mapFreeze, mapUpdate } from '../../src/linux/bpf-syscall.js';
import { createKernelMap, kernelValue, mapCreationProblem } from '../../src/linux/kernel-map.js';
import { loadKernelProgram, type KernelVerdict } from '../../src/linux/kernel-program.js';
import { causalPath, operands, PACKET_MOVERS } from './causal-path.js';
import { countVisits, readKernelLog, type KernelLog } from './kernel-log.js';
import { codeOf, SUGGESTIONS, type KernelCode } from './rejection-codes.js';

export const KernelVerifierConfig = Type.Object(
  {
    perfmon: Type.Boolean({
      default: true,
      description:
        'load with CAP_PERFMON, as loaders that root runs do; false makes the kernel also reject pointer leaks and reads of stack that was never written',
    }),
  },
  { additionalProperties: false },
);
export type KernelVerifierConfig = Static<typeof KernelVerifierConfig>;

/** The kernel's limit on the length of a privileged program (BPF_COMPLEXITY_LIMIT_INSNS). */
const MAX_INSNS = 1_000_000;
/** Bytes of a log in which visits are counted; 100 000 insns take up to 80 MiB. */
const MAX_LOG_OF_VISITS = 256 * 1024 * 1024;
const NOTHING: VerifierStatistics = { processedInsns: 0, peakStates: 0, totalStates: 0 };

/**
 * The verifier of the kernel that this runs on: BPF_PROG_LOAD with maps that exist for the time of the load, its log
 * read into the shape of every rejection. Nothing stays loaded.
 *
 * Throws `host-unsupported` where programs cannot be loaded (see `probe`); whatever a guest can send is an answer.
 */
export class KernelVerifier implements Verifier, Lifecycle {
  readonly name = 'kernel';

  constructor(readonly config: KernelVerifierConfig = { perfmon: true }) {}

  probe(): ProbeResult {
    return probeBpf();
  }

  async verify(request: VerifyRequest): Promise<Verification> {
    const problem = checkForm(request);
    if (problem !== undefined) return new Explanation(this.name, request).of(problem, NOTHING);
    const fds = new Map<number, number>();
    try {
      for (const handle of usedHandles(request.program.insns)) {
        const map = request.maps.get(handle)!;
        const fd = createMap(map);
        if (fd >= 0) fds.set(handle, fd);
        else {
          return new Explanation(this.name, request).of(
            { code: 'map-invalid', reason: mapCreationProblem(map, fd) },
            NOTHING,
          );
        }
      }
      const verdict = loadKernelProgram(request.program, fds, {
        logLevel: request.log === true ? BPF_LOG_LEVEL2 | BPF_LOG_STATS : undefined,
        perfmon: this.config.perfmon,
      });
      const verification = this.#judge(request, verdict);
      return request.visits === true ? this.#withVisits(request, fds, verification) : verification;
    } finally {
      for (const fd of fds.values()) closeFd(fd);
    }
  }

  /**
   * Loads once more, with a log that names each insn as often as it was simulated: counts and time are those of the load
   * without one. A program that is too complex would take minutes.
   */
  #withVisits(
    { program }: VerifyRequest,
    fds: ReadonlyMap<number, number>,
    verification: Verification,
  ): Verification {
    if (!verification.accepted && verification.code === 'too-many-insns') return verification;
    const verdict = loadKernelProgram(program, fds, {
      logLevel: BPF_LOG_LEVEL2,
      maxLog: MAX_LOG_OF_VISITS,
      perfmon: this.config.perfmon,
    });
    if (verdict.accepted) closeFd(verdict.programFd);
    if (verdict.logTruncated) return verification;
    const visits = countVisits(verdict.log, program.insns);
    return { ...verification, statistics: { ...verification.statistics, visits } };
  }

  #judge(request: VerifyRequest, verdict: KernelVerdict): Verification {
    const log = readKernelLog(verdict.log);
    const logText = request.log === true ? { log: verdict.log } : {};
    if (verdict.accepted) {
      closeFd(verdict.programFd);
      return {
        accepted: true,
        verifier: this.name,
        statistics: log.statistics,
        contained: true,
        ...logText,
      };
    }
    return { ...new Explanation(this.name, request).ofLog(log, verdict.errno), ...logText };
  }
}

/** What is wrong, and with which insn. */
interface Problem {
  readonly code: KernelCode;
  readonly reason: string;
  readonly insn?: number | undefined;
}

/**
 * What must not get as far as the kernel, because it would be taken for something of this process's or of this
 * kernel's: numbers that are no handles, and names of kernel variables.
 */
function checkForm({ program, maps }: VerifyRequest): Problem | undefined {
  const { insns, type } = program;
  if (type !== BPF_PROG_TYPE_XDP) {
    return { code: 'insn-unsupported', reason: `the program is of type ${programTypeName(type)}, not XDP` };
  }
  if (insns.length === 0) return { code: 'program-empty', reason: 'the program has no insns' };
  if (insns.length > MAX_INSNS) {
    return {
      code: 'program-too-long',
      reason: `${insns.length} insns exceed the kernel's limit of ${MAX_INSNS}`,
    };
  }
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (!isLddw(insn)) continue;
    switch (insn.src) {
      case BPF_PSEUDO_MAP_FD:
      case BPF_PSEUDO_MAP_VALUE:
        if (!maps.has(insn.imm)) {
          return { code: 'map-unknown', reason: `handle ${insn.imm} names no map`, insn: slot };
        }
        break;
      case BPF_PSEUDO_BTF_ID:
        return {
          code: 'insn-unsupported',
          reason: `BTF id ${insn.imm} names a variable of one kernel`,
          insn: slot,
        };
      case BPF_PSEUDO_MAP_IDX:
      case BPF_PSEUDO_MAP_IDX_VALUE:
        return {
          code: 'insn-unsupported',
          reason: `map index ${insn.imm} needs a list of maps beside the program`,
          insn: slot,
        };
      default:
        break;
    }
    slot++;
  }
  return undefined;
}

function usedHandles(insns: readonly Insn[]): Set<number> {
  const handles = new Set<number>();
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (!isLddw(insn)) continue;
    if (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE) handles.add(insn.imm);
    slot++;
  }
  return handles;
}

const HASHES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);
/** The verifier does not look at the size of a hash, so that there is no need to allocate a large one. */
const ENOUGH_ENTRIES = 1024;

/** A file descriptor, or `-errno`. Throws `host-unsupported` without the right to create maps. */
function createMap(map: VerifierMap): number {
  const maxEntries = HASHES.has(map.type) ? Math.min(map.maxEntries, ENOUGH_ENTRIES) : map.maxEntries;
  const fd = createKernelMap({ ...map, maxEntries });
  if (fd === -EPERM) throw new XdpbedError('host-unsupported', mapCreationProblem(map, fd));
  const { frozenValue } = map;
  if (fd < 0 || frozenValue?.length !== map.valueSize) return fd;
  const status = mapUpdate(fd, new Uint8Array(map.keySize), kernelValue(map, frozenValue)) || mapFreeze(fd);
  if (status === 0) return fd;
  closeFd(fd);
  return status;
}

/** Makes a Rejection of what the kernel said of a request. */
class Explanation {
  readonly #lines: ReadonlyMap<number, LineInfo>;

  constructor(
    readonly verifier: string,
    readonly request: VerifyRequest,
  ) {
    this.#lines = coveringLines(request);
  }

  of({ code, reason, insn }: Problem, statistics: VerifierStatistics): Rejection {
    const suggestion = SUGGESTIONS[code];
    return {
      accepted: false,
      verifier: this.verifier,
      code,
      reason,
      statistics,
      ...(suggestion === undefined ? {} : { suggestion }),
      ...(insn === undefined ? {} : { insn, disassembly: this.#format(insn), line: this.#lines.get(insn) }),
    };
  }

  ofLog(log: KernelLog, errno: number): Rejection {
    const { insns } = this.request.program;
    const { messages, path, statistics } = log;
    const message = messages[0] ?? '';
    const last = path.at(-1);
    let code: KernelCode = messages.map(codeOf).find((found) => found !== 'kernel-other') ?? 'kernel-other';
    let insn = insnOf(message, code, insns) ?? (WHOLE_PROGRAM.has(code) ? undefined : last?.insn);
    if (insn !== undefined && insn >= insns.length) insn = undefined;
    if (message === '' && errno === E2BIG) code = 'too-many-insns';

    const frame = log.frames[last?.frame ?? 0] ?? new Map<string, string>();
    const atLast = insn !== undefined && insn === last?.insn;
    if (atLast) code = refine(code, insns[insn!]!, message, frame, path, insns);
    const missing = this.request.program.debug?.missing?.find((each) => each.insn === insn);
    const reason = `${missing === undefined ? '' : `${missing.name} is called, which is weak and not there: `}${reasonOf(messages, errno)}`;
    const explanation = this.of({ code, reason, insn }, statistics);
    if (insn === undefined) return explanation;
    const registers = atLast ? registersAtFault(insns[insn]!, messages, frame) : [];
    const values = registers.flatMap((register) => {
      const value = frame.get(`R${register}`);
      return value === undefined ? [] : [`R${register}=${withKnownRange(value, register, message)}`];
    });
    const acquired = /alloc_insn=(\d+)/.exec(message);
    const steps = causalPath(path, registers, acquired === null ? undefined : Number(acquired[1]), {
      insns,
      format: (slot) => this.#format(slot),
      lineOf: (slot) => this.#lines.get(slot),
    });
    return {
      ...explanation,
      ...(values.length === 0 ? {} : { registers: values }),
      ...(steps.length === 0 ? {} : { path: steps }),
    };
  }

  #format(insn: number): string {
    const { program, maps } = this.request;
    return formatInsn(program.insns, insn, {
      mapName: (handle) => maps.get(handle)?.name,
      functions: program.debug?.functions,
    });
  }
}

/** Lines by slot: each holds from its insn up to the next one's. */
function coveringLines({ program }: VerifyRequest): ReadonlyMap<number, LineInfo> {
  const lines = new Map<number, LineInfo>();
  const given = program.debug?.lines ?? [];
  given.forEach((line, index) => {
    const end = given[index + 1]?.insn ?? program.insns.length;
    for (let slot = line.insn; slot < end; slot++) lines.set(slot, line);
  });
  return lines;
}

/** Found after or beside the walk over the insns: where that ended says nothing. */
const WHOLE_PROGRAM: ReadonlySet<KernelCode> = new Set(['stack-depth', 'unreachable-insn']);

function insnOf(message: string, code: KernelCode, insns: readonly Insn[]): number | undefined {
  const named = /\b(?:at|from|unreachable) insn (\d+)/.exec(message);
  if (named !== null) return Number(named[1]);
  if (code === 'falls-through') return insns.length - 1;
  // The first checks name an opcode, but not where it is.
  if (code === 'insn-invalid' && /^(unknown opcode|invalid BPF_LD_IMM|unrecognized)/.test(message)) {
    return findInvalidInsn(insns)?.insn;
  }
  return undefined;
}

/** Those that the message names, and what the insn works on. */
function registersAtFault(
  insn: Insn,
  messages: readonly string[],
  frame: ReadonlyMap<string, string>,
): number[] {
  const named = [...messages.join(' ').matchAll(/\bR(\d)\b/g)].map((match) => Number(match[1]));
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  const isArithmetic = insnClass === BPF_ALU || insnClass === BPF_ALU64;
  if (named.length > 0 && !isArithmetic) return [...new Set(named)];
  if (insn.opcode === OP_CALL) {
    return [1, 2, 3, 4, 5].filter((register) => frame.get(`R${register}`)?.startsWith('map_ptr') === true);
  }
  return [...new Set([...named, ...operands(insn)])];
}

/**
 * A comparison tells something of every pointer into the packet, but the log prints it of the compared ones only. The
 * message about an access has what is known in the end: `R2(id=0,off=12,r=14)`.
 */
function withKnownRange(value: string, register: number, message: string): string {
  const known = new RegExp(`\\bR${register}\\(id=\\d+,off=-?\\d+,(r=\\d+)\\)`).exec(message)?.[1];
  return known === undefined ? value : value.replace(/\br=\d+/, known);
}

/** The same message means different things for different memory: what the register points to decides. */
function refine(
  code: KernelCode,
  insn: Insn,
  message: string,
  frame: ReadonlyMap<string, string>,
  path: KernelLog['path'],
  insns: readonly Insn[],
): KernelCode {
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  const isStore = insnClass === BPF_ST || insnClass === BPF_STX;
  if (code === 'context-access' && isStore) {
    return (insn.opcode & BPF_MODE_MASK) === BPF_ATOMIC ? 'atomic-target' : 'context-write';
  }
  if (code === 'atomic-alignment' && insn.opcode === OP_CALL) return 'helper-alignment';
  const register = /\bR\d+\b/.exec(message)?.[0];
  const value = register === undefined ? undefined : frame.get(register);
  if (code === 'stack-bounds') {
    // Without CAP_PERFMON, what was never written is out of bounds.
    const access = /^invalid (?:indirect )?read .* off=(-?\d+) size=(\d+)/.exec(message);
    const offset = Number(access?.[1] ?? 0);
    const within = offset >= -MAX_BPF_STACK && offset + Number(access?.[2] ?? 0) <= 0;
    return access !== null && within ? 'uninitialised-stack' : code;
  }
  if (code === 'memory-bounds') {
    if (value === undefined) return code;
    if (/^map_(value|key)/.test(value)) return 'map-value-bounds';
    if (value.startsWith('pkt')) return 'packet-bounds';
    if (value.startsWith('fp')) return 'stack-bounds';
    return insn.opcode === OP_CALL && /^(scalar|-?\d|0x)/.test(value) ? 'helper-size' : code;
  }
  if (code === 'not-a-pointer' || code === 'uninitialised-register') {
    return wasPacketPointer(register, path, insns) ? 'stale-packet-pointer' : code;
  }
  // An access that reads or writes, but neither is allowed: what the kernel calls an invalid one.
  if (code === 'read-only' && /invalid mem access/.test(message)) {
    const reads = insnClass === BPF_LDX && (insn.opcode & BPF_MODE_MASK) === BPF_MEM;
    return reads || !isStore ? 'not-a-pointer' : code;
  }
  return code;
}

/** A register that held a pointer into the packet until a helper moved that. */
function wasPacketPointer(
  register: string | undefined,
  path: KernelLog['path'],
  insns: readonly Insn[],
): boolean {
  if (register === undefined) return false;
  const { frame } = path.at(-1)!;
  let moved = false;
  for (const step of path.slice(0, -1).reverse()) {
    const insn = insns[step.insn]!;
    if (insn.opcode === OP_CALL && insn.src === BPF_CALL_HELPER && PACKET_MOVERS.has(insn.imm)) moved = true;
    const value = step.frame === frame ? step.changes.get(register) : undefined;
    if (value !== undefined) return moved && value.startsWith('pkt');
  }
  return false;
}

/** The kernel's own words, so that they can be searched for, in the form of our sentences. */
function reasonOf(messages: readonly string[], errno: number): string {
  if (messages.length === 0)
    return `the kernel refused the program with ${errnoName(errno)} and said no more`;
  const unread = /^(R\d+) !read_ok$/.exec(messages[0]!);
  if (unread !== null) return `${unread[1]} is read before anything was put into it (${messages[0]})`;
  return messages
    .slice(0, 3)
    .map((message) =>
      message
        .replace(/[.'\s]+$/, (end) => (end.startsWith("'") && message.split("'").length % 2 === 1 ? end : ''))
        .replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase()),
    )
    .join('; ');
}
