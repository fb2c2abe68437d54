import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';

/**
 * What a checked program remembers of where objects lie, in wasm globals beside the memory, where no program can write:
 * the object that was read last and the one that was written last, of those that its code does not keep itself, and
 * whether a map is gone that its code takes for being there. Whenever an object is removed, the former is forgotten and
 * the latter found out.
 */
export class ObjectCache {
  readonly read = emptyRange();
  readonly write = emptyRange();
  /** 1 from when a watched object was removed. */
  readonly stale = new WebAssembly.Global({ value: 'i32', mutable: true }, 0);
  readonly #watched = new Set<number>();
  readonly close: () => void;

  constructor(readonly space: AddressSpace) {
    this.close = space.onRelease((region) => this.#released(region));
  }

  /** Sets `stale` when the object that an address lies in is removed. */
  watch(address: number): void {
    this.#watched.add(address);
    if (this.space.regionAt(address) === undefined) this.stale.value = 1;
  }

  /** The address is one at which an access was let pass. Not for the packet, whose bounds the frame has. */
  remember(address: number, write: boolean): void {
    const { start, end } = this.space.boundsAt(address);
    const range = write ? this.write : this.read;
    range.start.value = start;
    range.end.value = end;
  }

  #released(region: Region): void {
    for (const { start, end } of [this.read, this.write]) {
      start.value = 0;
      end.value = 0;
    }
    for (const address of this.#watched)
      if (address >= region.start && address < region.start + region.size) this.stale.value = 1;
  }
}

function emptyRange(): { readonly start: WebAssembly.Global; readonly end: WebAssembly.Global } {
  const global = (): WebAssembly.Global => new WebAssembly.Global({ value: 'i32', mutable: true }, 0);
  return { start: global(), end: global() };
}
