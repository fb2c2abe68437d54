import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { ElfFile } from '../../bpf/elf/elf-file.js';
import { ENOENT, ENOMEM } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { RecordingPlace, u32Key } from '../../conformance/offload/offload-rig.js';
import { QuotaAccounts } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(): TestingParty {
  return testingParty('host', { mebibytes: 16 });
}

const guest = (maxBytes?: number): BpfOffloadGuest =>
  new BpfOffloadGuest({
    host: party(),
    guest: party(),
    policies: [],
    device: {
      place: Object.assign(new RecordingPlace(), { replacesAtOnce: true }),
      ...(maxBytes === undefined ? {} : { limits: { maxBytes } }),
    },
  });

const MIB = 1024 * 1024;
const ARRAY_OF_MAPS = { mapType: 12, keySize: 4, valueSize: 4 };

describe('what a device holds for a guest that no policy limits', () => {
  it('is bounded with the elements that are objects, which lie outside the memory of programs', async () => {
    const g = guest();
    const inner = await g.map();
    const create = { ...ARRAY_OF_MAPS, maxEntries: 4096, inner };
    const handles: number[] = [];
    // An element takes 256 bytes beside its map: 4096 maps of 4096 elements would be 4 GiB.
    for (;;) {
      const errno = await g.errno({ kind: 'create-map', mapFlags: 0, name: '', ...create });
      if (errno !== undefined) {
        expect(errno).toBe(ENOMEM);
        break;
      }
      handles.push(handles.length);
      expect(handles.length).toBeLessThan(4096);
    }
    expect(handles.length * MIB).toBeLessThan(256 * MIB);
    expect(handles.length * MIB).toBeGreaterThan(200 * MIB);
    const { mapMemory } = g.accounts.usageOf('guest0');
    expect(mapMemory).toBeLessThanOrEqual(256 * MIB);
    await g.device.reset();
    expect(g.accounts.usageOf('guest0').mapMemory).toBe(0);
    // All of it is there to be had again.
    await g.map({ ...create, inner: await g.map() });
  });

  it('is bounded with the keys of elements that are objects, and with small maps', async () => {
    const g = guest(2 * MIB);
    const HASH_OF_MAPS = { mapType: 13, keySize: 512, valueSize: 4 };
    const inner = await g.map();
    const create = (maxEntries: number) =>
      g.errno({ kind: 'create-map', mapFlags: 0, name: '', ...HASH_OF_MAPS, maxEntries, inner });
    // In the map's own memory a key takes its 512 bytes, beside it 1024 in hex.
    expect(await create(Math.ceil((2 * MIB) / (512 + 1024)))).toBe(ENOMEM);
    expect(await create(1000)).toBeUndefined();
    // Each takes 48 bytes of the memory of programs, and some KiB of the process.
    const small = guest(64 * 1024);
    for (let map = 0; map < 15; map++) await small.map();
    const array = { mapType: 2, keySize: 4, valueSize: 8, maxEntries: 4 };
    expect(await small.errno({ kind: 'create-map', mapFlags: 0, name: '', ...array })).toBe(ENOMEM);
  });

  it('is bounded with programs, by their length, and with BTF', async () => {
    const g = guest(3 * 64 * 1024);
    const load = (insns: number) =>
      g.errno({
        kind: 'load-program',
        name: '',
        insns: encodeInsns(assemble(`${'r0 = 2\n'.repeat(insns - 1)}exit`)),
        gplCompatible: true,
        frags: false,
      });
    expect(await load(300)).toBe(ENOMEM);
    expect(await load(200)).toBeUndefined();
    expect(await load(2)).toBe(ENOMEM);
    expect(g.accounts.usageOf('guest0')).toMatchObject({ programs: 1, insns: 200 });
    const elf = new ElfFile(readFileSync(new URL('../../../testbeds/programs/xdp1.o', import.meta.url)));
    const bytes = Uint8Array.from(elf.bytesOf(elf.section('.BTF')!));
    const small = guest(bytes.length + 10);
    const btf = await small.handle({ kind: 'load-btf', bytes });
    expect(await small.errno({ kind: 'load-btf', bytes })).toBe(ENOMEM);
    await small.close(btf);
    expect(await small.errno({ kind: 'load-btf', bytes })).toBeUndefined();
  });

  it('is bounded with the texts that programs keep of BTF', async () => {
    // No types, and 60 000 bytes of which none is a character: any part of them is text, of two bytes for each.
    const bytes = new Uint8Array(24 + 60_000).fill(0xff);
    bytes.set(new Uint8Array(Uint32Array.of(0x1_eb9f, 24, 0, 0, 0, 60_000).buffer));
    bytes.set([0], 24);
    bytes.set([0], 24 + 60_000 - 1);
    const LINES = 1300;
    const lines = new Uint32Array(4 * LINES);
    for (let line = 0; line < LINES; line++) lines.set([line, 1 + 37 * line, 1 + 37 * line, 0], 4 * line);
    const g = guest(5 * MIB);
    const btf = await g.handle({ kind: 'load-btf', bytes });
    const load = (described: boolean) =>
      g.errno({
        kind: 'load-program',
        name: '',
        insns: encodeInsns(assemble(`${'r0 = 2\n'.repeat(LINES - 1)}exit`)),
        gplCompatible: true,
        frags: false,
        ...(described
          ? { debug: { btf, functions: new Uint8Array(), lines: new Uint8Array(lines.buffer) } }
          : {}),
      });
    // 1300 × 1024 characters of texts are 2.5 MiB.
    expect(await load(true)).toBeUndefined();
    expect(await load(true)).toBe(ENOMEM);
    expect(await load(false)).toBeUndefined();
  });

  const OUTERS = 20;
  const ELEMENTS = 4096;

  /** A guest with maps that are full of one of its maps, and what it calls them. */
  async function full() {
    const g = guest();
    const held = await g.map();
    const outers: number[] = [];
    for (let map = 0; map < OUTERS; map++) {
      const outer = await g.map({ ...ARRAY_OF_MAPS, maxEntries: ELEMENTS, inner: held });
      outers.push(outer);
      for (let index = 0; index < ELEMENTS; index++) {
        const [key, value] = [u32Key(index), u32Key(held)];
        await g.expect('done', { kind: 'update-elem', handle: outer, key, value, flags: 0n });
      }
    }
    return { g, held, outers };
  }

  /** Turns that others had until it was over. */
  async function turnsOf(work: Promise<unknown>): Promise<number> {
    let over = false;
    void work.then(() => (over = true));
    for (let turns = 0; ; turns++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (over) return turns;
    }
  }

  it('leaves no memory to be zeroed by who creates the next map, and gives others their turn while it is', async () => {
    const host = party();
    const g = new BpfOffloadGuest({ host, guest: party() });
    const { u8 } = host.runtime.space;
    const before = u8.slice();
    const valueSize = 64 * 1024;
    // Maps in pieces as well as one.
    for (const [maps, maxEntries] of [
      [1, 192],
      [192, 1],
    ] as const) {
      const handles: number[] = [];
      for (let made = 0; made < maps; made++) {
        const handle = await g.map({ valueSize, maxEntries });
        handles.push(handle);
        for (let index = 0; index < maxEntries; index++) {
          const value = new Uint8Array(valueSize).fill(0xff);
          await g.expect('done', { kind: 'update-elem', handle, key: u32Key(index), value, flags: 0n });
        }
      }
      // 12 MiB, of which four are zeroed in a turn.
      expect(await turnsOf(g.device.reset())).toBeGreaterThanOrEqual(2);
      expect(Buffer.compare(u8, before)).toBe(0);
    }
  });

  it('gives others their turn while it goes with a reset', async () => {
    const { g } = await full();
    expect(await turnsOf(g.device.reset())).toBeGreaterThanOrEqual(OUTERS - 1);
    expect(g.accounts.guests).toEqual([]);
  });

  it('gives others their turn while it goes with the last handle of a program, and is answered when it has', async () => {
    const { g, held, outers } = await full();
    const loads = outers.map((_, index) => `r1 = map[m${index}]`);
    const maps = new Map(outers.map((handle, index) => [`m${index}`, handle]));
    const user = await g.program(encodeInsns(assemble([...loads, 'r0 = 2', 'exit'].join('\n'), { maps })));
    for (const outer of outers) await g.close(outer);
    const { maps: before } = g.accounts.usageOf('guest0');
    expect(before).toBe(OUTERS + 1);
    const closed = g.close(user);
    // What comes meanwhile waits: it finds nothing that is half gone.
    const next = g.errno({ kind: 'open-by-id', object: 'map', id: 2 });
    expect(await turnsOf(closed)).toBeGreaterThanOrEqual(OUTERS - 1);
    expect(g.accounts.usageOf('guest0')).toMatchObject({ maps: 1, programs: 0 });
    expect(await next).toBe(ENOENT);
    await g.close(held);
    expect(g.accounts.guests).toEqual([]);
  });

  it('gives others their turn while it goes from the host that it has left', async () => {
    const { g } = await full();
    const accounts = new QuotaAccounts();
    const move = await g.device.prepareMove({ party: party(), policies: [], accounts });
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(await turnsOf(move.finish())).toBeGreaterThanOrEqual(OUTERS - 1);
    expect(g.accounts.guests).toEqual([]);
    expect(accounts.usageOf('guest0').maps).toBe(OUTERS + 1);
  });
});
