import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { assemble } from '../assembler.js';
import { disassemble, formatInsn } from '../disassembler.js';
import { MISSING_FUNCTION } from '../helper-ids.js';
import { findInvalidInsn } from '../insn-validity.js';
import { linkProgram } from '../link.js';
import { takeForXdp } from '../object-file.js';
import { BPF_MAP_TYPE, mapTypeName } from '../map-spec.js';
import { readObject, type ObjectSpec } from './object-spec.js';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const DEBIAN = '/usr/lib/x86_64-linux-gnu/bpf';
const OWN = join(import.meta.dirname, '../../../testbeds/programs');

const fixture = (name: string): ObjectSpec => readObject(readFileSync(join(FIXTURES, `${name}.o`)), name);
const programOf = (object: ObjectSpec, name: string) =>
  object.programs.find((program) => program.name === name) ?? expect.fail(`no program ${name}`);
const mapOf = (object: ObjectSpec, name: string) =>
  object.maps.find((map) => map.name === name) ?? expect.fail(`no map ${name}`);
const textsOf = (object: ObjectSpec, name: string): string[] => {
  const { insns, references } = programOf(object, name);
  return insns.map((_, index) => formatInsn(insns, index, { references })).filter((text) => text !== '');
};

function objectsIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith('.o'));
  } catch {
    return [];
  }
}

/** What holds for every object that a compiler wrote. */
function checkObject(object: ObjectSpec): void {
  const handles = new Map(object.maps.map((map, index) => [map.name, index + 3]));
  for (const program of object.programs) {
    expect(findInvalidInsn(program.insns), `${object.name}: ${program.name}`).toBeUndefined();
    for (const { insn } of program.debug?.lines ?? []) expect(insn).toBeLessThan(program.insns.length);
    if (program.type !== 6 || program.unsupported !== undefined) continue;
    const linked = linkProgram(program, handles);
    expect(assemble(disassemble(linked.insns, { functions: linked.debug?.functions }))).toEqual(linked.insns);
  }
}

describe('the objects of Debian (xdp-tools, libxdp1)', () => {
  const names = objectsIn(DEBIAN);
  it.skipIf(names.length === 0)(
    `all read, none of their programs is left out (skipped without ${DEBIAN})`,
    () => {
      for (const name of names) {
        const bytes = readFileSync(join(DEBIAN, name));
        const object = readObject(bytes, name);
        checkObject(object);
        expect(object.programs.length, name).toBeGreaterThan(0);
        expect(object.license).toBe('GPL');
        expect(object.btf?.typeCount).toBeGreaterThan(1);
        const ours = {
          programs: object.programs,
          maps: object.maps.map((map) => ({ ...map, btf: undefined })),
        };
        const again = readObject(bytes, name);
        expect({
          programs: again.programs,
          maps: again.maps.map((map) => ({ ...map, btf: undefined })),
        }).toEqual(ours);
      }
    },
  );

  it.skipIf(!names.includes('xdp-dispatcher.o'))(
    'xdp-dispatcher.o keeps its slots and its configuration',
    () => {
      const object = readObject(readFileSync(join(DEBIAN, 'xdp-dispatcher.o')));
      const dispatcher = programOf(object, 'xdp_dispatcher');
      expect(dispatcher.debug?.functions.map((fn) => fn.name)).toEqual([
        'xdp_dispatcher',
        ...Array.from({ length: 10 }, (_, index) => `prog${index}`),
        'compat_test',
      ]);
      expect(programOf(object, 'xdp_pass').insns).toHaveLength(2);
      expect(mapOf(object, '.rodata')).toMatchObject({
        valueSize: 124,
        frozen: true,
        flags: 0x80,
        maxEntries: 1,
      });
    },
  );

  it.skipIf(!names.includes('xdpdump_bpf.o'))(
    'xdpdump_bpf.o is for tracing, and says so when asked for',
    () => {
      const object = readObject(readFileSync(join(DEBIAN, 'xdpdump_bpf.o')));
      const program = programOf(object, 'trace_on_entry');
      expect(program.unsupported).toMatch(/needs FIELD_BYTE_OFFSET of struct xdp_buff/);
      expect(() => linkProgram(program, new Map())).toThrow(/section fentry\/func is of type tracing/);
    },
  );

  it.skipIf(names.length === 0)(
    'are the same insns that llvm-objdump sees (skipped without it)',
    (context) => {
      for (const name of names) {
        let listing: string;
        try {
          listing = execFileSync('llvm-objdump', ['-d', '--section=xdp', join(DEBIAN, name)], {
            encoding: 'utf8',
            stdio: ['ignore', 'pipe', 'ignore'],
          });
        } catch {
          context.skip('llvm-objdump is not installed');
          return;
        }
        const opcodes = [...listing.matchAll(/^\s+\d+:\s+([0-9a-f]{2})((?: [0-9a-f]{2})+)\s/gm)];
        const object = readObject(readFileSync(join(DEBIAN, name)));
        const own = object.programs
          .filter((program) => program.section === 'xdp')
          .flatMap((program) =>
            program.insns.slice(0, program.debug?.functions[1]?.insn).map((insn) => insn.opcode),
          );
        expect(opcodes.map((match) => parseInt(match[1]!, 16))).toEqual(own.filter((opcode) => opcode !== 0));
      }
    },
  );
});

describe("the testbeds' own programs", () => {
  const names = objectsIn(OWN);
  it.skipIf(names.length === 0).each(names)('%s reads and links', (name) => {
    const object = readObject(readFileSync(join(OWN, name)), name);
    checkObject(object);
    for (const program of object.programs) expect(program.unsupported).toBeUndefined();
  });

  it.skipIf(!names.includes('map_in_map.o'))(
    'maps in maps come with their pattern and initial values',
    () => {
      const object = readObject(readFileSync(join(OWN, 'map_in_map.o')));
      const outer = mapOf(object, 'by_family');
      expect(mapTypeName(outer.type)).toBe('BPF_MAP_TYPE_ARRAY_OF_MAPS');
      expect(outer.inner).toMatchObject({
        name: 'by_family.inner',
        type: 2,
        keySize: 4,
        valueSize: 8,
        maxEntries: 256,
      });
      expect(outer.initial).toEqual([
        { key: Uint8Array.of(0, 0, 0, 0), mapName: 'counts_v4' },
        { key: Uint8Array.of(2, 0, 0, 0), mapName: 'counts_v6' },
      ]);
    },
  );

  it.skipIf(!names.includes('tail_chain.o'))('a PROG_ARRAY comes with its programs', () => {
    const { initial } = mapOf(readObject(readFileSync(join(OWN, 'tail_chain.o'))), 'stages');
    expect(initial.map((entry) => ('programName' in entry ? entry.programName : undefined))).toEqual([
      'stage1',
      'stage2',
      'stage3',
      'stage4',
    ]);
  });

  it.skipIf(!names.includes('globals.o'))('global data become maps that programs point into', () => {
    const object = readObject(readFileSync(join(OWN, 'globals.o')));
    expect(object.maps.map((map) => map.name)).toEqual(['.rodata', '.data', '.bss', '.rodata.str1.1']);
    expect(mapOf(object, '.bss')).toMatchObject({ valueSize: 88, initial: [] });
    expect(mapOf(object, '.rodata.str1.1').initial).toEqual([
      { key: Uint8Array.of(0, 0, 0, 0), value: new TextEncoder().encode('globals\n\0') },
    ]);
    const texts = textsOf(object, 'globals');
    expect(texts).toContain('r2 = map[.bss][0]+64');
    expect(texts).toContain('r1 = map[.rodata][0]+9');
  });
});

describe('local functions', () => {
  const object = fixture('functions');

  it('are appended once each, calls fixed, whatever relocation they came by', () => {
    const main = programOf(object, 'calls_all');
    const names = main.debug?.functions.map((fn) => fn.name) ?? [];
    expect([...names].sort()).toEqual(['beside', 'calls_all', 'global_sum', 'hidden_sum', 'leaf', 'twice']);
    const starts = new Map(main.debug?.functions.map((fn) => [fn.insn, fn.name]));
    const called = main.insns.flatMap((insn, index) =>
      insn.opcode === 0x85 && insn.src === 1 ? [starts.get(index + 1 + insn.imm)] : [],
    );
    expect(called).toEqual(['global_sum', 'hidden_sum', 'beside', 'twice', 'leaf', 'leaf', 'leaf', 'leaf']);
  });

  it('say how verifiers may treat them', () => {
    const linkages = new Map(
      programOf(object, 'calls_all').debug?.functions.map((fn) => [fn.name, fn.linkage]),
    );
    expect(Object.fromEntries(linkages)).toEqual({
      calls_all: 'global',
      global_sum: 'global',
      hidden_sum: 'static',
      beside: 'static',
      twice: 'static',
      leaf: 'static',
    });
  });

  it('can be passed by address', () => {
    const loops = programOf(object, 'loops');
    const at = loops.insns.findIndex((insn) => insn.opcode === 0x18 && insn.src === 4);
    const target = at + 1 + loops.insns[at]!.imm;
    expect(loops.debug?.functions.find((fn) => fn.insn === target)?.name).toBe('on_iteration');
  });

  it('static functions of an XDP section are no programs', () => {
    expect(object.programs.map((program) => program.name)).toEqual(['calls_all', 'loops', 'calls_leaf']);
  });

  it('sections say attach type and frags', () => {
    expect(programOf(object, 'loops')).toMatchObject({ attachType: 'BPF_XDP_DEVMAP', frags: true, type: 6 });
    expect(programOf(object, 'calls_leaf')).toMatchObject({ attachType: 'BPF_XDP_CPUMAP', frags: false });
  });

  it('lines follow their insns into the linked program', () => {
    const main = programOf(object, 'calls_all');
    const leaf = main.debug!.functions.find((fn) => fn.name === 'leaf')!.insn;
    expect(main.debug!.lines.find((line) => line.insn === leaf)).toMatchObject({
      file: './functions.bpf.c',
      text: 'static __noinline int leaf(int x)',
      line: 8,
    });
  });
});

describe('legacy maps', () => {
  it('of libbpf before 1.0', () => {
    const object = fixture('legacy_maps');
    expect(object.maps).toEqual([
      expect.objectContaining({ name: 'counters', type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY, keySize: 4 }),
      expect.objectContaining({
        name: 'jump_table',
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
        maxEntries: 8,
      }),
    ]);
    expect(programOf(object, 'count')).toMatchObject({
      section: 'xdp_count',
      type: 6,
      attachType: 'BPF_XDP',
    });
    expect(textsOf(object, 'count')).toContain('r1 = map[counters]');
  });

  it('of iproute2, with tail calls by section name', () => {
    const object = fixture('iproute2_maps');
    expect(mapOf(object, 'jumps').initial).toEqual([
      { key: Uint8Array.of(1, 0, 0, 0), programName: 'stage' },
    ]);
    expect(mapOf(object, 'outer').inner).toMatchObject({ name: 'outer.inner', type: 2, valueSize: 8 });
    expect(mapOf(object, 'outer').initial).toEqual([{ key: Uint8Array.of(1, 0, 0, 0), mapName: 'inner' }]);
  });

  it('a section that says nothing keeps its program, and a note', () => {
    const object = fixture('legacy_maps');
    const program = programOf(object, 'unnamed_kind');
    expect(program).toMatchObject({ section: 'prog', type: 0 });
    expect(object.notes).toEqual(['section prog does not say what type program unnamed_kind is']);
    expect(() => linkProgram(program, new Map())).toThrow(/section prog is of type unknown/);
    const typed = programOf(takeForXdp(object), 'unnamed_kind');
    expect(linkProgram(typed, new Map())).toMatchObject({ type: 6, insns: { length: 2 } });
  });
});

describe('what an object alone does not have', () => {
  const object = fixture('core_and_externs');
  it.each([
    [
      'reads_kernel_struct',
      /needs FIELD_BYTE_OFFSET of struct net_device \(0:1\) from the kernel's types \(CO-RE\)/,
    ],
    ['reads_kconfig', /refers to LINUX_KERNEL_VERSION, which is outside the object/],
    ['calls_kfunc', /insn \d+ of calls_kfunc calls bpf_xdp_metadata_rx_hash, which is outside the object/],
  ])('keeps %s from running, and says why', (name, reason) => {
    expect(programOf(object, name).unsupported).toMatch(reason);
    expect(() => linkProgram(programOf(object, name), new Map())).toThrow(reason);
  });

  it('does not keep the others: packet headers are the same everywhere, weak symbols are 0', () => {
    for (const name of ['plain', 'reads_packet_header', 'tests_weak']) {
      expect(programOf(object, name).unsupported).toBeUndefined();
    }
    expect(textsOf(object, 'tests_weak').some((text) => text.endsWith('= 0x0ll'))).toBe(true);
  });
});

describe('what is weak', () => {
  const object = fixture('weak_symbols');

  it('keeps no program from running when it is not there', () => {
    for (const name of ['calls_if_there', 'calls_without_test', 'calls_in_function', 'reads_weak_settings']) {
      expect(programOf(object, name).unsupported, name).toBeUndefined();
    }
    expect(programOf(object, 'reads_setting').unsupported).toMatch(
      /refers to CONFIG_BPF, which is outside the object/,
    );
  });

  it('is a call of what is not there, by name, wherever the linker put it', () => {
    for (const name of ['calls_if_there', 'calls_in_function']) {
      const { insns, debug } = programOf(object, name);
      expect(debug!.missing).toHaveLength(1);
      const [{ insn, name: symbol }] = debug!.missing as [{ insn: number; name: string }];
      expect(symbol).toBe('bpf_xdp_metadata_rx_hash');
      expect(insns[insn]).toMatchObject({ opcode: 0x85, src: 0, imm: MISSING_FUNCTION });
    }
    expect(programOf(object, 'reads_weak_settings').debug!.missing).toBeUndefined();
  });

  it('is a setting that is 0 and never changes', () => {
    expect(mapOf(object, '.kconfig')).toMatchObject({
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      valueSize: 8 + 16 + 8,
      maxEntries: 1,
      frozen: true,
      initial: [{ value: new Uint8Array(32) }],
    });
    const { references } = programOf(object, 'reads_weak_settings');
    expect(references.map(({ mapName, offset }) => [mapName, offset])).toEqual([
      ['.kconfig', 0],
      ['.kconfig', 8],
      ['.kconfig', 24],
    ]);
  });
});

describe('readObject', () => {
  it.each<[string, (bytes: Buffer) => Uint8Array, string, RegExp]>([
    ['nothing', () => new Uint8Array(0), 'object-invalid', /ELF header needs 64 bytes.*offset 0x0/],
    ['text', () => new TextEncoder().encode('#!/bin/sh\n'.repeat(20)), 'object-invalid', /not an ELF file/],
    ['half a file', (bytes) => bytes.subarray(0, 900), 'object-invalid', /section header table/],
    [
      'a file of x86',
      (bytes) => patched(bytes, 18, 62),
      'object-unsupported',
      /machine 62; BPF is machine 247/,
    ],
    ['big endian', (bytes) => patched(bytes, 5, 2), 'object-unsupported', /big-endian/],
    ['an executable', (bytes) => patched(bytes, 16, 2), 'object-unsupported', /ELF type 2/],
    ['32 bits', (bytes) => patched(bytes, 4, 1), 'object-unsupported', /class 1/],
  ])('rejects %s', (_, change, code, message) => {
    const bytes = readFileSync(join(FIXTURES, 'types.o'));
    expect(() => readObject(change(bytes))).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    );
  });
});

function patched(bytes: Buffer, offset: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[offset] = value;
  return copy;
}
