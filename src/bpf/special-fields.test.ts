import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { Btf } from './btf/btf.js';
import { BtfEncoder } from './btf/btf-encoder.js';
import { MapBtfExtractor, type MapBtf } from './btf/map-btf.js';
import { readObject } from './elf/object-spec.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapAttributes } from './map-spec.js';
import { specialFields, touchedField } from './special-fields.js';

const FIXTURE = join(import.meta.dirname, 'elf/fixtures/special_fields.o');
const object = readObject(readFileSync(FIXTURE), 'special_fields');
const fieldsOf = (name: string) => specialFields(object.maps.find((map) => map.name === name)!);

describe('the special fields of the maps of an object', () => {
  it('are found with their place and name', () => {
    expect(fieldsOf('locked')).toEqual({
      fields: [{ type: 'bpf_spin_lock', name: 'lock', offset: 0, size: 4 }],
    });
    expect(fieldsOf('listed').fields).toEqual([
      { type: 'bpf_spin_lock', name: 'lock', offset: 0, size: 4 },
      { type: 'bpf_list_head', name: 'head', offset: 8, size: 16 },
    ]);
  });

  it('are found in structs and arrays within the value, and in global data', () => {
    expect(fieldsOf('deep').fields).toEqual([
      { type: 'bpf_timer', name: 'expiry[0].timer', offset: 16, size: 16 },
    ]);
    expect(fieldsOf('.data.A').fields).toEqual([
      { type: 'bpf_spin_lock', name: 'guard', offset: 0, size: 4 },
    ]);
  });

  it('are none in plain values, in unions and behind a const', () => {
    expect(fieldsOf('plain')).toEqual({ fields: [] });
    expect(fieldsOf('hidden')).toEqual({ fields: [] });
  });

  it('do not count where the kernel does not take them, with the reason', () => {
    expect(fieldsOf('two')).toEqual({
      fields: [],
      problem: 'its value has more than one bpf_spin_lock',
    });
    expect(fieldsOf('recent').problem).toBe('a BPF_MAP_TYPE_LRU_HASH may not hold a bpf_spin_lock');
    const locked = object.maps.find((map) => map.name === 'locked')!;
    expect(specialFields({ ...locked, flags: BPF_F_RDONLY_PROG }).problem).toMatch(/only read or only write/);
  });
});

/** A map whose value is what `build` makes in an empty BTF. */
function mapOf(valueSize: number, build: (btf: BtfEncoder) => number): MapAttributes {
  const encoder = new BtfEncoder();
  const valueType = build(encoder);
  const btf: MapBtf = { bytes: encoder.bytes(), keyType: 0, valueType };
  return { type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, keySize: 4, valueSize, maxEntries: 1, flags: 0, btf };
}

const struct = (
  btf: BtfEncoder,
  name: string,
  size: number,
  members: readonly (readonly [name: string, type: number, offset: number])[] = [],
): number =>
  btf.type('STRUCT', {
    name,
    vlen: members.length,
    sizeOrType: size,
    body: members.flatMap(([member, type, offset]) => [btf.string(member), type, offset * 8]),
  });

/** `struct task_struct TAG *`. */
const tagged = (btf: BtfEncoder, tag: string): number => {
  const task = struct(btf, 'task_struct', 4);
  return btf.type('PTR', { sizeOrType: btf.type('TYPE_TAG', { name: tag, sizeOrType: task }) });
};

describe('special fields of BTF as it may come', () => {
  it('are tracked pointers, one for each of an array', () => {
    const map = mapOf(24, (btf) => {
      const number = btf.type('INT', { name: 'u32', sizeOrType: 4, body: [32] });
      const array = btf.type('ARRAY', { sizeOrType: 0, body: [tagged(btf, 'kptr'), number, 2] });
      return struct(btf, 'value', 24, [['owners', array, 8]]);
    });
    expect(specialFields(map).fields).toEqual([
      { type: 'kptr', name: 'owners[0]', offset: 8, size: 8 },
      { type: 'kptr', name: 'owners[1]', offset: 16, size: 8 },
    ]);
  });

  it('are no pointers with other tags, which the kernel refuses', () => {
    const map = mapOf(8, (btf) => struct(btf, 'value', 8, [['at', tagged(btf, 'user'), 0]]));
    expect(specialFields(map)).toEqual({ fields: [], problem: 'its value has a pointer tagged user' });
  });

  it('have their alignment and size, or are data', () => {
    const lock = (size: number, at: number): MapAttributes =>
      mapOf(16, (btf) => struct(btf, 'value', 16, [['lock', struct(btf, 'bpf_spin_lock', size), at]]));
    expect(specialFields(lock(4, 4)).fields).toHaveLength(1);
    expect(specialFields(lock(4, 2)).fields).toEqual([]);
    expect(specialFields(lock(8, 0)).fields).toEqual([]);
    expect(specialFields(lock(4, 16)).problem).toBe('lock does not lie in its value alone');
  });

  it.each(Object.getOwnPropertyNames(Object.prototype))('are found in a struct called %s', (name) => {
    const map = mapOf(8, (btf) => {
      const holder = struct(btf, name, 4, [['lock', struct(btf, 'bpf_spin_lock', 4), 0]]);
      return struct(btf, 'value', 8, [['in', holder, 4]]);
    });
    expect(specialFields(map).fields).toEqual([
      { type: 'bpf_spin_lock', name: 'in.lock', offset: 4, size: 4 },
    ]);
  });

  it('are searched once for all maps with the same types', () => {
    const map = mapOf(4, (btf) => struct(btf, 'bpf_spin_lock', 4));
    const { fields } = specialFields({ ...map, valueSize: 8 });
    expect(specialFields(map).fields).toBe(fields);
  });

  it('end in a problem where there are too many or too deep', () => {
    const many = mapOf(8 * 12, (btf) => {
      const pointer = tagged(btf, 'kptr');
      return struct(
        btf,
        'value',
        8 * 12,
        Array.from({ length: 12 }, (_, i) => [`p${i}`, pointer, 8 * i]),
      );
    });
    expect(specialFields(many).problem).toBe('its value has more than 11 special fields');
    const locks = mapOf(8, (btf) => {
      const lock = struct(btf, 'bpf_spin_lock', 4);
      const array = btf.type('ARRAY', { sizeOrType: 0, body: [lock, 0, 2] });
      return struct(btf, 'value', 8, [['locks', array, 0]]);
    });
    expect(specialFields(locks).problem).toBe('its value has an array of bpf_spin_lock');
    // Each struct holds the next, twice: 2^40 ways to the innermost.
    const deep = mapOf(4, (btf) => {
      for (let i = 1; i < 40; i++)
        struct(btf, `s${i}`, 4, [
          ['a', i + 1, 0],
          ['b', i + 1, 0],
        ]);
      btf.type('INT', { name: 'u32', sizeOrType: 4, body: [32] });
      return 1;
    });
    expect(specialFields(deep).problem).toMatch(/nested more than 32 deep/);
  });

  it('end in a problem where it is no BTF, or runs in a circle', () => {
    const broken = { ...mapOf(4, () => 0), btf: { bytes: Uint8Array.of(1), keyType: 0, valueType: 1 } };
    expect(specialFields(broken).problem).toMatch(/BTF magic/);
    const circle = mapOf(4, (btf) => struct(btf, 'value', 4, [['self', 1, 0]]));
    expect(specialFields(circle).fields).toEqual([]);
    expect(specialFields(circle).problem).toMatch(/nested/);
  });

  it('tell which of them bytes touch', () => {
    const lock = { type: 'bpf_spin_lock', name: 'lock', offset: 4, size: 4 } as const;
    const touched = (first: number, end: number) => touchedField({ fields: [lock] }, first, end);
    expect([touched(0, 4), touched(8, 16)]).toEqual([undefined, undefined]);
    expect([touched(3, 5), touched(7, 8), touched(0, Infinity)]).toEqual([lock, lock, lock]);
  });
});

describe('BTF of one map', () => {
  it('says of the value what the BTF of the object does', () => {
    const map = object.maps.find((each) => each.name === 'deep')!;
    const btf = new Btf(map.btf!.bytes);
    const original = object.btf!;
    expect(btf.describe(map.btf!.valueType)).toBe('struct deep');
    expect(btf.sizeOf(map.btf!.valueType)).toBe(map.valueSize);
    expect(btf.member(map.btf!.valueType, 'expiry')?.bitOffset).toBe(
      original.member(map.valueType!.id, 'expiry')!.bitOffset,
    );
    expect(btf.sizeOf(map.btf!.keyType)).toBe(4);
  });

  it('leads nowhere behind pointers, and keeps what a list holds', () => {
    const locked = new Btf(object.maps.find((map) => map.name === 'locked')!.btf!.bytes);
    const next = locked.find('STRUCT', 'locked')!.type.members.find((member) => member.name === 'next')!;
    expect(locked.type(next.type)).toMatchObject({ kind: 'PTR', type: 0 });
    const listed = new Btf(object.maps.find((map) => map.name === 'listed')!.btf!.bytes);
    expect(listed.find('STRUCT', 'element')).toBeDefined();
    expect(listed.find('DECL_TAG', 'contains:element:node')).toBeDefined();
  });

  it('is the same object for the same types, and bounded for all maps together', () => {
    const encoder = new BtfEncoder();
    const number = encoder.type('INT', { name: 'u32', sizeOrType: 4, body: [32] });
    const members = Array.from({ length: 60_000 }, (_, i) => [`m${i % 10}`, number, 0] as const);
    for (let i = 0; i < 10; i++) struct(encoder, `s${i}`, 4, members);
    const extractor = new MapBtfExtractor(new Btf(encoder.bytes()));
    expect(extractor.extract(1, 2)).toBe(extractor.extract(1, 2));
    expect(() => {
      for (let type = 2; type < 12; type++) extractor.extract(1, type);
    }).toThrow(/more than 4194304 bytes/);
  });

  it('takes work by the number of types, however many share one name', () => {
    const work = (count: number): number => {
      const encoder = new BtfEncoder();
      const value = struct(encoder, 'value', 4);
      for (let i = 0; i < count; i++) encoder.type('FWD', { name: 'node', sizeOrType: 0 });
      const body = [0xffffffff];
      for (let i = 0; i < count; i++) {
        encoder.type('DECL_TAG', { name: 'contains:node:at', sizeOrType: value, body });
      }
      const btf = new Btf(encoder.bytes());
      const looks = vi.spyOn(btf, 'type');
      new MapBtfExtractor(btf).extract(0, value);
      return looks.mock.calls.length;
    };
    expect(work(2000)).toBeLessThan(3 * work(1000));
  });

  it('is given up before it is encoded where types refer to too many, and says where', () => {
    const encoder = new BtfEncoder();
    const number = encoder.type('INT', { name: 'u32', sizeOrType: 4, body: [32] });
    const members = Array.from({ length: 60_000 }, () => ['m', number, 0] as const);
    const structs = Array.from({ length: 18 }, (_, i) => struct(encoder, `s${i}`, 4, members));
    const value = struct(
      encoder,
      'value',
      4,
      structs.map((type) => ['in', type, 0]),
    );
    const extractor = new MapBtfExtractor(new Btf(encoder.bytes(), 0x40));
    expect(() => extractor.extract(0, value)).toThrow(
      expect.objectContaining({
        code: 'object-invalid',
        message: expect.stringContaining('more than 1048576 times') as string,
        at: { offset: 0x40 },
      }),
    );
    expect(extractor.references).toBe(2 ** 20 + 1);
  });
});
