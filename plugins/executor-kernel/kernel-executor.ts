import { Type, type Static } from '@sinclair/typebox';
import type { Program } from '../../src/bpf/program.js';
import type { ExecutionEnvironment, Executor } from '../../src/core/contract/executor.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import type { Lifecycle, ProbeResult } from '../../src/core/contract/plugin.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { onCpu } from '../../src/linux/cpu-affinity.js';
import { KernelLoadedProgram } from '../../src/linux/kernel-loaded-program.js';
import { NETWORK_NAMESPACE, type NetworkNamespace } from '../../src/linux/network-namespace.js';

export const KernelExecutorConfig = Type.Object(
  {
    cpu: Type.Integer({
      description:
        'the CPU that programs run on, which bpf_get_smp_processor_id tells and per-CPU maps go by',
      minimum: 0,
      maximum: 1023,
      default: 0,
    }),
    perfmon: Type.Boolean({
      description:
        'load with CAP_PERFMON, as loaders that root runs do; false makes the kernel also reject pointer leaks and reads of stack that was never written, and guard against speculative execution',
      default: true,
    }),
  },
  { additionalProperties: false },
);
export type KernelExecutorConfig = Static<typeof KernelExecutorConfig>;
export const KERNEL_EXECUTOR_CONFIG = token<KernelExecutorConfig>('executor-kernel.config');

/** The kernel that this runs on: it verifies, compiles and runs. Programs live until they are closed. */
@injectable()
export class KernelExecutor implements Executor, Lifecycle {
  readonly name = 'kernel';
  readonly #loaded = new Set<KernelLoadedProgram>();

  constructor(
    @inject(KERNEL_EXECUTOR_CONFIG) readonly config: KernelExecutorConfig,
    @inject(NETWORK_NAMESPACE, { isOptional: true }) readonly namespace?: NetworkNamespace,
  ) {}

  probe(): ProbeResult {
    const probe = probeBpf();
    if (probe.status !== 'supported') return probe;
    try {
      return onCpu(this.config.cpu, () => probe);
    } catch (error) {
      return { status: 'unsupported', reason: messageOf(error) };
    }
  }

  stop(): void {
    for (const loaded of [...this.#loaded]) loaded.close();
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<KernelLoadedProgram> {
    return this.loadNow(program, environment);
  }

  loadNow(program: Program, environment: ExecutionEnvironment): KernelLoadedProgram {
    const loaded: KernelLoadedProgram = KernelLoadedProgram.load(program, environment, {
      ...this.config,
      namespace: this.namespace,
      onClose: () => this.#loaded.delete(loaded),
    });
    this.#loaded.add(loaded);
    return loaded;
  }
}
