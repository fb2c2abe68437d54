import { Btf, type VariablePlacement } from '../btf/btf.js';
import { BtfExt } from '../btf/btf-ext.js';
import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec } from '../map-spec.js';
import { BPF_PROG_TYPE_UNSPEC, type ProgramSpec } from '../program.js';
import { ElfFile, STB_LOCAL, STT_SECTION } from './elf-file.js';
import { MapPlaces, readMaps, type PlacedMap } from './object-maps.js';
import { sectionType } from './section-type.js';
import { StaticLinker, type ObjectFunction } from './static-linker.js';

/** What an object file declares; inert, and the same for the same bytes. */
export interface ObjectSpec {
  readonly name: string;
  /** In the order of sections, and in a section by offset. */
  readonly programs: readonly ProgramSpec[];
  readonly maps: readonly MapSpec[];
  /** Text of section `license`; empty when there is none. */
  readonly license: string;
  readonly btf?: Btf | undefined;
  /** What was left out, and why; one sentence each, lower-case. */
  readonly notes: readonly string[];
}

/**
 * Reads a BPF object: clang's (any version), rustc's or hand-assembled. Programs come statically linked, each
 * with the functions that it calls. Every function in a section other than `.text` that is not `static` is a
 * program, whatever the section is called; those of `.text` are subprograms, unless there is nothing else.
 *
 * Throws XdpbedError: `object-invalid` and `btf-invalid` name the file offset, `object-unsupported` what is not
 * supported. What concerns one program only is in its `unsupported`, and linkProgram throws it.
 */
export function readObject(bytes: Uint8Array, name = 'object'): ObjectSpec {
  const elf = new ElfFile(bytes);
  const notes: string[] = [];
  const btf = readBtf(elf);
  const btfExt = readBtfExt(elf, btf, notes);
  const maps = readMaps(elf, btf);
  const license = readLicense(elf);
  const linker = new StaticLinker(elf, new MapPlaces(maps), btf, btfExt);

  const programs = entryPoints(linker.functions).map((entry): ProgramSpec => {
    const linked = linker.link(entry);
    return {
      name: entry.name,
      section: entry.section.name,
      ...sectionType(entry.section.name),
      license,
      insns: linked.insns,
      references: linked.references,
      debug: linked.debug,
      unsupported: linked.unsupported,
    };
  });
  for (const { name: program, section, type } of programs) {
    if (type === BPF_PROG_TYPE_UNSPEC)
      notes.push(`section ${section} does not say what type program ${program} is`);
  }
  noteUnappliedRelocations(elf, notes);
  return { name, programs, maps: withTailCallSections(maps, programs), license, btf, notes };
}

function entryPoints(functions: readonly ObjectFunction[]): ObjectFunction[] {
  const outsideText = functions.filter((fn) => fn.section.name !== '.text');
  const candidates = outsideText.length > 0 ? outsideText : functions;
  const withGlobals = new Set(candidates.filter((fn) => !fn.local).map((fn) => fn.section.index));
  // A section of static functions only: they can be nothing but programs.
  return candidates.filter((fn) => !fn.local || !withGlobals.has(fn.section.index));
}

function readBtf(elf: ElfFile): Btf | undefined {
  const section = elf.section('.BTF');
  if (section === undefined) return undefined;
  const symbols = new Map<string, Map<string, number>>();
  for (const symbol of elf.symbols) {
    if (symbol.binding === STB_LOCAL || symbol.type === STT_SECTION || symbol.name === '') continue;
    const home = elf.sections[symbol.section];
    if (home === undefined) continue;
    let inHome = symbols.get(home.name);
    if (inHome === undefined) symbols.set(home.name, (inHome = new Map<string, number>()));
    inHome.set(symbol.name, symbol.value);
  }
  const sizes = new Map(elf.sections.map((candidate) => [candidate.name, candidate.size]));
  const placement: VariablePlacement = {
    variableOffset: (home, variable) => symbols.get(home)?.get(variable),
    sectionSize: (home) => sizes.get(home),
  };
  return new Btf(elf.bytesOf(section), section.offset, placement);
}

function readBtfExt(elf: ElfFile, btf: Btf | undefined, notes: string[]): BtfExt | undefined {
  const section = elf.section('.BTF.ext');
  if (section === undefined) return undefined;
  if (btf === undefined) {
    notes.push('section .BTF.ext is of no use without .BTF');
    return undefined;
  }
  return new BtfExt(elf.bytesOf(section), btf, section.offset);
}

function readLicense(elf: ElfFile): string {
  const section = elf.section('license');
  if (section === undefined) return '';
  const bytes = elf.bytesOf(section).subarray(0, MAX_LICENSE);
  const end = bytes.indexOf(0);
  return new TextDecoder('latin1').decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** The kernel reads so much of a license. */
const MAX_LICENSE = 128;

/**
 * iproute2 fills PROG_ARRAYs from sections called `<map id>/<index>` (tc-bpf(8)), the map's id being a field of
 * its legacy declaration.
 */
function withTailCallSections(maps: readonly PlacedMap[], programs: readonly ProgramSpec[]): MapSpec[] {
  const entries = new Map<number, MapInitialEntry[]>();
  for (const program of programs) {
    const match = /^(\d{1,10}|0x[0-9a-f]{1,8})\/(\d{1,10}|0x[0-9a-f]{1,8})$/i.exec(program.section);
    if (match === null) continue;
    const id = Number(match[1]);
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, Number(match[2]), true);
    const known = entries.get(id) ?? [];
    known.push({ key, programName: program.name });
    entries.set(id, known);
  }
  return maps.map(({ spec, id }) => {
    const more = id === undefined ? undefined : entries.get(id);
    if (more === undefined || spec.type !== BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY) return spec;
    return { ...spec, initial: [...spec.initial, ...more] };
  });
}

function noteUnappliedRelocations(elf: ElfFile, notes: string[]): void {
  for (const section of elf.sections) {
    if (!/^\.(rodata|data|struct_ops)/.test(section.name)) continue;
    const count = elf.relocationsOf(section).length;
    if (count === 0) continue;
    notes.push(
      section.name.startsWith('.struct_ops')
        ? `section ${section.name} is for the kernel's struct_ops and was not read`
        : `${count} addresses in ${section.name} stay 0: BPF cannot relocate data`,
    );
  }
}
