import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX } from '../../src/bpf/xdp.js';
import { errnoName } from '../../src/bpf/errno.js';
import { emptyVerdictCounts, type VerdictCounts } from '../../src/core/contract/result.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { closeFd, createKernelMap, kernelValueSize, mapLookup } from '../../src/linux/index.js';

/** The counters' map, as `countVerdicts` wants it: the verdicts by their number, then any other value. */
const COUNTERS = {
  name: 'verdicts',
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 6,
  flags: 0,
};
/** Where values that are no verdict are counted; a driver takes them for XDP_ABORTED. */
const OTHER = 5;

/** What the programs of one attachment returned, counted by themselves in a map of the kernel. */
export class VerdictCounters {
  /** Undefined once it is closed. */
  #fd: number | undefined;
  #last = emptyVerdictCounts();

  constructor() {
    const fd = createKernelMap(COUNTERS);
    if (fd < 0) throw new XdpbedError('host-unsupported', `no map for counters: ${errnoName(fd)}`);
    this.#fd = fd;
  }

  get fd(): number {
    if (this.#fd === undefined) throw new Error('the counters are closed');
    return this.#fd;
  }

  /** So far; once closed, what it was then. */
  read(): VerdictCounts {
    if (this.#fd === undefined) return { ...this.#last };
    const fd = this.#fd;
    return {
      XDP_ABORTED: count(fd, XDP_ABORTED) + count(fd, OTHER),
      XDP_DROP: count(fd, XDP_DROP),
      XDP_PASS: count(fd, XDP_PASS),
      XDP_TX: count(fd, XDP_TX),
      XDP_REDIRECT: count(fd, XDP_REDIRECT),
    };
  }

  close(): void {
    if (this.#fd === undefined) return;
    this.#last = this.read();
    closeFd(this.#fd);
    this.#fd = undefined;
  }
}

/** One counter, of all CPUs together. */
function count(fd: number, index: number): number {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, index, true);
  const value = mapLookup(fd, key, kernelValueSize(COUNTERS));
  if (typeof value === 'number')
    throw new XdpbedError('plugin-failed', `counters cannot be read: ${errnoName(value)}`);
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  let sum = 0n;
  for (let at = 0; at < value.length; at += 8) sum += view.getBigUint64(at, true);
  return Number(sum);
}
