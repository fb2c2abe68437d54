import { Type } from '@sinclair/typebox';
import {
  definePlugin,
  VERIFIER,
  XdpbedError,
  type Lifecycle,
  type ProbeResult,
  type Rejection,
  type Verification,
  type Verifier,
  type VerifierMap,
  type VerifierStatistics,
  type VerifyRequest,
} from 'xdpbed';
import {
  BPF_MAP_TYPE,
  BPF_PROG_TYPE_XDP,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  EPERM,
  errnoName,
  formatInsn,
  isLddw,
  programTypeName,
} from 'xdpbed/bpf';
import {
  BPF_LOG_LEVEL2,
  BPF_LOG_STATS,
  closeFd,
  createKernelMap,
  kernelValue,
  loadKernelProgram,
  mapCreationProblem,
  mapFreeze,
  mapUpdate,
  probeBpf,
} from 'xdpbed/linux';

/** What is wrong, and with which insn. */
type Problem = Pick<Rejection, 'code' | 'reason' | 'insn'>;

/**
 * A verifier written against the published package alone: loads the program with BPF_PROG_LOAD, tells what the kernel
 * said, and closes it again.
 *
 * Codes: `kernel-` and the errno, e.g. `kernel-eacces`; `program-type`, `map-unknown` and `insn-unsupported` for what
 * the kernel is not asked; `map-invalid` for a map that it does not create. Throws `host-unsupported` where programs
 * cannot be loaded (see `probe`).
 */
export class ProgLoadVerifier implements Verifier, Lifecycle {
  readonly name = 'prog-load';

  probe(): ProbeResult {
    return probeBpf();
  }

  async verify(request: VerifyRequest): Promise<Verification> {
    const used = usedMaps(request);
    if (!(used instanceof Map)) return this.#rejection(request, used);
    const fds = new Map<number, number>();
    try {
      for (const [handle, map] of used) {
        const fd = createMap(map);
        if (fd < 0)
          return this.#rejection(request, { code: 'map-invalid', reason: mapCreationProblem(map, fd) });
        fds.set(handle, fd);
      }
      const logLevel = request.log === true ? BPF_LOG_LEVEL2 | BPF_LOG_STATS : undefined;
      const verdict = loadKernelProgram(request.program, fds, { logLevel });
      const log = request.log === true ? { log: verdict.log } : {};
      if (!verdict.accepted) {
        return { ...this.#rejection(request, problemOf(verdict), statisticsOf(verdict.log)), ...log };
      }
      closeFd(verdict.programFd);
      return { accepted: true, verifier: this.name, statistics: statisticsOf(verdict.log), ...log };
    } finally {
      for (const fd of fds.values()) closeFd(fd);
    }
  }

  #rejection({ program, maps }: VerifyRequest, problem: Problem, statistics = NOTHING): Rejection {
    const { code, reason, insn } = problem;
    const said = { accepted: false, verifier: this.name, code, reason, statistics } as const;
    if (insn === undefined || insn >= program.insns.length) return said;
    const disassembly = formatInsn(program.insns, insn, { mapName: (handle) => maps.get(handle)?.name });
    // A line holds from its insn on, up to the next one's.
    const line = program.debug?.lines.findLast((each) => each.insn <= insn);
    return { ...said, insn, disassembly, line };
  }
}

/**
 * The maps that the program refers to, by handle. A number that is no handle must not reach the kernel, which would
 * take it for a file descriptor of this process or for something of its own.
 */
function usedMaps({ program, maps }: VerifyRequest): Map<number, VerifierMap> | Problem {
  if (program.type !== BPF_PROG_TYPE_XDP) {
    return {
      code: 'program-type',
      reason: `the program is of type ${programTypeName(program.type)}, not XDP`,
    };
  }
  const used = new Map<number, VerifierMap>();
  for (let slot = 0; slot < program.insns.length; slot++) {
    const insn = program.insns[slot]!;
    if (!isLddw(insn)) continue;
    if (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE) {
      const map = maps.get(insn.imm);
      if (map === undefined)
        return { code: 'map-unknown', reason: `handle ${insn.imm} names no map`, insn: slot };
      used.set(insn.imm, map);
    } else if (insn.src !== 0 && insn.src !== BPF_PSEUDO_FUNC) {
      return {
        code: 'insn-unsupported',
        reason: 'the insn names something of one kernel or process',
        insn: slot,
      };
    }
    slot++;
  }
  return used;
}

/** The verifier does not look at a hash's size: there is no need to let a guest have the kernel allocate it. */
const ENOUGH_ENTRIES = 64;
const HASHES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);

/** A file descriptor, or `-errno`. */
function createMap(map: VerifierMap): number {
  const maxEntries = HASHES.has(map.type) ? Math.min(map.maxEntries, ENOUGH_ENTRIES) : map.maxEntries;
  const fd = createKernelMap({ ...map, maxEntries });
  if (fd === -EPERM) throw new XdpbedError('host-unsupported', mapCreationProblem(map, fd));
  const { frozenValue, keySize, valueSize } = map;
  if (fd < 0 || frozenValue?.length !== valueSize) return fd;
  const status = mapUpdate(fd, new Uint8Array(keySize), kernelValue(map, frozenValue)) || mapFreeze(fd);
  if (status === 0) return fd;
  closeFd(fd);
  return status;
}

const NOTHING: VerifierStatistics = { processedInsns: 0, peakStates: 0, totalStates: 0 };
/** With what a log ends. A message before it may lack its newline. */
const SUMMARY = /verification time \d+ usec|processed \d+ insns \(limit/;
const COUNTS =
  /processed (\d+) insns \(limit \d+\) max_states_per_insn \d+ total_states (\d+) peak_states (\d+)/;

function statisticsOf(log: string): VerifierStatistics {
  const counts = COUNTS.exec(log)?.slice(1).map(Number);
  if (counts === undefined) return NOTHING;
  const [processedInsns = 0, totalStates = 0, peakStates = 0] = counts;
  return { processedInsns, totalStates, peakStates };
}

/** Lines of a path: insns and states, source lines, notes of precision tracking. */
const OF_PATH = /^(\d+: |from \d+ to |; |mark_precise|last_idx|regs=| ?frame|caller:|callee:)/;

/** What the kernel said behind the path that it walked, and the insn it names or had come to. */
function problemOf({ errno, log }: { readonly errno: number; readonly log: string }): Problem {
  const code = `kernel-${errnoName(errno).toLowerCase().replaceAll(' ', '-')}`;
  const lines = log
    .slice(0, SUMMARY.exec(log)?.index)
    .split('\n')
    .filter((line) => line.trim() !== '');
  const said = lines.slice(lines.findLastIndex((line) => OF_PATH.test(line)) + 1);
  if (said.length === 0) return { code, reason: `the kernel said ${errnoName(errno)} and gave no reason` };
  const message = said.join('; ');
  // The stack of all functions together is looked at when the walk is over.
  const walked = /^combined stack size/.test(message)
    ? undefined
    : lines.findLast((line) => /^\d+: \(/.test(line));
  const insn = /\binsn (\d+)/.exec(message)?.[1] ?? walked?.split(':')[0];
  return {
    code,
    reason: `the kernel said: ${message.replace(/[.\s]+$/, '')}`,
    ...(insn === undefined ? {} : { insn: Number(insn) }),
  };
}

export default definePlugin({
  name: 'prog-load',
  version: '1.0.0',
  role: 'verifier',
  api: '^2',
  description: 'loads the program into the running kernel and tells what that said; needs root',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindFactory(VERIFIER, () => new ProgLoadVerifier());
  },
});
