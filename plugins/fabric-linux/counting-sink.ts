import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { XDP_DROP } from '../../src/bpf/xdp.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { closeFd, countVerdicts, loadKernelProgram, VerdictCounters } from '../../src/linux/index.js';

const DROP: Program = {
  name: 'sink',
  type: BPF_PROG_TYPE_XDP,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(`r0 = ${XDP_DROP}\nexit`),
};

/** An XDP program that counts frames and drops them: the least that can be done with one. */
export class CountingSink {
  readonly fd: number;
  readonly #counters = new VerdictCounters();
  #open = true;

  constructor() {
    try {
      const counting = countVerdicts(DROP, { counters: 1 });
      if (!counting.ok) throw new XdpbedError('plugin-failed', counting.reason);
      const verdict = loadKernelProgram(counting.program, new Map([[1, this.#counters.fd]]));
      if (!verdict.accepted) {
        throw new XdpbedError('host-unsupported', `a counting program is refused: ${verdict.log}`);
      }
      this.fd = verdict.programFd;
    } catch (error) {
      this.#counters.close();
      throw error;
    }
  }

  /** Frames so far. */
  get count(): number {
    return this.#counters.read().XDP_DROP;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
    this.#counters.close();
  }
}
