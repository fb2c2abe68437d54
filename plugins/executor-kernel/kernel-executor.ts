import { Type, type Static } from '@sinclair/typebox';
import type { Program } from '../../src/bpf/program.js';
import type { ExecutionEnvironment, Executor } from '../../src/core/contract/executor.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import type { Lifecycle, ProbeResult } from '../../src/core/contract/plugin.js';
import { messageOf, XdpbedError } from '../../src/core/diagnostic.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { onCpu } from '../../src/linux/cpu-affinity.js';
import { KernelLoadedProgram, type KernelLoadOptions } from '../../src/linux/kernel-loaded-program.js';
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
  readonly #perfmon: boolean;
  readonly #namespace: NetworkNamespace | undefined;
  #cpu: number;
  #stopped = false;

  constructor(
    @inject(KERNEL_EXECUTOR_CONFIG) config: KernelExecutorConfig,
    @inject(NETWORK_NAMESPACE, { isOptional: true }) namespace?: NetworkNamespace,
  ) {
    this.#cpu = config.cpu;
    this.#perfmon = config.perfmon;
    this.#namespace = namespace;
  }

  probe(): ProbeResult {
    const probe = probeBpf();
    if (probe.status !== 'supported') return probe;
    try {
      return onCpu(this.#cpu, () => probe);
    } catch (error) {
      return { status: 'unsupported', reason: messageOf(error) };
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const loaded of [...this.#loaded]) loaded.close();
  }

  runOn(cpu: number): void {
    this.#cpu = cpu;
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<KernelLoadedProgram> {
    const loaded: KernelLoadedProgram = await KernelLoadedProgram.loadAside(
      program,
      environment,
      this.#options(() => loaded),
    );
    return this.#keep(loaded);
  }

  loadNow(program: Program, environment: ExecutionEnvironment): KernelLoadedProgram {
    const loaded: KernelLoadedProgram = KernelLoadedProgram.load(
      program,
      environment,
      this.#options(() => loaded),
    );
    return this.#keep(loaded);
  }

  #keep(loaded: KernelLoadedProgram): KernelLoadedProgram {
    if (this.#stopped) {
      loaded.close();
      throw new XdpbedError('interrupted', `executor kernel was stopped while it loaded ${loaded.name}`);
    }
    this.#loaded.add(loaded);
    return loaded;
  }

  #options(loaded: () => KernelLoadedProgram): KernelLoadOptions {
    return {
      cpu: () => this.#cpu,
      perfmon: this.#perfmon,
      namespace: this.#namespace,
      onClose: () => this.#loaded.delete(loaded()),
    };
  }
}
