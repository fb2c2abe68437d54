import { BTF_KINDS, type BtfKind } from './btf-type.js';

/**
 * Writes a `.BTF` section type by type (Linux Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
 *
 * ```
 * header   +0 magic u16 · +2 version u8 · +3 flags u8 · +4 hdr_len u32 · +8 type_off, type_len u32
 *          +16 str_off, str_len u32
 * type     +0 name_off u32 · +4 info u32 (kind_flag << 31 | kind << 24 | vlen) · +8 size or type u32, then what the
 *          kind adds
 * ```
 */
export class BtfEncoder {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #strings: Uint8Array[] = [new Uint8Array(1)];
  #stringBytes = 1;
  readonly #types: number[] = [];
  #count = 0;

  /** Bytes of the section so far. */
  get size(): number {
    return HEADER_SIZE + this.#types.length * 4 + this.#stringBytes;
  }

  /** Offset of a string in the section's table; a NUL in it becomes a space. */
  string(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(`${text.replaceAll('\0', ' ')}\0`);
    this.#offsets.set(text, this.#stringBytes);
    this.#strings.push(bytes);
    this.#stringBytes += bytes.length;
    return this.#stringBytes - bytes.length;
  }

  /** Adds a type and returns its id. `body` are the words that its kind has after the first twelve bytes. */
  type(kind: BtfKind, parts: EncodedType): number {
    const info =
      (parts.kindFlag === true ? 0x80000000 : 0) | (BTF_KINDS.indexOf(kind) << 24) | (parts.vlen ?? 0);
    this.#types.push(this.string(parts.name ?? ''), info, parts.sizeOrType);
    for (const word of parts.body ?? []) this.#types.push(word);
    return ++this.#count;
  }

  bytes(): Uint8Array {
    const types = littleEndianWords(this.#types);
    const btf = new Uint8Array(HEADER_SIZE + types.length + this.#stringBytes);
    const header = new DataView(btf.buffer);
    header.setUint16(0, BTF_MAGIC, true);
    header.setUint8(2, 1);
    header.setUint32(4, HEADER_SIZE, true);
    header.setUint32(12, types.length, true);
    header.setUint32(16, types.length, true);
    header.setUint32(20, this.#stringBytes, true);
    btf.set(types, HEADER_SIZE);
    let at = HEADER_SIZE + types.length;
    for (const bytes of this.#strings) {
      btf.set(bytes, at);
      at += bytes.length;
    }
    return btf;
  }
}

export interface EncodedType {
  readonly name?: string;
  readonly kindFlag?: boolean;
  readonly vlen?: number;
  readonly sizeOrType: number;
  readonly body?: readonly number[];
}

/** Numbers as u32, little-endian. */
export function littleEndianWords(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => view.setUint32(index * 4, value, true));
  return bytes;
}

const BTF_MAGIC = 0xeb9f;
const HEADER_SIZE = 24;
