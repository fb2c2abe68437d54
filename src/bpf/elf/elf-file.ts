import { XdpbedError } from '../../core/diagnostic.js';
import { BoundedReader, StringTable } from '../bounded-reader.js';

/**
 * ELF64 relocatable objects for BPF, as clang and rustc write them (System V ABI, "Object Files"; machine 247).
 * The reader is strict and bounded: every offset is checked before it is used, and because sections may not
 * overlap, what it hands out is never larger than the file.
 *
 * ```
 * Elf64_Ehdr (64 bytes)                Elf64_Shdr (64 bytes)          Elf64_Sym (24 bytes)
 *   +0  e_ident[16]                      +0  sh_name    u32             +0  st_name  u32
 *   +16 e_type      u16  ET_REL = 1      +4  sh_type    u32             +4  st_info  u8   binding << 4 | type
 *   +18 e_machine   u16  EM_BPF = 247    +8  sh_flags   u64             +5  st_other u8   visibility
 *   +40 e_shoff     u64                  +16 sh_addr    u64             +6  st_shndx u16
 *   +58 e_shentsize u16  64              +24 sh_offset  u64             +8  st_value u64
 *   +60 e_shnum     u16                  +32 sh_size    u64             +16 st_size  u64
 *   +62 e_shstrndx  u16                  +40 sh_link    u32
 *                                        +44 sh_info    u32           Elf64_Rel (16 bytes)
 *                                        +56 sh_entsize u64             +0 r_offset u64
 *                                                                       +8 r_info   u64  symbol << 32 | type
 * ```
 */
export interface ElfSection {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  /** Byte offset in the file. */
  readonly offset: number;
  /** Bytes; a section of type SHT_NOBITS occupies none of the file. */
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

export interface ElfSymbol {
  readonly index: number;
  readonly name: string;
  /** In a relocatable object: byte offset in its section. */
  readonly value: number;
  readonly size: number;
  readonly type: number;
  readonly binding: number;
  readonly visibility: number;
  /** Section header index, or SHN_UNDEF, SHN_ABS, SHN_COMMON. */
  readonly section: number;
}

export interface ElfRelocation {
  /** Byte offset in the section that is patched. */
  readonly offset: number;
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** Of a RELA section; a REL section keeps its addend in the patched field. */
  readonly addend: bigint | undefined;
  /** Where the entry itself is in the file, for messages. */
  readonly fileOffset: number;
}

export const SHT_PROGBITS = 1;
export const SHT_SYMTAB = 2;
export const SHT_STRTAB = 3;
export const SHT_RELA = 4;
export const SHT_NOBITS = 8;
export const SHT_REL = 9;

export const SHF_ALLOC = 0x2n;
export const SHF_EXECINSTR = 0x4n;
const SHF_COMPRESSED = 0x800n;

export const STT_NOTYPE = 0;
export const STT_OBJECT = 1;
export const STT_FUNC = 2;
export const STT_SECTION = 3;
export const STB_LOCAL = 0;
export const STB_GLOBAL = 1;
export const STB_WEAK = 2;
export const STV_INTERNAL = 1;
export const STV_HIDDEN = 2;
export const SHN_UNDEF = 0;
export const SHN_LORESERVE = 0xff00;

/** Relocations of BPF (LLVM docs, "BPF relocations"; Linux Documentation/bpf/llvm_reloc.rst). */
export const R_BPF_64_64 = 1;
export const R_BPF_64_ABS64 = 2;
export const R_BPF_64_ABS32 = 3;
export const R_BPF_64_NODYLD32 = 4;
export const R_BPF_64_32 = 10;

const EM_NONE = 0;
const EM_BPF = 247;
const ET_REL = 1;
const EHDR_SIZE = 64;
const SHDR_SIZE = 64;
const SYM_SIZE = 24;

export class ElfFile {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
  readonly #reader: BoundedReader;
  readonly #symbolsBySection = new Map<number, ElfSymbol[]>();
  readonly #relocationTables = new Map<number, ElfSection[]>();

  /** Throws `object-invalid` with the offset of what is wrong, or `object-unsupported`. */
  constructor(bytes: Uint8Array) {
    // A Buffer's slice would share what is meant to be a copy.
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#reader = new BoundedReader(plain, 'object-invalid');
    this.sections = this.#readSections();
    this.symbols = this.#readSymbols();
    for (const symbol of this.symbols) append(this.#symbolsBySection, symbol.section, symbol);
    for (const section of this.sections) {
      if (section.type !== SHT_REL && section.type !== SHT_RELA) continue;
      append(this.#relocationTables, section.info, section);
    }
  }

  fail(message: string, fileOffset: number): never {
    return this.#reader.fail(message, fileOffset);
  }

  section(name: string): ElfSection | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** The section's bytes: a view, not a copy. Empty for SHT_NOBITS. */
  bytesOf(section: ElfSection): Uint8Array {
    if (section.type === SHT_NOBITS) return new Uint8Array(0);
    return this.#reader.slice(section.offset, section.size, `section ${section.name}`);
  }

  /** The symbols of a section, in the order of the symbol table. */
  symbolsOf(section: ElfSection): readonly ElfSymbol[] {
    return this.#symbolsBySection.get(section.index) ?? [];
  }

  /** The relocations that patch a section, ordered by offset. */
  relocationsOf(section: ElfSection): ElfRelocation[] {
    const relocations: ElfRelocation[] = [];
    for (const table of this.#relocationTables.get(section.index) ?? []) {
      this.#readRelocations(table, section, relocations);
    }
    return relocations.sort((a, b) => a.offset - b.offset);
  }

  #readSections(): ElfSection[] {
    const reader: BoundedReader = this.#reader;
    const identity = reader.slice(0, EHDR_SIZE, 'the ELF header');
    if (identity[0] !== 0x7f || identity[1] !== 0x45 || identity[2] !== 0x4c || identity[3] !== 0x46) {
      reader.fail('this is not an ELF file', 0);
    }
    if (identity[4] !== 2) unsupported(`ELF class ${identity[4]}; BPF objects are of class 2 (64 bit)`, 4);
    if (identity[5] !== 1) {
      unsupported('a big-endian object (clang -target bpfeb); only little-endian ones are read', 5);
    }
    const type = reader.u16(16, 'e_type');
    if (type !== ET_REL) unsupported(`ELF type ${type}; BPF objects are relocatable (type 1)`, 16);
    const machine = reader.u16(18, 'e_machine');
    // LLVM before 4 wrote EM_NONE.
    if (machine !== EM_BPF && machine !== EM_NONE) {
      unsupported(`an object for machine ${machine}; BPF is machine ${EM_BPF}`, 18);
    }
    const tableOffset = reader.size64(40, 'e_shoff');
    const entrySize = reader.u16(58, 'e_shentsize');
    const count = reader.u16(60, 'e_shnum');
    const nameTable = reader.u16(62, 'e_shstrndx');
    if (count === 0) reader.fail('the file has no sections', 60);
    if (entrySize !== SHDR_SIZE) {
      reader.fail(`section headers of ${entrySize} bytes instead of ${SHDR_SIZE}`, 58);
    }
    reader.require(tableOffset, count * SHDR_SIZE, 'the section header table');
    if (nameTable >= count) reader.fail(`section names are in section ${nameTable} of ${count}`, 62);

    const header = (index: number): Omit<ElfSection, 'name'> => {
      const at = tableOffset + index * SHDR_SIZE;
      return {
        index,
        type: reader.u32(at + 4, 'sh_type'),
        flags: reader.u64(at + 8, 'sh_flags'),
        offset: reader.size64(at + 24, `the offset of section ${index}`),
        size: reader.size64(at + 32, `the size of section ${index}`),
        link: reader.u32(at + 40, 'sh_link'),
        info: reader.u32(at + 44, 'sh_info'),
      };
    };
    const names = this.#strings(header(nameTable));
    const sections: ElfSection[] = [];
    let total = 0;
    for (let index = 0; index < count; index++) {
      const at = tableOffset + index * SHDR_SIZE;
      const section = {
        ...header(index),
        name: index === 0 ? '' : names.at(reader.u32(at, 'sh_name'), `the name of section ${index}`),
      };
      sections.push(section);
      if (section.type === 0) continue;
      if (section.type === SHT_NOBITS) {
        if (section.size > MAX_NOBITS)
          reader.fail(`section ${section.name} of ${section.size} bytes`, at + 32);
        continue;
      }
      reader.require(section.offset, section.size, `section ${section.name}`);
      total += section.size;
      // Sections of a real object are disjoint. Were they not, a small file could ask for a lot of work.
      if (total > reader.length) reader.fail(`section ${section.name} overlaps another one`, at + 24);
      if ((section.flags & SHF_COMPRESSED) !== 0n && (section.flags & SHF_ALLOC) !== 0n) {
        unsupported(`section ${section.name} is compressed`, at + 8);
      }
    }
    return sections;
  }

  #strings(section: Omit<ElfSection, 'name'>): StringTable {
    if (section.type !== SHT_STRTAB) {
      this.#reader.fail(`section ${section.index} is not a string table`, section.offset);
    }
    const bytes = this.#reader.slice(section.offset, section.size, `string table ${section.index}`);
    return new StringTable(new BoundedReader(bytes, 'object-invalid', section.offset));
  }

  #readSymbols(): ElfSymbol[] {
    const reader: BoundedReader = this.#reader;
    const table = this.sections.find((section) => section.type === SHT_SYMTAB);
    if (table === undefined) return [];
    if (table.size % SYM_SIZE !== 0) {
      reader.fail(`a symbol table of ${table.size} bytes is not a multiple of ${SYM_SIZE}`, table.offset);
    }
    const strings = this.sections[table.link];
    if (strings === undefined) {
      reader.fail(`symbol names are in section ${table.link}, which does not exist`, table.offset);
    }
    const names = this.#strings(strings);
    const symbols: ElfSymbol[] = [];
    for (let at = table.offset; at < table.offset + table.size; at += SYM_SIZE) {
      const index = symbols.length;
      const info = reader.u8(at + 4, 'st_info');
      const section = reader.u16(at + 6, 'st_shndx');
      if (section < SHN_LORESERVE && section >= this.sections.length) {
        reader.fail(`symbol ${index} is in section ${section}, which does not exist`, at + 6);
      }
      const type = info & 0x0f;
      const own = names.at(reader.u32(at, 'st_name'), `the name of symbol ${index}`);
      symbols.push({
        index,
        // The symbol of a section has no name of its own.
        name: own === '' && type === STT_SECTION ? (this.sections[section]?.name ?? '') : own,
        value: reader.size64(at + 8, `the value of symbol ${index}`),
        size: reader.size64(at + 16, `the size of symbol ${index}`),
        type,
        binding: info >> 4,
        visibility: reader.u8(at + 5, 'st_other') & 0x03,
        section,
      });
    }
    return symbols;
  }

  #readRelocations(table: ElfSection, target: ElfSection, into: ElfRelocation[]): void {
    const reader: BoundedReader = this.#reader;
    const entrySize = table.type === SHT_REL ? 16 : 24;
    if (table.size % entrySize !== 0) {
      reader.fail(`${table.name} of ${table.size} bytes is not a multiple of ${entrySize}`, table.offset);
    }
    for (let at = table.offset; at < table.offset + table.size; at += entrySize) {
      const offset = reader.size64(at, 'r_offset');
      if (offset >= target.size) {
        reader.fail(
          `${table.name} patches offset ${offset} of ${target.name}, which ends at ${target.size}`,
          at,
        );
      }
      const info = reader.u64(at + 8, 'r_info');
      const symbol = this.symbols[Number(info >> 32n)];
      if (symbol === undefined) {
        reader.fail(`${table.name} names symbol ${info >> 32n}, which does not exist`, at + 8);
      }
      into.push({
        offset,
        type: Number(info & 0xffffffffn),
        symbol,
        addend: entrySize === 24 ? BigInt.asIntN(64, reader.u64(at + 16, 'r_addend')) : undefined,
        fileOffset: at,
      });
    }
  }
}

/** Larger zero-filled sections than this are not a program's globals (an ARRAY value could not hold them). */
const MAX_NOBITS = 0x7fffffff;

function append<T>(groups: Map<number, T[]>, key: number, item: T): void {
  const group = groups.get(key);
  if (group === undefined) groups.set(key, [item]);
  else group.push(item);
}

function unsupported(message: string, offset: number): never {
  throw new XdpbedError('object-unsupported', message, { at: { offset } });
}
