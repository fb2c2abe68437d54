/** `struct btf_header` (include/uapi/linux/btf.h), in bytes. */
const HEADER_BYTES = 24;
const BTF_MAGIC = 0xeb9f;

export const BTF_KIND = { INT: 1, ARRAY: 3, STRUCT: 4, TYPEDEF: 8 } as const;

/** What a `.BTF` section holds; its lengths need not be right. */
export interface BtfSectionFields {
  /** Words of the types, one type after the other. Default: `int` of 8 bytes. */
  readonly types?: readonly number[];
  readonly strings?: string;
  readonly magic?: number;
  readonly headerLength?: number;
  readonly typesLength?: number;
  readonly stringsLength?: number;
}

/** The words of one type: name_off, info, size or type, and what its kind adds. */
export function btfType(
  kind: number,
  sizeOrType: number,
  { name = 0, vlen = 0, more = [] }: { name?: number; vlen?: number; more?: readonly number[] } = {},
): number[] {
  return [name, (kind << 24) | vlen, sizeOrType, ...more];
}

/** An integer of so many bytes, called as string 1 is. */
export function btfInt(bytes: number): number[] {
  return btfType(BTF_KIND.INT, bytes, { name: 1, more: [8 * bytes] });
}

/** A section, well-formed unless the fields say otherwise. */
export function btfSection(fields: BtfSectionFields = {}): Uint8Array {
  const types = fields.types ?? btfInt(8);
  const strings = Buffer.from(fields.strings ?? '\0int\0', 'latin1');
  const bytes = new Uint8Array(HEADER_BYTES + 4 * types.length + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, fields.magic ?? BTF_MAGIC, true);
  view.setUint8(2, 1);
  view.setUint32(4, fields.headerLength ?? HEADER_BYTES, true);
  view.setUint32(12, fields.typesLength ?? 4 * types.length, true);
  view.setUint32(16, 4 * types.length, true);
  view.setUint32(20, fields.stringsLength ?? strings.length, true);
  types.forEach((word, index) => view.setUint32(HEADER_BYTES + 4 * index, word >>> 0, true));
  bytes.set(strings, HEADER_BYTES + 4 * types.length);
  return bytes;
}
