import { XdpbedError } from '../core/diagnostic.js';
import { assemble } from './assembler.js';
import type { ObjectSpec } from './elf/object-spec.js';
import { isLddw } from './insn.js';
import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec, type MapTypeName } from './map-spec.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from './opcodes.js';
import { BPF_PROG_TYPE_XDP, type ProgramReference, type ProgramSpec } from './program.js';

/**
 * An object written as text: for trying a few insns without a compiler. Everything that `assemble` takes, and
 * lines that begin with a dot:
 *
 * ```
 * .license GPL
 * .map counters array key=4 value=8 entries=256
 * .map table array_of_maps key=4 value=4 entries=2 inner=counters
 * .map settings array key=4 value=8 entries=1 flags=0x80 frozen data=0500000000000000
 * .program count [frags]               what follows is a program of that name; without it, one called `main`.
 *                                      `frags`: in section xdp.frags, for frames in several buffers
 *   r1 = map[counters]
 *   …
 * ```
 * Sizes in bytes; `data` is the value of element 0 in hex; `flags` are the map's creation flags.
 * Throws `asm-invalid` with file, line and column.
 */
export function readAssembly(text: string, file = 'program.s'): ObjectSpec {
  const maps = new Map<string, MapSpec>();
  const parts: { name: string; frags: boolean; lines: string[] }[] = [];
  let license = 'GPL';
  const source = text.split('\n');
  source.forEach((line, index) => {
    const words = line.trim().split(/\s+/);
    const fail = (message: string): never => {
      throw new XdpbedError('asm-invalid', message, {
        at: { file, line: index + 1, col: line.search(/\S/) + 1 },
      });
    };
    switch (words[0]) {
      case '.license':
        license = line.trim().slice('.license'.length).trim();
        return;
      case '.map': {
        const map = parseMap(words.slice(1), maps, fail);
        maps.set(map.name, map);
        return;
      }
      case '.program':
        if (words[1] === undefined) fail('.program needs a name');
        if (words[2] !== undefined && words[2] !== 'frags')
          fail(`'${words[2]}' behind a program's name: there is only frags`);
        parts.push({ name: words[1]!, frags: words[2] === 'frags', lines: blankLines(index + 1) });
        return;
      default:
        if (words[0]!.startsWith('.') && words[0] !== '.quad')
          fail(`'${words[0]}' is not a directive: there are .license, .map and .program`);
        // The first program needs no name; comments and blank lines in front of a named one start none.
        if (parts.length === 0 && isInsn(line))
          parts.push({ name: 'main', frags: false, lines: blankLines(index) });
        parts.at(-1)?.lines.push(line);
    }
  });
  const list = [...maps.values()];
  const programs = parts.map(({ name, frags, lines }): ProgramSpec => {
    const program = programFromText(name, lines.join('\n'), list, license, file);
    return frags ? { ...program, section: 'xdp.frags', frags } : program;
  });
  return { name: file, programs, maps: list, license, notes: [] };
}

/**
 * A program as if read from an object; `map[name]` in the text refers to the maps of that name.
 * Throws `asm-invalid`.
 */
export function programFromText(
  name: string,
  text: string,
  maps: readonly MapSpec[] = [],
  license = 'GPL',
  file?: string,
): ProgramSpec {
  const insns = assemble(text, { file, maps: new Map(maps.map((map, index) => [map.name, index + 1])) });
  const references: ProgramReference[] = [];
  insns.forEach((insn, index) => {
    if (!isLddw(insn) || (insn.src !== BPF_PSEUDO_MAP_FD && insn.src !== BPF_PSEUDO_MAP_VALUE)) return;
    const map = maps[insn.imm - 1];
    if (map === undefined) return;
    const value = insn.src === BPF_PSEUDO_MAP_VALUE;
    references.push({
      kind: 'map',
      insn: index,
      mapName: map.name,
      value,
      offset: value ? insns[index + 1]!.imm : 0,
    });
  });
  return {
    name,
    section: 'xdp',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    frags: false,
    license,
    insns,
    references,
  };
}

/** `NAME TYPE key=4 value=8 entries=16 [flags=N] [inner=NAME] [data=HEX] [frozen]` */
function parseMap(
  words: readonly string[],
  maps: ReadonlyMap<string, MapSpec>,
  fail: (message: string) => never,
): MapSpec {
  const [name, typeWord, ...fields] = words;
  if (name === undefined || typeWord === undefined) return fail('.map needs a name and a type');
  if (maps.has(name)) return fail(`map '${name}' is declared twice`);
  const type = BPF_MAP_TYPE[`BPF_MAP_TYPE_${typeWord.toUpperCase()}` as MapTypeName] as number | undefined;
  if (type === undefined) return fail(`'${typeWord}' is not a map type`);
  const numbers: Record<string, number> = { key: 0, value: 0, entries: 0, flags: 0 };
  let inner: MapSpec | undefined;
  let data: Uint8Array | undefined;
  let frozen = false;
  for (const field of fields) {
    const [key, value = ''] = field.split('=');
    if (field === 'frozen') frozen = true;
    else if (key === 'inner') inner = maps.get(value) ?? fail(`there is no map '${value}' above`);
    else if (key === 'data' && /^([0-9a-f]{2})+$/i.test(value))
      data = Uint8Array.from(Buffer.from(value, 'hex'));
    else if (Object.hasOwn(numbers, key!) && /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(value))
      numbers[key!] = Number(value);
    else return fail(`'${field}' is not one of key=, value=, entries=, flags=, inner=, data= or frozen`);
  }
  const { key, value, entries, flags } = numbers as {
    key: number;
    value: number;
    entries: number;
    flags: number;
  };
  if (data !== undefined && data.length !== value)
    return fail(`data has ${data.length} bytes, a value ${value}`);
  const initial: MapInitialEntry[] = data === undefined ? [] : [{ key: new Uint8Array(key), value: data }];
  return { name, type, keySize: key, valueSize: value, maxEntries: entries, flags, inner, initial, frozen };
}

/** Keeps line numbers of errors those of the file. */
function blankLines(count: number): string[] {
  return Array<string>(count).fill('');
}

function isInsn(line: string): boolean {
  return line.trim() !== '' && !/^\s*(;|#|\/\/)/.test(line);
}
