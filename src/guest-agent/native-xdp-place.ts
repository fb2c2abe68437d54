import { errnoName } from '../bpf/errno.js';
import type { LoadedProgram } from '../core/contract/executor.js';
import type { Attachment, HookPlace } from '../core/contract/hook-place.js';
import { XdpbedError } from '../core/diagnostic.js';
import { closeFd } from '../linux/bpf-syscall.js';
import { countVerdicts } from '../linux/hook-programs/index.js';
import { isKernelProgram, type KernelLoadedProgram } from '../linux/kernel-loaded-program.js';
import { loadKernelProgram } from '../linux/kernel-program.js';
import { linkCreate, linkUpdate, XDP_FLAGS_DRV_MODE } from '../linux/link-calls.js';
import { VerdictCounters } from '../linux/verdict-counters.js';

/** As the program's maps have them, a handle: it knows none this large. */
const COUNTERS_HANDLE = 0x7fff_fff0;

/**
 * Native XDP in the driver of an interface, on every queue. What is attached is a copy of the program that counts its own
 * verdicts, held by a bpf_link: replacing it is one step of the kernel's.
 */
export class NativeXdpPlace implements HookPlace {
  #link: { readonly fd: number; programFd: number; readonly counters: VerdictCounters } | undefined;

  constructor(readonly ifindex: number) {}

  async attach(program: LoadedProgram): Promise<Attachment> {
    if (this.#link !== undefined) throw this.#error('a program is attached already');
    const counters = new VerdictCounters();
    let programFd = -1;
    let fd: number;
    try {
      programFd = this.#load(program, counters);
      fd = linkCreate(programFd, { hook: 'xdp', ifindex: this.ifindex, flags: XDP_FLAGS_DRV_MODE });
      if (fd < 0) throw this.#error(`${program.name} cannot be attached: ${errnoName(fd)}`);
    } catch (error) {
      if (programFd >= 0) closeFd(programFd);
      counters.close();
      throw error;
    }
    const link = { fd, programFd, counters };
    this.#link = link;
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
        counters.close();
      },
      counters: async () => counters.read(),
    };
  }

  #load(program: LoadedProgram, counters: VerdictCounters): number {
    if (!isKernelProgram(program)) throw this.#error(`${program.name} is not in the kernel`);
    const counting = countVerdicts(program.program, { counters: COUNTERS_HANDLE });
    if (!counting.ok)
      throw this.#error(`the verdicts of ${program.name} cannot be counted: ${counting.reason}`);
    const verdict = loadKernelProgram(counting.program, mapsOf(program, counters.fd));
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
