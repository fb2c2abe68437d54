import { Type, type Static } from '@sinclair/typebox';
import { E2BIG, EINVAL, ENOMEM } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE as T, type MapAttributes } from '../../src/bpf/map-spec.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import type { MapBackend, MapCreateOptions } from '../../src/core/contract/map-backend.js';
import { PARTY_MEMORY } from '../../src/core/contract/party.js';
import type { Lifecycle, ProbeResult } from '../../src/core/contract/plugin.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { closeFd, possibleCpus } from '../../src/linux/bpf-syscall.js';
import { DEFAULT_PERF_BUFFER_BYTES, isKernelMap, KernelBpfMap } from '../../src/linux/kernel-bpf-map.js';
import { createWithBtf, PAGE_SIZE } from '../../src/linux/kernel-map.js';
import { kernelMapMemory, STRUCT_SIZE } from '../../src/linux/map-memory.js';
import { NETWORK_NAMESPACE, type NetworkNamespace } from '../../src/linux/network-namespace.js';

export const KernelMapConfig = Type.Object(
  {
    memoryMiB: Type.Integer({
      description: 'MiB of kernel memory that the maps of one party may take together, when they are full',
      minimum: 1,
      maximum: 1024 * 1024,
      default: 1024,
    }),
    perfBufferPages: Type.Integer({
      description:
        'pages of the buffer that each CPU has in a PERF_EVENT_ARRAY, rounded up to a power of two',
      minimum: 1,
      maximum: 4096,
      default: DEFAULT_PERF_BUFFER_BYTES / PAGE_SIZE,
    }),
  },
  { additionalProperties: false },
);
export type KernelMapConfig = Static<typeof KernelMapConfig>;
export const KERNEL_MAP_CONFIG = token<KernelMapConfig>('map-backend-kernel.config');

/** The map types this backend serves: those that XDP programs use. */
export const SUPPORTED_MAP_TYPES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_LPM_TRIE,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_CPUMAP,
  T.BPF_MAP_TYPE_XSKMAP,
  T.BPF_MAP_TYPE_QUEUE,
  T.BPF_MAP_TYPE_STACK,
  T.BPF_MAP_TYPE_DEVMAP_HASH,
  T.BPF_MAP_TYPE_RINGBUF,
]);

/** The kernel takes it for no file descriptor at all, and says EBADF. */
const NO_FD = 0xffff_ffff;
const MIB = 1024 * 1024;

/**
 * Maps of the kernel that this runs on. They live until they are closed, or the instance is stopped: nothing is pinned.
 * Entries of a DEVMAP name devices of the scope's NETWORK_NAMESPACE, where there is one.
 */
@injectable()
export class KernelMapBackend implements MapBackend, Lifecycle {
  readonly name = 'kernel';
  /** Every CPU that the kernel may ever have. */
  get cpus(): number {
    return possibleCpus();
  }
  readonly #limit: number;
  readonly #perfBufferBytes: number;
  readonly #namespace: NetworkNamespace | undefined;
  readonly #maps = new Set<KernelBpfMap>();
  #used = 0;

  constructor(
    @inject(KERNEL_MAP_CONFIG) config: KernelMapConfig,
    @inject(NETWORK_NAMESPACE, { isOptional: true }) namespace?: NetworkNamespace,
    @inject(PARTY_MEMORY, { isOptional: true }) memory = Infinity,
  ) {
    this.#limit = Math.min(config.memoryMiB * MIB, memory);
    this.#perfBufferBytes = 2 ** Math.ceil(Math.log2(config.perfBufferPages)) * PAGE_SIZE;
    this.#namespace = namespace;
  }

  probe(): ProbeResult {
    return probeBpf();
  }

  stop(): void {
    for (const map of [...this.#maps]) map.close();
  }

  /** A map, or what the kernel says: `-errno`. ENOMEM also for one that exceeds the limit of `memoryMiB`. */
  create(attributes: MapAttributes, options: MapCreateOptions): KernelBpfMap | number {
    if (!SUPPORTED_MAP_TYPES.has(attributes.type)) return -EINVAL;
    const { innerTemplate } = options;
    const innerFd = innerTemplate !== undefined && isKernelMap(innerTemplate) ? innerTemplate.fd : NO_FD;
    const cost = this.memoryCost(attributes);
    if (this.#used + cost > this.#limit) {
      const refusal = refusalWithoutMemory(attributes, innerFd);
      return refusal < 0 ? refusal : -ENOMEM;
    }
    const fd = createMap(options.name, attributes, innerFd);
    if (fd < 0) return fd;
    const inner = innerTemplate?.attributes ?? attributes.inner;
    this.#used += cost;
    const map: KernelBpfMap = new KernelBpfMap(options.name, { ...attributes, inner }, fd, {
      namespace: this.#namespace,
      perfBufferBytes: this.#perfBufferBytes,
      onClose: () => this.#maps.delete(map),
      onRelease: () => (this.#used -= cost),
    });
    this.#maps.add(map);
    return map;
  }

  /** That of the map, and of the buffers that are opened with a PERF_EVENT_ARRAY. */
  memoryCost(attributes: MapAttributes): number {
    const map = kernelMapMemory(attributes, possibleCpus());
    if (attributes.type !== T.BPF_MAP_TYPE_PERF_EVENT_ARRAY) return map;
    return map + Math.min(attributes.maxEntries, possibleCpus()) * (PAGE_SIZE + this.#perfBufferBytes);
  }

  memory(): { total: number; used: number } {
    return { total: this.#limit, used: this.#used };
  }
}

function createMap(name: string, attributes: MapAttributes, innerFd: number): number {
  const { type, keySize, valueSize, maxEntries, flags, btf } = attributes;
  const isMapInMap = type === T.BPF_MAP_TYPE_ARRAY_OF_MAPS || type === T.BPF_MAP_TYPE_HASH_OF_MAPS;
  const innerMapFd = isMapInMap ? innerFd : undefined;
  return createWithBtf({ name, type, keySize, valueSize, maxEntries, flags, innerMapFd }, btf);
}

/** What the kernel would say to attributes whose memory it is not to take: 0 or `-errno`. */
function refusalWithoutMemory(attributes: MapAttributes, innerFd: number): number {
  const { type, maxEntries } = attributes;
  let few = Math.min(maxEntries, 1);
  // Sizes that are none are refused before anything is allocated.
  if (type === T.BPF_MAP_TYPE_RINGBUF) few = isRingSize(maxEntries) ? PAGE_SIZE : maxEntries;
  const fd = createMap('', { ...attributes, maxEntries: few }, innerFd);
  if (fd < 0) return fd;
  closeFd(fd);
  // kernel/bpf/hashtab.c, htab_map_alloc: the table's bytes are counted in 32 bits.
  const isHash = HASH_TYPES.has(type);
  return isHash && 2 ** Math.ceil(Math.log2(maxEntries)) * STRUCT_SIZE.bucket > 0xffff_ffff ? -E2BIG : 0;
}

const HASH_TYPES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
]);

function isRingSize(bytes: number): boolean {
  return bytes >= PAGE_SIZE && Number.isInteger(Math.log2(bytes));
}
