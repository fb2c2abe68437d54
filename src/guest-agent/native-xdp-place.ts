import { errnoName } from '../bpf/errno.js';
import { XDP_ACTION_NAMES } from '../bpf/xdp.js';
import type { LoadedProgram } from '../core/contract/executor.js';
import type { Attachment, HookPlace } from '../core/contract/hook-place.js';
import { emptyVerdictCounts, type VerdictCounts } from '../core/contract/result.js';
import { XdpbedError } from '../core/diagnostic.js';
import { closeFd, mapLookup } from '../linux/bpf-syscall.js';
import { countVerdicts, NO_VERDICT_COUNTER, VERDICT_COUNTERS_MAP } from '../linux/hook-programs/index.js';
import { isKernelProgram, type KernelLoadedProgram } from '../linux/kernel-loaded-program.js';
import { createKernelMap, kernelValueSize } from '../linux/kernel-map.js';
import { loadKernelProgram } from '../linux/kernel-program.js';
import { linkCreate, linkUpdate, XDP_FLAGS_DRV_MODE } from '../linux/link-calls.js';

/** As the program's maps have them, a handle: it knows none this large. */
const COUNTERS_HANDLE = 0x7fff_fff0;

/**
 * Native XDP in the driver of an interface, on every queue. What is attached is a copy of the program that counts its own
 * verdicts, held by a bpf_link: replacing it is one step of the kernel's.
 */
export class NativeXdpPlace implements HookPlace {
  #link: { readonly fd: number; programFd: number; readonly counters: number } | undefined;

  constructor(readonly ifindex: number) {}

  async attach(program: LoadedProgram): Promise<Attachment> {
    if (this.#link !== undefined) throw this.#error('a program is attached already');
    const counters = createKernelMap({ ...VERDICT_COUNTERS_MAP, name: 'verdicts' });
    if (counters < 0) throw this.#error(`no map for verdicts: ${errnoName(counters)}`);
    let programFd = -1;
    let fd: number;
    try {
      programFd = this.#load(program, counters);
      fd = linkCreate(programFd, { hook: 'xdp', ifindex: this.ifindex, flags: XDP_FLAGS_DRV_MODE });
      if (fd < 0) throw this.#error(`${program.name} cannot be attached: ${errnoName(fd)}`);
    } catch (error) {
      if (programFd >= 0) closeFd(programFd);
      closeFd(counters);
      throw error;
    }
    const link = { fd, programFd, counters };
    this.#link = link;
    let last: VerdictCounts | undefined;
    return {
      replace: async (other) => {
        if (this.#link !== link) throw this.#error('the program to replace is not attached any more');
        const next = this.#load(other, counters);
        const result = linkUpdate(fd, next);
        if (result < 0) {
          closeFd(next);
          throw this.#error(`${other.name} cannot be attached: ${errnoName(result)}`);
        }
        closeFd(link.programFd);
        link.programFd = next;
      },
      detach: async () => {
        if (this.#link !== link) return;
        this.#link = undefined;
        // Nothing else holds the link, so that closing it detaches.
        closeFd(fd);
        closeFd(link.programFd);
        last = readVerdicts(counters);
        closeFd(counters);
      },
      counters: async () => last ?? readVerdicts(counters),
    };
  }

  #load(program: LoadedProgram, counters: number): number {
    if (!isKernelProgram(program)) throw this.#error(`${program.name} is not in the kernel`);
    const counting = countVerdicts(program.program, { counters: COUNTERS_HANDLE });
    if (!counting.ok)
      throw this.#error(`the verdicts of ${program.name} cannot be counted: ${counting.reason}`);
    const verdict = loadKernelProgram(counting.program, mapsOf(program, counters));
    if (verdict.accepted) return verdict.programFd;
    const log = verdict.log.trim().split('\n').slice(-3).join('; ');
    throw this.#error(
      `${program.name}, made to count its verdicts, is rejected: ${errnoName(verdict.errno)}, ${log}`,
    );
  }

  #error(reason: string): XdpbedError {
    return new XdpbedError('guest-failed', `interface ${this.ifindex}: ${reason}`);
  }
}

function mapsOf(program: KernelLoadedProgram, counters: number): Map<number, number> {
  return new Map([...program.mapFds, [COUNTERS_HANDLE, counters]]);
}

/** The sum over all CPUs. */
function readVerdicts(counters: number): VerdictCounts {
  const counts = emptyVerdictCounts();
  const key = new Uint8Array(4);
  for (let index = 0; index <= NO_VERDICT_COUNTER; index++) {
    key[0] = index;
    const value = mapLookup(counters, key, kernelValueSize(VERDICT_COUNTERS_MAP));
    if (typeof value === 'number') {
      throw new XdpbedError('guest-failed', `the counters of verdicts cannot be read: ${errnoName(value)}`);
    }
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    // What is no verdict the driver takes for XDP_ABORTED.
    const name = XDP_ACTION_NAMES[index] ?? 'XDP_ABORTED';
    for (let at = 0; at < value.length; at += 8) counts[name] += Number(view.getBigUint64(at, true));
  }
  return counts;
}
