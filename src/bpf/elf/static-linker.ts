import type { Btf } from '../btf/btf.js';
import type { BtfExt, CoreRelocation, FunctionInfo, LineInfo } from '../btf/btf-ext.js';
import { decodeInsns, INSN_SIZE, isLddw, type Insn } from '../insn.js';
import { MISSING_FUNCTION } from '../helper-ids.js';
import { BPF_CALL_HELPER, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, OP_CALL } from '../opcodes.js';
import type { MissingFunction, ProgramDebugInfo, ProgramReference } from '../program.js';
import { needsKernelTypes } from './core-relocation.js';
import {
  R_BPF_64_32,
  R_BPF_64_64,
  SHF_EXECINSTR,
  SHN_LORESERVE,
  SHN_UNDEF,
  SHT_PROGBITS,
  STB_LOCAL,
  STB_WEAK,
  STT_FUNC,
  STT_NOTYPE,
  STV_HIDDEN,
  STV_INTERNAL,
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
} from './elf-file.js';
import type { MapPlaces } from './object-maps.js';

/** A function of the object; slots count from the start of its section. */
export interface ObjectFunction {
  readonly name: string;
  readonly section: ElfSection;
  readonly start: number;
  readonly end: number;
  /** Bound locally in the object (C `static`). */
  readonly local: boolean;
  /** Global but not visible outside the object, which verifiers treat as static. */
  readonly hidden: boolean;
}

export interface LinkedFunctions {
  readonly insns: Insn[];
  readonly references: ProgramReference[];
  readonly debug: ProgramDebugInfo;
  readonly unsupported: string | undefined;
}

/** What one function's insns need; worked out once, however many programs call it. */
interface Analysis {
  readonly insns: readonly Insn[];
  /** Local calls and function addresses, by slot in the function. */
  readonly callees: readonly {
    readonly slot: number;
    readonly callee: ObjectFunction;
    readonly address: boolean;
  }[];
  readonly references: readonly ProgramReference[];
  /** Slots whose lddw becomes 0: a weak symbol that nobody defines. */
  readonly zeroed: readonly number[];
  /** Calls of weak functions that nobody defines. */
  readonly missing: readonly MissingFunction[];
  readonly problem: string | undefined;
}

/** Slots of one linked program; what the kernel will load (BPF_COMPLEXITY_LIMIT_INSNS). */
const MAX_PROGRAM_SLOTS = 1_000_000;
/** Slots of all programs of an object together, so that a small file cannot ask for gigabytes. */
const MAX_OBJECT_SLOTS = 4_000_000;

/**
 * Links within one object: a program is its own function followed by every function that it calls, directly or
 * not, each once, in the order of discovery. Calls between functions then are relative, as the kernel wants them
 * (RFC 9669 section 4.3.1, program-local functions).
 *
 * How clang leaves a call (LLVM "BPF relocations"): within one section imm already is the distance; to another
 * section an R_BPF_64_32 names either the function (imm = -1) or its section (imm = target slot - 1). An address
 * of a function is an lddw with R_BPF_64_64 against code, its addend in bytes.
 */
export class StaticLinker {
  /** Every function by section and by first slot; the first of those that share a place. */
  readonly #byPlace = new Map<number, Map<number, ObjectFunction>>();
  readonly #relocations = new Map<number, ElfRelocation[]>();
  readonly #analyses = new Map<ObjectFunction, Analysis>();
  readonly functions: readonly ObjectFunction[];
  #linkedSlots = 0;

  constructor(
    readonly elf: ElfFile,
    readonly maps: MapPlaces,
    readonly btf: Btf | undefined,
    readonly btfExt: BtfExt | undefined,
  ) {
    this.functions = elf.sections
      .filter((section) => (section.flags & SHF_EXECINSTR) !== 0n && section.type === SHT_PROGBITS)
      .flatMap((section) => functionsOf(elf, section));
    for (const fn of this.functions) {
      const places = this.#byPlace.get(fn.section.index) ?? new Map<number, ObjectFunction>();
      if (!places.has(fn.start)) places.set(fn.start, fn);
      this.#byPlace.set(fn.section.index, places);
    }
  }

  /** Throws `object-invalid` when the object contradicts itself; what is merely unsupported is in the result. */
  link(entry: ObjectFunction): LinkedFunctions {
    const placed = new Map<ObjectFunction, number>([[entry, 0]]);
    const order = [entry];
    let slots = entry.end - entry.start;
    let unsupported: string | undefined;
    for (const fn of order) {
      const analysis = this.#analyse(fn);
      if (analysis.problem !== undefined) {
        unsupported ??= `program ${entry.name}: ${analysis.problem}`;
        continue;
      }
      for (const { callee } of analysis.callees) {
        if (placed.has(callee)) continue;
        placed.set(callee, slots);
        order.push(callee);
        slots += callee.end - callee.start;
      }
      if (slots > MAX_PROGRAM_SLOTS) {
        this.elf.fail(`program ${entry.name} has more than ${MAX_PROGRAM_SLOTS} insns`, entry.section.offset);
      }
    }
    this.#linkedSlots += slots;
    if (this.#linkedSlots > MAX_OBJECT_SLOTS) {
      this.elf.fail(`the programs have more than ${MAX_OBJECT_SLOTS} insns together`, entry.section.offset);
    }

    const insns: Insn[] = [];
    const references: ProgramReference[] = [];
    const functions: FunctionInfo[] = [];
    const lines: LineInfo[] = [];
    const missing: MissingFunction[] = [];
    for (const fn of order) {
      const base = insns.length;
      const analysis = this.#analyse(fn);
      for (const insn of analysis.insns) insns.push(insn);
      for (const { slot, callee, address } of analysis.callees) {
        const insn = insns[base + slot]!;
        const distance = placed.get(callee)! - (base + slot) - 1;
        insns[base + slot] = address
          ? { ...insn, src: BPF_PSEUDO_FUNC, imm: distance }
          : { ...insn, imm: distance };
        if (address) insns[base + slot + 1] = { ...insns[base + slot + 1]!, imm: 0 };
      }
      for (const slot of analysis.zeroed) {
        insns[base + slot] = { ...insns[base + slot]!, src: 0, imm: 0 };
        insns[base + slot + 1] = { ...insns[base + slot + 1]!, imm: 0 };
      }
      for (const { insn: slot, name } of analysis.missing) {
        insns[base + slot] = { ...insns[base + slot]!, src: BPF_CALL_HELPER, imm: MISSING_FUNCTION };
        missing.push({ insn: base + slot, name });
      }
      for (const reference of analysis.references) {
        references.push({ ...reference, insn: reference.insn + base });
      }
      functions.push(this.#functionInfo(fn, base));
      for (const line of within(this.btfExt?.lines.get(fn.section.name), fn)) {
        lines.push({ ...line, insn: line.insn - fn.start + base });
      }
    }
    return {
      insns,
      references,
      debug: { functions, lines, ...(missing.length > 0 && { missing }) },
      unsupported,
    };
  }

  #functionInfo(fn: ObjectFunction, insn: number): FunctionInfo {
    const info = within(this.btfExt?.functions.get(fn.section.name), fn)[0];
    const isStatic = fn.local || fn.hidden;
    return {
      insn,
      name: fn.name,
      linkage: isStatic ? 'static' : 'global',
      typeId: info?.insn === fn.start ? info.typeId : 0,
    };
  }

  #relocationsOf(fn: ObjectFunction): readonly ElfRelocation[] {
    let all = this.#relocations.get(fn.section.index);
    if (all === undefined) {
      all = this.elf.relocationsOf(fn.section);
      for (const relocation of all) {
        if (relocation.offset % INSN_SIZE !== 0) {
          this.elf.fail(
            `a relocation of ${fn.section.name} at ${relocation.offset} is not at an insn`,
            relocation.fileOffset,
          );
        }
      }
      this.#relocations.set(fn.section.index, all);
    }
    const start = lowerBound(all, (relocation) => relocation.offset >= fn.start * INSN_SIZE);
    const end = lowerBound(all, (relocation) => relocation.offset >= fn.end * INSN_SIZE);
    return all.slice(start, end);
  }

  #analyse(fn: ObjectFunction): Analysis {
    const known = this.#analyses.get(fn);
    if (known !== undefined) return known;
    const analysis = new FunctionAnalysis(this.elf, this.maps, fn, (section, slot) =>
      this.#byPlace.get(section)?.get(slot),
    ).run(this.#relocationsOf(fn), this.btf, within(this.btfExt?.coreRelocations.get(fn.section.name), fn));
    this.#analyses.set(fn, analysis);
    return analysis;
  }
}

class FunctionAnalysis {
  readonly #insns: Insn[];
  readonly #callees: { slot: number; callee: ObjectFunction; address: boolean }[] = [];
  readonly #references: ProgramReference[] = [];
  readonly #zeroed: number[] = [];
  readonly #missing: MissingFunction[] = [];
  #problem: string | undefined;

  constructor(
    readonly elf: ElfFile,
    readonly maps: MapPlaces,
    readonly fn: ObjectFunction,
    readonly functionAt: (section: number, slot: number) => ObjectFunction | undefined,
  ) {
    this.#insns = decodeInsns(elf.bytesOf(fn.section).subarray(fn.start * INSN_SIZE, fn.end * INSN_SIZE));
  }

  run(
    relocations: readonly ElfRelocation[],
    btf: Btf | undefined,
    coreRelocations: readonly CoreRelocation[],
  ): Analysis {
    const relocated = new Set<number>();
    for (const relocation of relocations) {
      const slot = relocation.offset / INSN_SIZE - this.fn.start;
      if (relocated.has(slot)) {
        this.elf.fail(`insn ${slot} of ${this.fn.name} is relocated twice`, relocation.fileOffset);
      }
      relocated.add(slot);
      this.#apply(relocation, slot);
    }
    this.#insns.forEach((insn, slot) => {
      if (insn.opcode !== OP_CALL || insn.src !== BPF_PSEUDO_CALL || relocated.has(slot)) return;
      this.#call(slot, this.fn.section, this.fn.start + slot + 1 + insn.imm);
    });
    for (const relocation of coreRelocations) {
      if (this.#problem !== undefined) break;
      const reason = btf === undefined ? undefined : needsKernelTypes(btf, relocation);
      if (reason !== undefined) this.#unsupported(relocation.insn - this.fn.start, reason);
    }
    return {
      insns: this.#insns,
      callees: this.#callees,
      references: this.#references,
      zeroed: this.#zeroed,
      missing: this.#missing,
      problem: this.#problem,
    };
  }

  #unsupported(slot: number, reason: string): void {
    // The first is enough for a person to act on, and which one that is must not depend on anything.
    this.#problem ??= `insn ${slot} of ${this.fn.name} ${reason}`;
  }

  #call(slot: number, section: ElfSection, target: number): void {
    const callee = this.functionAt(section.index, target);
    if (callee === undefined) {
      this.#unsupported(slot, `calls slot ${target} of section ${section.name}, where no function starts`);
      return;
    }
    this.#callees.push({ slot, callee, address: false });
  }

  #apply(relocation: ElfRelocation, slot: number): void {
    const { symbol, type } = relocation;
    const insn = this.#insns[slot]!;
    if (symbol.section === SHN_UNDEF || symbol.section >= SHN_LORESERVE) {
      this.#applyUndefined(relocation, slot);
      return;
    }
    const section = this.elf.sections[symbol.section]!;
    const isCode = (section.flags & SHF_EXECINSTR) !== 0n;
    const addend = relocation.addend === undefined ? insn.imm : Number(relocation.addend);
    if (type === R_BPF_64_32 && insn.opcode === OP_CALL) {
      if (insn.src !== BPF_PSEUDO_CALL || !isCode) {
        this.#unsupported(slot, `calls ${symbol.name}, which is not a function of the object`);
        return;
      }
      // With RELA the addend is in bytes and insn.imm means nothing.
      const distance = relocation.addend === undefined ? insn.imm + 1 : addend / INSN_SIZE;
      this.#call(slot, section, symbol.value / INSN_SIZE + distance);
      return;
    }
    if (type !== R_BPF_64_64 || !isLddw(insn)) {
      this.#unsupported(slot, `has a relocation of type ${type} against ${symbol.name}`);
      return;
    }
    if (this.#insns[slot + 1]?.opcode !== 0) {
      this.elf.fail(`a relocated lddw of ${this.fn.name} lacks its second slot`, relocation.fileOffset);
    }
    if (isCode) this.#functionAddress(slot, section, symbol.value + addend);
    else this.#map(relocation, slot, symbol, symbol.value + addend);
  }

  #functionAddress(slot: number, section: ElfSection, offset: number): void {
    const callee = this.functionAt(section.index, offset / INSN_SIZE);
    if (callee === undefined) {
      this.#unsupported(slot, `takes the address ${offset} in ${section.name}, where no function starts`);
      return;
    }
    this.#callees.push({ slot, callee, address: true });
  }

  #map(relocation: ElfRelocation, slot: number, symbol: ElfSymbol, offset: number): void {
    const section = this.elf.sections[symbol.section]!;
    const map = this.maps.at(section.index, offset);
    if (map === undefined) {
      if (this.maps.holds(section.index)) {
        this.elf.fail(
          `insn ${slot} of ${this.fn.name} refers to offset ${offset} of ${section.name}, which ends at ${section.size}`,
          relocation.fileOffset,
        );
      }
      this.#unsupported(slot, `refers to ${symbol.name} in section ${section.name}, which is no map`);
      return;
    }
    if (!map.data && offset !== map.offset) {
      this.elf.fail(
        `insn ${slot} of ${this.fn.name} refers into the declaration of map ${map.spec.name}`,
        relocation.fileOffset,
      );
    }
    this.#references.push({
      kind: 'map',
      insn: slot,
      mapName: map.spec.name,
      value: map.data,
      offset: map.data ? offset : 0,
    });
  }

  #applyUndefined(relocation: ElfRelocation, slot: number): void {
    const { symbol } = relocation;
    if (symbol.section !== SHN_UNDEF) {
      this.#unsupported(
        slot,
        `refers to ${symbol.name}, which is in no section (common symbols need -fno-common)`,
      );
      return;
    }
    const setting = this.maps.kernelSetting(symbol.name);
    if (relocation.type === R_BPF_64_64 && setting !== undefined && isLddw(this.#insns[slot])) {
      const { map, offset } = setting;
      this.#references.push({ kind: 'map', insn: slot, mapName: map.spec.name, value: true, offset });
      return;
    }
    const isCall = relocation.type === R_BPF_64_32 && this.#insns[slot]!.opcode === OP_CALL;
    if (isCall && symbol.binding === STB_WEAK) {
      this.#missing.push({ insn: slot, name: symbol.name });
      return;
    }
    if (relocation.type === R_BPF_64_64 && symbol.binding === STB_WEAK && isLddw(this.#insns[slot])) {
      // A weak kernel symbol that is not there is address 0; programs test for that.
      if (this.#insns[slot + 1]?.opcode !== 0) {
        this.elf.fail(`a relocated lddw of ${this.fn.name} lacks its second slot`, relocation.fileOffset);
      }
      this.#zeroed.push(slot);
      return;
    }
    const verb = relocation.type === R_BPF_64_32 ? 'calls' : 'refers to';
    this.#unsupported(
      slot,
      `${verb} ${symbol.name}, which is outside the object (a kernel function or variable)`,
    );
  }
}

/** The functions of an executable section by rising start. */
function functionsOf(elf: ElfFile, section: ElfSection): ObjectFunction[] {
  if (section.size % INSN_SIZE !== 0) {
    elf.fail(
      `section ${section.name} of ${section.size} bytes is not a whole number of insns`,
      section.offset,
    );
  }
  if (section.size === 0) return [];
  const slots = section.size / INSN_SIZE;
  const inSection = elf.symbolsOf(section).filter((symbol) => symbol.name !== '');
  let symbols = inSection.filter((symbol) => symbol.type === STT_FUNC);
  if (symbols.length === 0) {
    // LLVM before 7 left the type of functions out; labels of basic blocks are local.
    symbols = inSection.filter((symbol) => symbol.type === STT_NOTYPE && symbol.binding !== STB_LOCAL);
  }
  if (symbols.length === 0) {
    return [{ name: section.name, section, start: 0, end: slots, local: false, hidden: false }];
  }
  symbols.sort((a, b) => a.value - b.value || a.index - b.index);
  return symbols.map((symbol, index) => {
    const next = symbols.slice(index + 1, index + MAX_ALIASES).find((other) => other.value !== symbol.value);
    const end = symbol.size === 0 ? (next?.value ?? section.size) : symbol.value + symbol.size;
    if (
      symbol.value % INSN_SIZE !== 0 ||
      end % INSN_SIZE !== 0 ||
      end > section.size ||
      end <= symbol.value
    ) {
      elf.fail(
        `function ${symbol.name} is at ${symbol.value} … ${end} of section ${section.name}, which has ${section.size} bytes`,
        section.offset,
      );
    }
    if (next !== undefined && end > next.value) {
      elf.fail(`functions ${symbol.name} and ${next.name} overlap`, section.offset + next.value);
    }
    return {
      name: symbol.name,
      section,
      start: symbol.value / INSN_SIZE,
      end: end / INSN_SIZE,
      local: symbol.binding === STB_LOCAL,
      hidden: symbol.visibility === STV_HIDDEN || symbol.visibility === STV_INTERNAL,
    };
  });
}

/** Symbols at one place that are looked through for the next function. */
const MAX_ALIASES = 64;

/** The records whose insn is in the function; they are ordered by insn. */
function within<T extends { readonly insn: number }>(
  records: readonly T[] | undefined,
  fn: ObjectFunction,
): readonly T[] {
  if (records === undefined) return [];
  const start = lowerBound(records, (record) => record.insn >= fn.start);
  const end = lowerBound(records, (record) => record.insn >= fn.end);
  return records.slice(start, end);
}

/** The first index from which on `holds` is true. */
function lowerBound<T>(items: readonly T[], holds: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(items[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
