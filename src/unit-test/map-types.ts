import type { MapRecord } from '../bpf/runtime/bpf-map.js';

/**
 * What is taken where V is what is read: members of structs may be left out (0), integers be given as number, bigint or
 * text, and whole values as their bytes.
 */
export type Written<V> =
  | Uint8Array
  | (V extends bigint | number
      ? bigint | number | string
      : V extends boolean
        ? boolean
        : V extends string
          ? string | number
          : V extends readonly (infer E)[]
            ? readonly Written<E>[]
            : { readonly [N in keyof V]?: Written<V[N]> });

/**
 * A map of elements: every hash and array, LPM_TRIE, DEVMAP, DEVMAP_HASH, CPUMAP, XSKMAP. What keys and values look like is
 * said at `readValue` of `xdpbed/bpf`: 64-bit integers are bigints, those of up to 32 bits numbers.
 *
 * Each method throws `map-invalid`, naming the map and the member, for what the map's types or the kernel do not take.
 */
export interface ElementMap<K, V, W = Written<V>> extends Iterable<[K, V]> {
  readonly name: string;
  /** Of an LPM_TRIE, the value of the longest prefix that matches. undefined: there is none. */
  get(key: Written<K>): V | undefined;
  /** What is left out of a struct is 0. */
  set(key: Written<K>, value: W): void;
  /** Whether there was one. */
  delete(key: Written<K>): boolean;
  has(key: Written<K>): boolean;
  /** In the order in which the system call walks the map; of an array, every element. */
  entries(): [K, V][];
  /** How many elements there are: of an array, always `max_entries`. */
  readonly size: number;
}

/** A map with a value for each CPU: `get` gives a list by CPU. A list that is set gives each CPU its own, anything else all. */
export type PerCpuMap<K, V> = ElementMap<K, V[], Written<V> | readonly Written<V>[]>;

/**
 * PROG_ARRAY, ARRAY_OF_MAPS and HASH_OF_MAPS: `set` takes the name of a program or map of the object that is loaded with the
 * program (`LoadProgramOptions.also`). What `get` gives is the number by which executor or map backend knows it.
 */
export type ObjectMap<K = number> = ElementMap<K, number, string>;

/** QUEUE and STACK. */
export interface QueueMap<V> {
  readonly name: string;
  push(value: Written<V>): void;
  /** Takes the first of a queue, the last of a stack; undefined: there is none. */
  pop(): V | undefined;
  /** The same without taking it. */
  peek(): V | undefined;
}

export interface RecordOptions {
  /** Name of the struct, union or typedef in the object's BTF that a record is. Without one, records are bytes. */
  readonly type?: string | undefined;
}

/** RINGBUF and PERF_EVENT_ARRAY: what the program sent. */
export interface RecordMap {
  readonly name: string;
  /**
   * Records since the last call, oldest first. Throws `map-invalid` for a type that the BTF does not have, and for a record
   * of a ring buffer that is of another size. Behind those of a PERF_EVENT_ARRAY may be more, such as the packet.
   */
  records<T = unknown>(options?: RecordOptions): T[];
  /** The same as bytes, with the CPU that sent each, and how many were lost before it because the buffer was full. */
  rawRecords(): readonly MapRecord[];
}
