import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import {
  ADDRESS_KEY_SIZE,
  ADDRESS_VALUE_SIZE,
  mapDelete,
  mapUpdate,
  type FdbChange,
} from '../../src/linux/index.js';
import { HookMap, pair } from './landing.js';

/** Where the frames for the addresses behind a port go. */
export interface EarlyPortSlot {
  readonly ifindex: number;
  readonly slot: number;
  /** Addresses behind it that are kept at most, so that nobody crowds out the others'. */
  readonly limit: number;
}

/**
 * What a bridge knows of addresses, in a map of the kernel for the programs of hook `bridge-early`. What is not in it goes
 * through the bridge, so it may lack entries, but must have none that the bridge has not.
 */
export class EarlyAddresses {
  readonly map: HookMap;
  readonly #ports: ReadonlyMap<number, EarlyPortSlot>;
  /** ifindex of the port, by address. */
  readonly #known = new Map<string, number>();
  /** How many of them are behind each port. */
  readonly #held = new Map<number, number>();

  constructor(
    /** ifindex of the bridge. */
    readonly bridge: number,
    ports: readonly EarlyPortSlot[],
  ) {
    this.#ports = new Map(ports.map((port) => [port.ifindex, port]));
    this.map = new HookMap({
      name: 'addresses',
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
      keySize: ADDRESS_KEY_SIZE,
      valueSize: ADDRESS_VALUE_SIZE,
      maxEntries: ports.reduce((sum, { limit }) => sum + limit, 1),
    });
  }

  get size(): number {
    return this.#known.size;
  }

  /** The slot and the port of an address; undefined where it is not known. */
  portOf(address: string): number | undefined {
    return this.#known.get(address);
  }

  apply({ bridge, port, address, vlan, local, gone }: FdbChange): void {
    // A bridge that does not filter VLANs looks only at entries of none.
    if (bridge !== this.bridge || vlan !== 0) return;
    const target = gone || local ? undefined : this.#ports.get(port);
    if (target !== undefined && this.#known.get(address) === port) return;
    this.#forget(address);
    if (target === undefined || (this.#held.get(port) ?? 0) >= target.limit) return;
    if (mapUpdate(this.map.fd, keyOf(address), pair(target.slot, port)) < 0) return;
    this.#known.set(address, port);
    this.#held.set(port, (this.#held.get(port) ?? 0) + 1);
  }

  clear(): void {
    for (const address of [...this.#known.keys()]) this.#forget(address);
  }

  close(): void {
    this.map.close();
  }

  #forget(address: string): void {
    const port = this.#known.get(address);
    if (port === undefined) return;
    mapDelete(this.map.fd, keyOf(address));
    this.#known.delete(address);
    this.#held.set(port, this.#held.get(port)! - 1);
  }
}

/** @param address 12 hex digits. */
function keyOf(address: string): Uint8Array {
  const key = new Uint8Array(ADDRESS_KEY_SIZE);
  key.set(Buffer.from(address, 'hex'));
  return key;
}
