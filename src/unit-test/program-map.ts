import type { BtfTypeRef } from '../bpf/btf/btf-type-ref.js';
import type { Btf } from '../bpf/btf/btf.js';
import { readUntyped, readValue, type BtfValue } from '../bpf/btf/read-value.js';
import { E2BIG, EINVAL, ENOENT, ENOSPC, EPERM, errnoName } from '../bpf/errno.js';
import type { ObjectSpec } from '../bpf/elf/object-spec.js';
import {
  BPF_MAP_TYPE as T,
  mapTypeName,
  type MapInitialEntry,
  type MapSpec,
  type ObjectPart,
} from '../bpf/map-spec.js';
import { cpuStride, isPerCpu } from '../bpf/per-cpu-value.js';
import type { BpfMap, MapRecord } from '../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { written } from './written-value.js';
import { parseTarget } from '../core/testbed/map-input.js';
import { holdsObjects, parseElement } from '../core/testbed/map-values.js';
import type { ElementMap, QueueMap, RecordMap, RecordOptions } from './map-types.js';

const QUEUES: ReadonlySet<number> = new Set([T.BPF_MAP_TYPE_QUEUE, T.BPF_MAP_TYPE_STACK]);
const BUFFERS: ReadonlySet<number> = new Set([T.BPF_MAP_TYPE_RINGBUF, T.BPF_MAP_TYPE_PERF_EVENT_ARRAY]);

/** The program that a map is of. */
export interface MapOwner {
  readonly object: ObjectSpec;
  isLoaded(part: ObjectPart): boolean;
  /** Throws `map-invalid`. */
  place(map: string, element: MapInitialEntry): void;
}

/**
 * A map of a loaded program, with keys and values as JavaScript has them. It has the methods of every kind of map; those
 * that a map's kind does not have throw `usage`. `ElementMap`, `PerCpuMap`, `QueueMap` and `RecordMap` are what there is of
 * each kind, for the type argument of `loadProgram`.
 */
export class ProgramMap<K = unknown, V = unknown, W = unknown>
  implements ElementMap<K, V, W>, QueueMap<V>, RecordMap
{
  /** @param current the map itself: another one after a `reset` that had to load again */
  constructor(
    readonly spec: MapSpec,
    private readonly owner: MapOwner,
    private readonly current: () => BpfMap,
  ) {}

  get name(): string {
    return this.spec.name;
  }

  /** `BPF_MAP_TYPE_HASH` … */
  get type(): string {
    return mapTypeName(this.spec.type);
  }

  /** How many values an element of a per-CPU map has: of the kernel's, one for each CPU that the machine may have. */
  get cpus(): number {
    return isPerCpu(this.spec) ? this.current().syscallValueSize / cpuStride(this.spec) : 1;
  }

  get(key: unknown): V | undefined {
    const found = this.#elements('get').lookup(this.#key(key));
    if (found === -ENOENT) return undefined;
    if (typeof found === 'number') throw this.#refused('get', found, key);
    return this.#read(found);
  }

  set(key: unknown, value: W): void {
    const map = this.#elements('set');
    if (holdsObjects(this.spec)) return this.#refer(this.#key(key), value);
    const status = map.update(this.#key(key), this.#write(value), 0n);
    if (status !== 0) throw this.#refused('set', status, key);
  }

  #refer(key: Uint8Array, name: unknown): void {
    const { owner, spec } = this;
    const part = written(() => parseTarget(owner.object, spec, name, `${spec.name} value`));
    if (!owner.isLoaded(part)) {
      throw new XdpbedError('usage', `${spec.name}: '${String(name)}' is not loaded with the program`, {
        hint: `have it loaded: loadProgram(…, { also: ['${String(name)}'] })`,
      });
    }
    owner.place(spec.name, { key, ...part });
  }

  delete(key: unknown): boolean {
    const status = this.#elements('delete').delete(this.#key(key));
    if (status !== 0 && status !== -ENOENT) throw this.#refused('delete', status, key);
    return status === 0;
  }

  has(key: unknown): boolean {
    return this.get(key) !== undefined;
  }

  entries(): [K, V][] {
    const map = this.#elements('entries');
    const entries: [K, V][] = [];
    for (const key of keysOf(map)) {
      const value = map.lookup(key);
      if (typeof value === 'number') continue;
      entries.push([this.#value(this.spec.keyType, key) as K, this.#read(value)]);
    }
    return entries;
  }

  get size(): number {
    const map = this.#elements('size');
    let size = 0;
    for (const key of keysOf(map)) if (typeof map.lookup(key) !== 'number') size++;
    return size;
  }

  [Symbol.iterator](): Iterator<[K, V]> {
    return this.entries()[Symbol.iterator]();
  }

  push(value: unknown): void {
    const map = this.#kind(QUEUES, 'push');
    const status = map.update(new Uint8Array(), this.#element(value, 'value'), 0n);
    if (status !== 0) throw this.#refused('push', status);
  }

  pop(): V | undefined {
    return this.#taken('pop', this.#kind(QUEUES, 'pop').lookupAndDelete(new Uint8Array()));
  }

  peek(): V | undefined {
    return this.#taken('peek', this.#kind(QUEUES, 'peek').lookup(new Uint8Array()));
  }

  records<R = unknown>({ type }: RecordOptions = {}): R[] {
    const found = type === undefined ? this.spec.valueType : this.#typeOf(type);
    return this.rawRecords().map(({ data }, index) => {
      if (found === undefined) return data as R;
      const size = found.btf.sizeOf(found.id) ?? 0;
      const mayHaveMore = this.spec.type === T.BPF_MAP_TYPE_PERF_EVENT_ARRAY;
      if (data.length === size || (mayHaveMore && data.length > size)) return readValue(found, data) as R;
      throw new XdpbedError(
        'map-invalid',
        `record ${index + 1} of ${this.name} has ${data.length} bytes, and ${found.btf.describe(found.id)} has ${size}`,
        { hint: 'rawRecords gives records as bytes' },
      );
    });
  }

  rawRecords(): readonly MapRecord[] {
    return this.#kind(BUFFERS, 'records').drainRecords!();
  }

  #elements(method: string): BpfMap {
    const { type } = this.spec;
    if (!QUEUES.has(type) && !BUFFERS.has(type)) return this.current();
    const has = QUEUES.has(type) ? 'push, pop and peek' : 'records';
    throw new XdpbedError('usage', `${this.name}.${method}: a ${this.type} has ${has}, and no keys`);
  }

  #kind(types: ReadonlySet<number>, method: string): BpfMap {
    if (types.has(this.spec.type)) return this.current();
    throw new XdpbedError('usage', `${this.name}.${method}: a ${this.type} has no ${method}`);
  }

  #taken(method: string, found: Uint8Array | number): V | undefined {
    if (found === -ENOENT) return undefined;
    if (typeof found === 'number') throw this.#refused(method, found);
    return this.#value(this.spec.valueType, found) as V;
  }

  #key(input: unknown): Uint8Array {
    const { keyType, keySize, name } = this.spec;
    return written(() => parseElement(keyType, keySize, input, { what: `${name} key` }));
  }

  #element(input: unknown, what: string): Uint8Array {
    const { valueType, valueSize, name } = this.spec;
    return written(() => parseElement(valueType, valueSize, input, { what: `${name} ${what}` }));
  }

  /** A value as the system call takes it. */
  #write(input: unknown): Uint8Array {
    if (!isPerCpu(this.spec)) return this.#element(input, 'value');
    const isByCpu = Array.isArray(input);
    const { cpus } = this;
    if (isByCpu && input.length !== cpus) {
      throw new XdpbedError('map-invalid', `${this.name}: ${input.length} values for ${cpus} CPUs`, {
        hint: 'a list has a value for each CPU; anything else is the value of all of them',
      });
    }
    const stride = cpuStride(this.spec);
    const all = new Uint8Array(stride * cpus);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const own = isByCpu ? this.#element(input[cpu], `value of CPU ${cpu}`) : this.#element(input, 'value');
      all.set(own, cpu * stride);
    }
    return all;
  }

  #read(bytes: Uint8Array): V {
    const { valueType, valueSize } = this.spec;
    if (!isPerCpu(this.spec)) return this.#value(valueType, bytes) as V;
    const stride = cpuStride(this.spec);
    const values = Array.from({ length: this.cpus }, (_, cpu) =>
      this.#value(valueType, bytes.subarray(cpu * stride, cpu * stride + valueSize)),
    );
    return values as V;
  }

  #value(type: BtfTypeRef | undefined, bytes: Uint8Array): BtfValue {
    return type?.btf.sizeOf(type.id) === bytes.length ? readValue(type, bytes) : readUntyped(bytes);
  }

  #typeOf(name: string): BtfTypeRef {
    const { btf } = this.owner.object;
    if (btf === undefined) {
      throw new XdpbedError('map-invalid', `the object has no BTF, and so no type '${name}'`, {
        hint: 'compile it with -g',
      });
    }
    const plain = name.replace(/^(?:struct|union) /, '');
    for (const kind of ['STRUCT', 'UNION', 'TYPEDEF'] as const) {
      const found = btf.find(kind, plain);
      if (found !== undefined) return { btf, id: found.id };
    }
    const near = nearest(plain, namedTypes(btf));
    throw new XdpbedError('map-invalid', `the object's BTF has no type '${plain}'`, {
      hint:
        near === undefined
          ? 'BTF has what is referred to: a variable `const struct NAME *unused __attribute__((unused))` will do'
          : `did you mean '${near}'?`,
    });
  }

  #refused(method: string, status: number, key?: unknown): XdpbedError {
    const where = key === undefined ? '' : ` of ${describeKey(key)}`;
    return new XdpbedError('map-invalid', `${this.name}.${method}${where}: ${this.#why(status)}`);
  }

  #why(status: number): string {
    const name = errnoName(status);
    if (status === -E2BIG || status === -ENOSPC) {
      return `${name}, there is no element beyond max_entries, ${this.current().attributes.maxEntries}`;
    }
    if (status === -EPERM) return `${name}, the map cannot be changed`;
    if (status === -EINVAL) return `${name}, a ${this.type} does not take this`;
    return name;
  }
}

function* keysOf(map: BpfMap): Generator<Uint8Array> {
  for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) yield key;
}

function namedTypes(btf: Btf): string[] {
  return Array.from({ length: btf.typeCount }, (_, id) => btf.type(id))
    .filter(({ kind, name }) => name !== '' && ['STRUCT', 'UNION', 'TYPEDEF'].includes(kind))
    .map(({ name }) => name);
}

function describeKey(key: unknown): string {
  return JSON.stringify(key, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
