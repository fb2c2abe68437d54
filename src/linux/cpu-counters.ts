import { errnoName } from '../bpf/errno.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import { XdpbedError } from '../core/diagnostic.js';
import { closeFd, mapLookup } from './bpf-syscall.js';
import { createKernelMap, fdValue, kernelValueSize } from './kernel-map.js';

/**
 * Counters that programs of the kernel add to: a PERCPU_ARRAY of u64, so that no CPU waits for another. Reading one gives
 * the sum over all CPUs.
 */
export class CpuCounters {
  readonly #attributes;
  /** Undefined once it is closed. */
  #fd: number | undefined;
  #last: readonly number[];

  /** @param name of the map, as `bpftool map` shows it. Throws `host-unsupported` with the kernel's reason. */
  constructor(name: string, count: number) {
    this.#attributes = {
      name,
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: count,
      flags: 0,
    };
    const fd = createKernelMap(this.#attributes);
    if (fd < 0) throw new XdpbedError('host-unsupported', `no map for counters: ${errnoName(fd)}`);
    this.#fd = fd;
    this.#last = Array.from({ length: count }, () => 0);
  }

  /** Of the map. Must not be asked for once it is closed. */
  get fd(): number {
    if (this.#fd === undefined) throw new Error(`counters ${this.#attributes.name} are closed`);
    return this.#fd;
  }

  /** All counters so far; once closed, what they were then. */
  read(): readonly number[] {
    const fd = this.#fd;
    return fd === undefined ? this.#last : this.#last.map((_, index) => this.#sum(fd, index));
  }

  close(): void {
    if (this.#fd === undefined) return;
    const fd = this.#fd;
    try {
      this.#last = this.read();
    } finally {
      this.#fd = undefined;
      closeFd(fd);
    }
  }

  #sum(fd: number, index: number): number {
    const value = mapLookup(fd, fdValue(index), kernelValueSize(this.#attributes));
    if (typeof value === 'number') {
      throw new XdpbedError('plugin-failed', `counters cannot be read: ${errnoName(value)}`);
    }
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    let sum = 0n;
    for (let at = 0; at < value.length; at += 8) sum += view.getBigUint64(at, true);
    return Number(sum);
  }
}
