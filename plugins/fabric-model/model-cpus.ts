import type { ModelConfig } from './model-config.js';
import { VirtualCpu } from './virtual-cpu.js';

/** Who works on which CPU: one for each, unless the config has them share. */
export class ModelCpus {
  readonly #all: VirtualCpu[] = [];
  readonly #vhost: Pool;
  readonly #guests: Pool;

  constructor({ cpus }: Pick<ModelConfig, 'cpus'>) {
    const make = (name: string, idles = true): VirtualCpu => {
      const cpu = new VirtualCpu(name, idles);
      this.#all.push(cpu);
      return cpu;
    };
    this.make = make;
    this.#vhost = new Pool('vhost', cpus.vhost, make);
    this.#guests = new Pool('guests', cpus.guests, (name) => make(name, false));
  }

  readonly make: (name: string, idles?: boolean) => VirtualCpu;

  get all(): readonly VirtualCpu[] {
    return this.#all;
  }

  /** For the softirq of a NIC's queue. */
  forNic(nic: string, queue: number, queues: number): VirtualCpu {
    return this.named(`host.${nic} softirq${queues === 1 ? '' : queue}`);
  }

  /** One of its own, the same whenever it is asked for. */
  named(name: string): VirtualCpu {
    return this.#all.find((known) => known.name === name) ?? this.make(name);
  }

  /** For the reader of a queue. */
  forVhost(owner: string): VirtualCpu {
    return this.#vhost.next(`${owner} vhost`);
  }

  /** For a virtual CPU of a guest. */
  forGuest(owner: string): VirtualCpu {
    return this.#guests.next(owner);
  }
}

/** CPUs that are shared by turns, as those who work on them come. */
class Pool {
  readonly #cpus: VirtualCpu[] = [];
  #given = 0;

  constructor(
    readonly name: string,
    readonly size: number | undefined,
    readonly make: (name: string) => VirtualCpu,
  ) {}

  next(owner: string): VirtualCpu {
    if (this.size === undefined) return this.make(owner);
    const index = this.#given++ % this.size;
    return (this.#cpus[index] ??= this.make(`${this.name} cpu${index}`));
  }
}
