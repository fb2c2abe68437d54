import { BoundedReader } from '../bounded-reader.js';
import type { Btf } from './btf.js';

/** A source line, from `.BTF.ext` (`struct bpf_line_info`, include/uapi/linux/btf.h). */
export interface LineInfo {
  /** First slot that this line made. */
  readonly insn: number;
  readonly file: string;
  /** The source text, trimmed. */
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
  readonly column: number;
}

/** Where a function starts and what it is called (`struct bpf_func_info`). */
export interface FunctionInfo {
  readonly insn: number;
  readonly name: string;
  /** A static function is verified with its caller's facts, a global one by its signature. */
  readonly linkage: 'static' | 'global' | 'extern';
  /** BTF type id of the FUNC. */
  readonly typeId: number;
}

/** A CO-RE relocation (`struct bpf_core_relo`): an insn whose value depends on the kernel's types. */
export interface CoreRelocation {
  readonly insn: number;
  /** Root type, in the object's own BTF. */
  readonly typeId: number;
  /** Access path, e.g. `0:1:2`: index, member, member. */
  readonly access: string;
  readonly kind: CoreRelocationKind;
}

/** `enum bpf_core_relo_kind`, in order. */
export const CORE_RELOCATION_KINDS = [
  'FIELD_BYTE_OFFSET',
  'FIELD_BYTE_SIZE',
  'FIELD_EXISTS',
  'FIELD_SIGNED',
  'FIELD_LSHIFT_U64',
  'FIELD_RSHIFT_U64',
  'TYPE_ID_LOCAL',
  'TYPE_ID_TARGET',
  'TYPE_EXISTS',
  'TYPE_SIZE',
  'ENUMVAL_EXISTS',
  'ENUMVAL_VALUE',
  'TYPE_MATCHES',
] as const;
export type CoreRelocationKind = (typeof CORE_RELOCATION_KINDS)[number];

/**
 * The `.BTF.ext` of an unlinked object: what it says of each ELF section, with slots counted from the start of
 * that section and in rising order.
 *
 * ```
 * struct btf_ext_header                     each of the three tables
 *   +0  magic u16, version u8, flags u8       u32 record size
 *   +4  hdr_len u32                           then per ELF section:
 *   +8  func_info_off, func_info_len u32        u32 section name, u32 count
 *   +16 line_info_off, line_info_len u32        count records; the first u32 of each is a byte offset
 *   +24 core_relo_off, core_relo_len u32
 * ```
 */
export class BtfExt {
  readonly functions: ReadonlyMap<string, readonly FunctionInfo[]>;
  readonly lines: ReadonlyMap<string, readonly LineInfo[]>;
  readonly coreRelocations: ReadonlyMap<string, readonly CoreRelocation[]>;

  /** Throws `btf-invalid` naming the offset in the file. */
  constructor(bytes: Uint8Array, btf: Btf, fileOffset = 0) {
    const reader: BoundedReader = new BoundedReader(bytes, 'btf-invalid', fileOffset);
    const magic = reader.u16(0, 'the .BTF.ext magic number');
    if (magic !== 0xeb9f) reader.fail(`.BTF.ext magic number 0x${magic.toString(16)} instead of 0xeb9f`, 0);
    const version = reader.u8(2, 'the .BTF.ext version');
    if (version !== 1) reader.fail(`.BTF.ext version ${version} instead of 1`, 2);
    const headerLength = reader.u32(4, 'hdr_len');
    reader.require(0, headerLength, 'the .BTF.ext header');
    const table = <T extends { readonly insn: number }>(
      field: number,
      what: string,
      minimum: number,
      read: (at: number) => T,
    ): Map<string, T[]> => {
      // A header of an older version ends before the fields it does not know.
      if (field + 8 > headerLength) return new Map();
      const start = headerLength + reader.u32(field, what);
      const length = reader.u32(field + 4, what);
      reader.require(start, length, what);
      return readTable(reader, btf, start, start + length, what, minimum, read);
    };

    this.functions = table(8, 'func_info', 8, (at): FunctionInfo => {
      const typeId = reader.u32(at + 4, 'func_info');
      const type = btf.type(typeId);
      if (type.kind !== 'FUNC') reader.fail(`func_info names type ${typeId}, which is not a FUNC`, at + 4);
      return { insn: slot(reader, at), name: type.name, linkage: type.linkage, typeId };
    });
    this.lines = table(16, 'line_info', 16, (at): LineInfo => {
      const lineAndColumn = reader.u32(at + 12, 'line_info');
      return {
        insn: slot(reader, at),
        file: btf.strings.cut(reader.u32(at + 4, 'line_info'), 'the file of a line'),
        text: btf.strings.cut(reader.u32(at + 8, 'line_info'), 'the text of a line').trim(),
        line: lineAndColumn >>> 10,
        column: lineAndColumn & 0x3ff,
      };
    });
    this.coreRelocations = table(24, 'core_relo', 16, (at): CoreRelocation => {
      const number = reader.u32(at + 12, 'core_relo');
      const kind = CORE_RELOCATION_KINDS[number];
      if (kind === undefined) reader.fail(`a CO-RE relocation of unknown kind ${number}`, at + 12);
      return {
        insn: slot(reader, at),
        typeId: reader.u32(at + 4, 'core_relo'),
        access: btf.strings.at(reader.u32(at + 8, 'core_relo'), 'the access path of a CO-RE relocation'),
        kind,
      };
    });
  }
}

function slot(reader: BoundedReader, at: number): number {
  const offset = reader.u32(at, 'insn_off');
  if (offset % 8 !== 0) reader.fail(`insn_off ${offset} is not a multiple of 8`, at);
  return offset / 8;
}

function readTable<T extends { readonly insn: number }>(
  reader: BoundedReader,
  btf: Btf,
  start: number,
  end: number,
  what: string,
  minimum: number,
  read: (at: number) => T,
): Map<string, T[]> {
  const sections = new Map<string, T[]>();
  if (start === end) return sections;
  if (end - start < 4) reader.fail(`${what} is cut off`, start);
  const recordSize = reader.u32(start, `the record size of ${what}`);
  if (recordSize < minimum || recordSize % 4 !== 0 || recordSize > MAX_RECORD) {
    reader.fail(`records of ${recordSize} bytes in ${what}, where ${minimum} are needed`, start);
  }
  let at = start + 4;
  while (at < end) {
    if (end - at < 8) reader.fail(`${what} is cut off`, at);
    const name = btf.strings.at(reader.u32(at, what), `the section name in ${what}`);
    const count = reader.u32(at + 4, what);
    if (count > (end - at - 8) / recordSize) {
      reader.fail(`${count} records of ${what} for section ${name} do not fit`, at + 4);
    }
    at += 8;
    const records = sections.get(name) ?? [];
    for (let i = 0; i < count; i++, at += recordSize) records.push(read(at));
    sections.set(name, records);
  }
  for (const [name, records] of sections) {
    records.sort((a, b) => a.insn - b.insn);
    // One record an insn, as the kernel demands; of several the last.
    sections.set(
      name,
      records.filter((record, index) => record.insn !== records[index + 1]?.insn),
    );
  }
  return sections;
}

/** Records have grown over the years, but not this far. */
const MAX_RECORD = 4096;
