import { readFileSync } from 'node:fs';
import { XdpbedError, messageOf } from '../core/diagnostic.js';

const VMLINUX = '/sys/kernel/btf/vmlinux';
/** `struct btf_header`: +4 hdr_len u32 · +8 type_off u32 · +12 type_len u32 · +16 str_off u32. */
const BTF_MAGIC = 0xeb9f;
/** `BTF_KIND_…` (include/uapi/linux/btf.h) of what members may be made of. */
const STRUCT = 4;
const UNION = 5;
const TYPEDEF = 8;
const VOLATILE = 9;
const CONST = 10;
/** Bytes behind a type's 12, by kind: so many, and so many for each of its `vlen` parts. */
const EXTRA: Readonly<Record<number, readonly [number, number]>> = {
  1: [4, 0],
  3: [12, 0],
  4: [0, 12],
  5: [0, 12],
  6: [0, 8],
  13: [0, 8],
  14: [4, 0],
  15: [0, 12],
  17: [4, 0],
  19: [0, 12],
};

/**
 * The types of the running kernel, as far as finding a member of a struct goes. The kernel has some hundred thousand types
 * in six megabytes: they are walked over where they lie, once, instead of being read into objects, which takes seconds.
 */
export class KernelTypes {
  static #own: KernelTypes | undefined;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #strings: number;
  /** Where each type begins, by its id. */
  readonly #starts: Uint32Array;

  /** Of the kernel that this runs on. Throws `host-unsupported` where it does not show them. */
  static get own(): KernelTypes {
    KernelTypes.#own ??= new KernelTypes(readVmlinux());
    return KernelTypes.#own;
  }

  /** @param bytes a little-endian BTF blob of a kernel, which is trusted. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== BTF_MAGIC) {
      throw new XdpbedError('host-unsupported', `${VMLINUX} is no BTF`);
    }
    const header = this.#u32(4);
    const first = header + this.#u32(8);
    const end = first + this.#u32(12);
    this.#strings = header + this.#u32(16);
    // Every type has 12 bytes at least; ids count from 1.
    const starts = new Uint32Array(1 + Math.floor((end - first) / 12));
    let id = 0;
    for (let at = first; at < end;) {
      starts[++id] = at;
      const info = this.#u32(at + 4);
      const [fixed, each] = EXTRA[(info >>> 24) & 0x1f] ?? [0, 0];
      at += 12 + fixed + each * (info & 0xffff);
    }
    this.#starts = starts.subarray(0, id + 1);
  }

  /**
   * Bytes from the start of a struct to a member, `a` or `a.b`; members of unnamed structs and unions belong to the one
   * around them. Throws `host-unsupported` where this kernel has none of the kind.
   */
  offsetOf(struct: string, path: string): number {
    for (let id = 1; id < this.#starts.length; id++) {
      const at = this.#starts[id]!;
      if (this.#kind(at) !== STRUCT || !this.#isNamed(at, struct)) continue;
      const offset = this.#within(at, path);
      if (offset !== undefined) return offset;
    }
    throw new XdpbedError('host-unsupported', `struct ${struct} of this kernel has no ${path}`);
  }

  #within(type: number, path: string): number | undefined {
    const dot = path.indexOf('.');
    const name = dot < 0 ? path : path.slice(0, dot);
    const info = this.#u32(type + 4);
    for (let index = 0; index < (info & 0xffff); index++) {
      const member = type + 12 + 12 * index;
      const unnamed = this.#u32(member) === 0;
      const rest = unnamed
        ? path
        : this.#isNamed(member, name)
          ? dot < 0
            ? ''
            : path.slice(dot + 1)
          : undefined;
      if (rest === undefined) continue;
      // With kind_flag the upper 8 bits are the width of a bit field.
      const bits = info >>> 31 === 1 ? this.#u32(member + 8) & 0xff_ffff : this.#u32(member + 8);
      if (rest === '') return bits / 8;
      const inner = this.#composite(this.#u32(member + 4));
      const offset = inner === undefined ? undefined : this.#within(inner, rest);
      if (offset !== undefined) return bits / 8 + offset;
    }
    return undefined;
  }

  /** Where the struct or union begins that a type is, or is another name for. */
  #composite(id: number): number | undefined {
    for (let at = this.#starts[id]; at !== undefined && at !== 0; at = this.#starts[this.#u32(at + 8)]) {
      const kind = this.#kind(at);
      if (kind === STRUCT || kind === UNION) return at;
      if (kind !== TYPEDEF && kind !== VOLATILE && kind !== CONST) return undefined;
    }
    return undefined;
  }

  #kind(at: number): number {
    return (this.#u32(at + 4) >>> 24) & 0x1f;
  }

  /** Whether a type or member, which begins with its name's place, has this name of ASCII. */
  #isNamed(at: number, name: string): boolean {
    const start = this.#strings + this.#u32(at);
    for (let index = 0; index < name.length; index++) {
      if (this.#bytes[start + index] !== name.charCodeAt(index)) return false;
    }
    return this.#bytes[start + name.length] === 0;
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
}

function readVmlinux(): Uint8Array {
  try {
    return readFileSync(VMLINUX);
  } catch (cause) {
    throw new XdpbedError(
      'host-unsupported',
      `the kernel's types cannot be read from ${VMLINUX}: ${messageOf(cause)}`,
      {
        cause,
        hint: 'it needs CONFIG_DEBUG_INFO_BTF',
      },
    );
  }
}
