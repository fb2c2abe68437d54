import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { Btf } from '../../bpf/btf/btf.js';
import { ElfFile } from '../../bpf/elf/elf-file.js';
import { EINVAL } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { testingParty } from './testing-party.js';

/** How often BTF of that many bytes was parsed: what a map keeps of it is shorter. */
const parsing = vi.hoisted(() => ({ bytes: 0, count: 0 }));

vi.mock('../../bpf/btf/btf.js', async (original) => {
  const module = await original<{ Btf: typeof Btf }>();
  return {
    ...module,
    Btf: class extends module.Btf {
      constructor(...parameters: ConstructorParameters<typeof Btf>) {
        super(...parameters);
        if (parameters[0].length === parsing.bytes) parsing.count++;
      }
    },
  };
});

const elf = new ElfFile(readFileSync(new URL('../../../testbeds/programs/xdp2.o', import.meta.url)));
const section = Uint8Array.from(elf.bytesOf(elf.section('.BTF')!));

function integerOf(size: number): number {
  const types = new Btf(section);
  for (let id = 1; id < types.typeCount; id++) {
    if (types.type(id).kind === 'INT' && types.sizeOf(id) === size) return id;
  }
  throw new RangeError(`no integer of ${size} bytes`);
}

const ARRAY = { kind: 'create-map', mapType: 2, keySize: 4, maxEntries: 1, mapFlags: 0 } as const;

it('BTF is parsed once for all maps and programs that are made with it', async () => {
  const [keyType, valueType] = [integerOf(4), integerOf(8)];
  const g = new BpfOffloadGuest({ host: testingParty('host'), guest: testingParty('guest') });
  Object.assign(parsing, { bytes: section.length, count: 0 });
  const handle = await g.handle({ kind: 'load-btf', bytes: section });
  for (let made = 0; made < 3; made++) await g.map({ btf: { handle, keyType, valueType } });
  await g.handle({
    kind: 'load-program',
    name: '',
    insns: encodeInsns(assemble('r0 = 2\nexit')),
    gplCompatible: true,
    frags: false,
    debug: { btf: handle, functions: new Uint8Array(), lines: new Uint8Array() },
  });
  expect(parsing.count).toBe(1);

  // Another BTF in between, and the types are still those of the one that is named.
  const other = await g.handle({ kind: 'load-btf', bytes: section });
  await g.map({ btf: { handle, keyType, valueType } });
  await g.map({ btf: { handle: other, keyType, valueType } });
  expect(await g.errno({ ...ARRAY, valueSize: 4, btf: { handle: other, keyType, valueType } })).toBe(EINVAL);
});
