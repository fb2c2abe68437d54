import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { XdpbedError } from '../../core/diagnostic.js';
import { formatValue } from '../btf/format-value.js';
import { disassemble } from '../disassembler.js';
import { findInvalidInsn } from '../insn-validity.js';
import { linkProgram } from '../link.js';
import { readObject } from './object-spec.js';

/** Mutated objects to try; `XDPBED_FUZZ=200000 npx vitest run src/bpf/elf/object-fuzz.test.ts` tries more. */
const MUTATIONS = Number(process.env['XDPBED_FUZZ'] ?? 3000);
const SEED = Number(process.env['XDPBED_FUZZ_SEED'] ?? 1);
/** One hostile file may cost this much; real ones take a few milliseconds. */
const MAX_MILLISECONDS = 2000;

const FOLDERS = [
  join(import.meta.dirname, 'fixtures'),
  join(import.meta.dirname, '../../../testbeds/programs'),
  '/usr/lib/x86_64-linux-gnu/bpf',
];

/** A small generator with a seed (mulberry32), so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) % below) >>> 0;
  };
}

const INTERESTING = [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** Where a file keeps what the reader believes: headers, symbols, relocations, BTF. */
function hotRanges(bytes: Uint8Array): [number, number][] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const table = Number(view.getBigUint64(40, true));
  const count = view.getUint16(60, true);
  const ranges: [number, number][] = [
    [0, 64],
    [table, count * 64],
  ];
  for (let index = 0; index < count; index++) {
    const at = table + index * 64;
    const type = view.getUint32(at + 4, true);
    if (type === 0 || type === 8) continue;
    ranges.push([Number(view.getBigUint64(at + 24, true)), Number(view.getBigUint64(at + 32, true))]);
  }
  return ranges.filter(([, size]) => size > 0);
}

function mutate(
  bytes: Uint8Array,
  ranges: [number, number][],
  random: (below: number) => number,
): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const view = new DataView(copy.buffer);
  const times = 1 + random(6);
  for (let i = 0; i < times; i++) {
    const [start, size] = ranges[random(ranges.length)]!;
    const at = Math.min(start + random(size), copy.length - 1);
    switch (random(5)) {
      case 0:
        copy[at] = random(256);
        break;
      case 1:
        copy[at] = copy[at]! ^ (1 << random(8));
        break;
      case 2:
        if (at + 4 <= copy.length) view.setUint32(at & ~3, INTERESTING[random(INTERESTING.length)]!, true);
        break;
      case 3:
        if (at + 4 <= copy.length) view.setUint32(at & ~3, random(copy.length + 64), true);
        break;
      default: {
        // Copies a piece over another, so that valid structures meet where they should not.
        const length = Math.min(1 + random(32), copy.length - at);
        copy.copyWithin(at, random(copy.length - length + 1), undefined);
        copy.set(bytes.subarray(at + length), at + length);
      }
    }
  }
  return random(40) === 0 ? copy.subarray(0, random(copy.length)) : copy;
}

/** Everything that a command would do with an object. */
function exercise(bytes: Uint8Array): void {
  const object = readObject(bytes);
  const handles = new Map(object.maps.map((map, index) => [map.name, index]));
  for (const map of object.maps) {
    const sample = new Uint8Array(Math.min(map.valueSize, 256));
    if (map.keyType !== undefined) formatValue(map.keyType, new Uint8Array(Math.min(map.keySize, 256)));
    if (map.valueType !== undefined) formatValue(map.valueType, sample);
  }
  for (const program of object.programs) {
    findInvalidInsn(program.insns);
    disassemble(program.insns, { references: program.references, ...program.debug });
    if (program.type !== 6 || program.unsupported !== undefined) continue;
    linkProgram(program, handles);
  }
}

describe('hostile objects', () => {
  const files = FOLDERS.flatMap((folder) => {
    try {
      return readdirSync(folder)
        .filter((name) => name.endsWith('.o'))
        .sort()
        .map((name) => join(folder, name));
    } catch {
      return [];
    }
  });

  it(`end in a result or an XdpbedError, soon: ${MUTATIONS} mutations`, { timeout: 3_600_000 }, () => {
    const random = generator(SEED);
    const corpus = files.map((file) => {
      const bytes = readFileSync(file);
      return { file, bytes, ranges: hotRanges(bytes) };
    });
    const outcomes = new Map<string, number>();
    for (let round = 0; round < MUTATIONS; round++) {
      const { file, bytes, ranges } = corpus[random(corpus.length)]!;
      const mutated = mutate(bytes, ranges, random);
      const started = performance.now();
      let outcome = 'read';
      try {
        exercise(mutated);
      } catch (error) {
        if (!(error instanceof XdpbedError)) {
          throw new Error(`seed ${SEED}, round ${round} on ${file} ended in a crash`, { cause: error });
        }
        outcome = error.code;
      }
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      const took = performance.now() - started;
      if (took > MAX_MILLISECONDS) expect.fail(`seed ${SEED}, round ${round} on ${file} took ${took} ms`);
    }
    // The mutations have to reach deep enough to be worth the time.
    expect(outcomes.get('read')).toBeGreaterThan(MUTATIONS / 10);
    expect(outcomes.get('object-invalid')).toBeGreaterThan(MUTATIONS / 50);
    expect(outcomes.get('btf-invalid')).toBeGreaterThan(MUTATIONS / 100);
    if (MUTATIONS > 10_000) process.stderr.write(`${JSON.stringify(Object.fromEntries(outcomes))}\n`);
  });
});
