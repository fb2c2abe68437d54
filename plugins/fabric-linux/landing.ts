import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { errnoName } from '../../src/bpf/errno.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  closeFd,
  createKernelMap,
  fdValue,
  linkCreate,
  linkUpdate,
  mapDelete,
  mapUpdate,
  type LinkTarget,
  type NamedMapAttributes,
  type NetworkNamespace,
} from '../../src/linux/index.js';

/**
 * Where a program of the kernel can be put so that packets meet it: a hook of a device, or an element of a map that
 * calls it. Each step is atomic for the packets.
 */
export interface Landing {
  /** Where none is. Throws when the kernel does not take it. */
  put(programFd: number): void;
  /** In the stead of the one that is there. On a throw that one stays. */
  replace(programFd: number): void;
  /** The second and later calls do nothing. */
  take(): void;
}

/** A hook of a network device. The link is this process's: it ends with it, whatever ends it. */
export class LinkLanding implements Landing {
  #link: number | undefined;

  constructor(
    readonly what: string,
    readonly namespace: NetworkNamespace,
    readonly target: LinkTarget,
  ) {}

  put(programFd: number): void {
    const link = this.namespace.run(() => linkCreate(programFd, this.target));
    if (link < 0) throw refused(this.what, link);
    this.#link = link;
  }

  replace(programFd: number): void {
    const status = linkUpdate(this.#link!, programFd);
    if (status < 0) throw refused(this.what, status);
  }

  take(): void {
    if (this.#link === undefined) return;
    closeFd(this.#link);
    this.#link = undefined;
  }
}

/** Elements of maps that refer to a program: all of them, or none. */
export class ElementLanding implements Landing {
  /** @param elements asked for when a program is put there. */
  constructor(
    readonly what: string,
    readonly elements: () => readonly MapElement[],
  ) {}

  put(programFd: number): void {
    const done: MapElement[] = [];
    try {
      for (const element of this.elements()) {
        element.set(programFd);
        done.push(element);
      }
    } catch (error) {
      for (const element of done) element.clear();
      throw error;
    }
  }

  replace(programFd: number): void {
    for (const element of this.elements()) element.set(programFd);
  }

  take(): void {
    for (const element of this.elements()) element.clear();
  }
}

export interface MapElement {
  set(programFd: number): void;
  clear(): void;
}

/** A map of the kernel for the hooks' own use. */
export class HookMap {
  readonly fd: number;
  #open = true;

  constructor(
    readonly attributes: Pick<NamedMapAttributes, 'name' | 'type' | 'maxEntries'> &
      Partial<Pick<NamedMapAttributes, 'keySize' | 'valueSize' | 'flags'>>,
    readonly namespace?: NetworkNamespace,
  ) {
    const fd = createKernelMap({ keySize: 4, valueSize: 4, flags: 0, ...attributes });
    if (fd < 0) throw refused(`map ${attributes.name}`, fd);
    this.fd = fd;
  }

  static programs(name: string, maxEntries: number): HookMap {
    return new HookMap({ name, type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, maxEntries });
  }

  /** Devices of a namespace, each with room for a program (`struct bpf_devmap_val`). */
  static devices(name: string, maxEntries: number, namespace: NetworkNamespace): HookMap {
    return new HookMap({ name, type: BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP, maxEntries, valueSize: 8 }, namespace);
  }

  /** CPUs, each with room for a program (`struct bpf_cpumap_val`). */
  static cpus(name: string, maxEntries: number): HookMap {
    return new HookMap({ name, type: BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP, maxEntries, valueSize: 8 });
  }

  set(index: number, value: Uint8Array): void {
    const update = (): number => mapUpdate(this.fd, fdValue(index), value);
    const status = this.namespace === undefined ? update() : this.namespace.run(update);
    if (status < 0) throw refused(`element ${index} of map ${this.attributes.name}`, status);
  }

  /** A program under an index. */
  programAt(index: number): MapElement {
    return { set: (programFd) => this.set(index, fdValue(programFd)), clear: () => this.clear(index) };
  }

  /** A program on the entry of a device or a CPU: `+0 ifindex or queue size u32 · +4 program fd i32`. */
  programOn(index: number, first: number): MapElement {
    return {
      set: (programFd) => this.set(index, pair(first, programFd)),
      clear: () => this.set(index, pair(first, -1)),
    };
  }

  clear(index: number): void {
    // What is not there need not be taken away.
    mapDelete(this.fd, fdValue(index));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }
}

/** Two u32 one after the other. */
export function pair(first: number, second: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, first, true);
  view.setInt32(4, second, true);
  return bytes;
}

function refused(what: string, errno: number): XdpbedError {
  return new XdpbedError(
    'host-unsupported',
    `${what}: the kernel does not take the program: ${errnoName(errno)}`,
  );
}
