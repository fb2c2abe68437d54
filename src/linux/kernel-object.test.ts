import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readObject, type ObjectSpec } from '../bpf/elf/object-spec.js';
import { XdpbedError } from '../core/diagnostic.js';
import { probeBpf } from './bpf-probe.js';
import { mapLookup } from './bpf-syscall.js';
import { loadKernelObject, type KernelObject } from './kernel-object.js';
import { testRunXdp } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const FOLDER = new URL('../../testbeds/programs/', import.meta.url);
const object = (name: string): ObjectSpec => readObject(readFileSync(new URL(name, FOLDER)), name);
const GOTO_NEXT = { opcode: 0x05, dst: 0, src: 0, off: 0, imm: 0 };
const openFds = (): number => readdirSync('/proc/self/fd').length;

function bringUp(file: string): KernelObject {
  const spec = object(file);
  const loaded = loadKernelObject(spec, spec.programs[0]!);
  if (!loaded.accepted) throw new Error(loaded.log);
  return loaded;
}

/** A UDP packet from 10.0.0.1 to 10.0.0.2. */
function udp(length: number): Uint8Array {
  const packet = new Uint8Array(length);
  packet.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45]);
  packet.set([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 22);
  return packet;
}

describe.skipIf(skipped !== '')(`objects in the kernel${skipped}`, () => {
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith('.o'))) {
    it(`takes every program of ${file}, and leaves nothing behind`, () => {
      const before = openFds();
      const spec = object(file);
      for (const program of spec.programs) {
        const loaded = loadKernelObject(spec, program);
        expect(loaded.accepted, loaded.log).toBe(true);
        if (loaded.accepted) loaded.close();
      }
      expect(openFds()).toBe(before);
    });
  }

  it('runs a program whose maps can be read', () => {
    const loaded = bringUp('xdp1.o');
    for (let count = 0; count < 3; count++) {
      expect(testRunXdp(loaded.programFd, { packet: udp(64) }).verdict).toBe(1);
    }
    const key = Uint8Array.of(17, 0, 0, 0);
    expect(mapLookup(loaded.maps.get('rxcnt')!, key, 8)).toEqual(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0));
    loaded.close();
  });

  it('uses maps that were given, and leaves them open', () => {
    const first = bringUp('xdp1.o');
    const spec = object('xdp1.o');
    const second = loadKernelObject(spec, spec.programs[0]!, { maps: first.maps });
    if (!second.accepted) throw new Error(second.log);
    testRunXdp(second.programFd, { packet: udp(64) });
    second.close();
    expect(mapLookup(first.maps.get('rxcnt')!, Uint8Array.of(17, 0, 0, 0), 8)).toEqual(
      Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0),
    );
    first.close();
  });

  it('gives back a rejection, and leaves nothing behind', () => {
    const before = openFds();
    const spec = object('xdp1.o');
    const program = spec.programs[0]!;
    // Its first jump, over the check against data_end, is made a `goto pc+0`.
    const insns = program.insns.map((insn, slot) => (slot === 4 ? GOTO_NEXT : insn));
    const result = loadKernelObject(spec, { ...program, insns });
    expect(result).toMatchObject({ accepted: false, errno: 13, programName: 'xdp1' });
    expect(result.log).toContain('invalid access to packet');
    expect(result.log, 'source lines of the object').toMatch(/^; .*@ .*\.(c|h):\d+/m);
    expect(openFds()).toBe(before);
  });

  it('names the element that a map does not take', () => {
    const before = openFds();
    const spec = object('xdp1.o');
    const initial = new Map([['rxcnt', [{ key: Uint8Array.of(0, 1, 0, 0), value: new Uint8Array(8) }]]]);
    expect(() => loadKernelObject(spec, spec.programs[0]!, { initial })).toThrow(
      new XdpbedError('map-invalid', 'map rxcnt: the element under key 00010000 cannot be set: E2BIG'),
    );
    expect(openFds()).toBe(before);
  });
});
