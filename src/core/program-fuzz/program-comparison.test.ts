import { afterEach, describe, expect, it } from 'vitest';
import { readAssembly } from '../../bpf/assembly-object.js';
import type { BtfType } from '../../bpf/btf/btf-type.js';
import type { Btf } from '../../bpf/btf/btf.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_F_RDONLY, BPF_F_WRONLY, type MapSpec } from '../../bpf/map-spec.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { randomStream } from '../run/random.js';
import { readObjectFile } from '../testbed/object-file.js';
import { PacketGenerator } from './packet-generator.js';
import { ProgramComparison } from './program-comparison.js';
import { programConstants } from './program-constants.js';
import { RandomSource } from './random-source.js';
import type { SentPacket } from './sent-packet.js';
import { searchSequences } from './sequence-search.js';
import { shrinkSequence } from './shrink-sequence.js';
import { Subject } from './subject.js';

const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const opened: Subject[] = [];
afterEach(async () => {
  for (const subject of opened.splice(0)) await subject.close();
});

const subjectOf = (text: string): Promise<Subject> => openSubject(readAssembly(`.license GPL\n${text}`));

async function openSubject(object: ObjectSpec): Promise<Subject> {
  const subject = await Subject.open(registry, {
    object,
    spec: object.programs[0]!,
    verifiers: ['abstract'],
  });
  if (!(subject instanceof Subject)) throw new Error(subject.reason);
  opened.push(subject);
  return subject;
}

async function compare(before: string, after: string): Promise<ProgramComparison> {
  return new ProgramComparison(await subjectOf(before), await subjectOf(after));
}

const sent = (...packets: readonly Uint8Array[]): SentPacket[] =>
  packets.map((data) => ({ data, input: {} }));
const packet = (...bytes: readonly number[]): Uint8Array => {
  const data = new Uint8Array(60);
  data.set(bytes);
  return data;
};

/** Counts packets under byte 0; drops from the LIMIT-th of one kind on. */
const counting = (limit: number, more = ''): string => `.map counts hash key=4 value=8 entries=16
${more}.program count
  r6 = *(u32 *)(r1 +0)
  r7 = *(u32 *)(r1 +4)
  r8 = r6
  r8 += 14
  if r8 > r7 goto pass
  r2 = *(u8 *)(r6 +0)
  *(u32 *)(r10 -4) = r2
  *(u64 *)(r10 -16) = 1
  r1 = map[counts]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 != 0 goto known
  r1 = map[counts]
  r2 = r10
  r2 += -4
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  goto pass
known:
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
  if r1 > ${limit} goto drop
pass:
  r0 = 2
  exit
drop:
  r0 = 1
  exit
`;

describe('ProgramComparison', () => {
  it('tells verdicts, bytes and lengths apart, packet by packet', async () => {
    const returning = (verdict: number): string => `.program p\n  r0 = ${verdict}\n  exit\n`;
    const verdicts = await compare(returning(2), returning(1));
    expect(await verdicts.differences(sent(packet()))).toEqual({
      packets: [[{ what: 'verdict', old: 'XDP_PASS', new: 'XDP_DROP' }]],
      maps: [],
      mapsCut: false,
    });
    const writing = (value: number): string => `.program p
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 14
  r0 = 2
  if r4 > r3 goto out
  *(u8 *)(r2 +5) = ${value}
out:
  exit
`;
    const bytes = await compare(writing(7), writing(9));
    expect((await bytes.differences(sent(packet(), packet()))).packets).toEqual([
      [{ what: 'byte 5', old: '07', new: '09' }],
      [{ what: 'byte 5', old: '07', new: '09' }],
    ]);
    const shortening = (by: number): string =>
      `.program p\n  r2 = ${-by}\n  call bpf_xdp_adjust_tail\n  r0 = 2\n  exit\n`;
    const lengths = await compare(shortening(4), shortening(10));
    expect((await lengths.differences(sent(packet()))).packets[0]).toEqual(
      expect.arrayContaining([{ what: 'length of the packet', old: '56 bytes', new: '50 bytes' }]),
    );
    // What is no verdict is one of its own.
    const numbers = await compare(returning(0), returning(9));
    expect((await numbers.differences(sent(packet()))).packets).toEqual([
      [{ what: 'verdict', old: 'XDP_ABORTED', new: '9 (no verdict)' }],
    ]);
  });

  it('starts every sequence from the same maps', async () => {
    const comparison = await compare(counting(2), counting(2));
    for (let round = 0; round < 3; round++)
      expect(await comparison.shows(sent(packet(1), packet(1)))).toBe(false);
  });

  it('tells maps apart, an element that is not there as well', async () => {
    const comparison = await compare(
      counting(2),
      counting(2).replace('r2 = *(u8 *)(r6 +0)', 'r2 = *(u8 *)(r6 +1)'),
    );
    const difference = await comparison.differences(sent(packet(3, 4)));
    expect(difference.packets).toEqual([[]]);
    expect(difference.maps).toEqual([
      { what: 'counts[3]', old: '1', new: 'not there' },
      { what: 'counts[4]', old: 'not there', new: '1' },
    ]);
    expect(await comparison.shows(sent(packet(5, 5)))).toBe(false);
  });

  it('says which maps it cannot compare', async () => {
    const wide = counting(2).replace('entries=16', 'entries=16').replace('value=8', 'value=16');
    const used = '  r0 = map[other]\n';
    const more = (text: string): string =>
      `.map other array key=4 value=8 entries=1\n${text.replace('.program count\n', `.program count\n${used}`)}`;
    const comparison = await compare(
      counting(2),
      more(
        wide
          .replace('*(u64 *)(r10 -16) = 1', '*(u64 *)(r10 -24) = 1\n  *(u64 *)(r10 -16) = 0')
          .replace('r3 += -16', 'r3 += -24'),
      ),
    );
    expect(comparison.notes).toEqual([
      'map other is only in the new program',
      'map counts is not compared: values have 8 bytes, now 16',
    ]);
  });
});

describe('maps without keys', () => {
  /** Puts bytes of the packet into a queue or stack, those at these offsets in this order. */
  const pushing = (
    type: 'queue' | 'stack',
    offsets: readonly number[],
    flags = 0,
  ): string => `.map jobs ${type} key=0 value=4 entries=3 flags=${flags}
.program push
  r6 = *(u32 *)(r1 +0)
  r7 = *(u32 *)(r1 +4)
  r8 = r6
  r8 += 14
  if r8 > r7 goto out
${offsets
  .map(
    (offset) => `  r2 = *(u8 *)(r6 +${offset})
  *(u32 *)(r10 -4) = r2
  r1 = map[jobs]
  r2 = r10
  r2 += -4
  r3 = 0
  call bpf_map_push_elem
`,
  )
  .join('')}out:
  r0 = 2
  exit
`;

  it.each([
    // First in, first out: 5 and then 6 of the old program.
    ['queue', '5', '6'],
    ['stack', '6', '5'],
  ] as const)('are compared value by value, as they come out of a %s', async (type, first, second) => {
    const comparison = await compare(pushing(type, [0, 1]), pushing(type, [1, 0]));
    expect(comparison.notes).toEqual([]);
    expect(await comparison.differences(sent(packet(5, 6)))).toEqual({
      packets: [[]],
      maps: [
        { what: 'jobs, value 1', old: first, new: second },
        { what: 'jobs, value 2', old: second, new: first },
      ],
      mapsCut: false,
    });
    expect(await comparison.shows(sent(packet(5, 6)))).toBe(true);
    expect(await comparison.shows(sent(packet(7, 7)))).toBe(false);
  });

  it('are told apart by how much they hold, and hold it still', async () => {
    const comparison = await compare(pushing('queue', [0]), pushing('queue', [0, 1]));
    // Of two packets; the new one has no room for the fourth value.
    const { maps } = await comparison.differences(sent(packet(1, 2), packet(3, 4)));
    expect(maps).toEqual([
      { what: 'jobs, value 2', old: '3', new: '2' },
      { what: 'jobs, value 3', old: 'not there', new: '3' },
    ]);
    const left = comparison.after.session.maps.get('jobs')!;
    const values = [0, 1, 2].map(() => left.lookupAndDelete(new Uint8Array()));
    expect(values).toEqual([1, 2, 3].map((byte) => Uint8Array.of(byte, 0, 0, 0)));
  });

  it('that only programs may read, or take something out of, are told', async () => {
    const [open, readOnly, writeOnly] = [0, BPF_F_RDONLY, BPF_F_WRONLY].map((flags) =>
      pushing('queue', [0], flags),
    );
    expect((await compare(open!, readOnly!)).notes).toEqual([
      'map jobs is not compared: only programs may take something out of it (BPF_F_RDONLY)',
    ]);
    expect((await compare(writeOnly!, open!)).notes).toEqual([
      'map jobs is not compared: only programs may read it (BPF_F_WRONLY)',
    ]);
  });
});

describe('global variables', () => {
  /** As if its source had `bytes` as a `__u32`, and another name for `last_ns`. */
  function changed(object: ObjectSpec): ObjectSpec {
    const maps = object.maps.map((map): MapSpec => {
      if (map.name !== '.bss') return map;
      const { btf, id } = map.valueType!;
      const names = new Map([['last_ns', 'latest_ns']]);
      const type = (of: number): BtfType => {
        const found = btf.type(of);
        if (found.kind === 'VAR') return { ...found, name: names.get(found.name) ?? found.name };
        if (found.kind !== 'DATASEC') return found;
        const variables = found.variables.map((each) =>
          btf.type(each.type).name === 'bytes' ? { ...each, size: 4 } : each,
        );
        return { ...found, variables };
      };
      return { ...map, valueType: { btf: { type } as unknown as Btf, id } };
    });
    return { ...object, maps };
  }

  it('that only one has, or in another size, are told and not compared', async () => {
    const object = await readObjectFile('testbeds/programs/globals.o');
    const [before, after] = [await openSubject(object), await openSubject(changed(object))];
    const comparison = new ProgramComparison(before, after);
    expect(comparison.notes).toEqual([
      'variable .bss.last_ns is only in the old program',
      'variable .bss.latest_ns is only in the new program',
      'variable .bss.bytes is not compared: it has 8 bytes, now 4',
    ]);
    // The program counts its bytes and notes the time, as it did before.
    expect(await comparison.shows([{ data: packet(), input: { now: 5n } }])).toBe(false);
  });
});

describe('a search', () => {
  const search = async (comparison: ProgramComparison, seed: bigint, packets: number) => {
    const random = new RandomSource(randomStream(seed, 'packets'));
    const insns = [comparison.before, comparison.after].flatMap(
      ({ session }) => session.loaded.program.insns,
    );
    const generator = new PacketGenerator(random, { constants: programConstants(insns) });
    return searchSequences(comparison, { generator, random, input: {}, packets });
  };

  it('finds the shortest sequence that tells apart where a limit was moved', async () => {
    const comparison = await compare(counting(3), counting(5));
    const { found } = await search(comparison, 1n, 20_000);
    const smallest = await shrinkSequence(found!, (packets) => comparison.shows(packets));
    // The fourth packet of one kind is dropped by the old one only.
    expect(smallest.map(({ data }) => data)).toEqual(Array.from({ length: 4 }, () => new Uint8Array(14)));
    expect((await comparison.differences(smallest)).packets).toEqual([
      [],
      [],
      [],
      [{ what: 'verdict', old: 'XDP_DROP', new: 'XDP_PASS' }],
    ]);
  });

  it('finds a limit that many packets of one kind reach', async () => {
    const comparison = await compare(counting(40), counting(41));
    const { found } = await search(comparison, 1n, 20_000);
    const smallest = await shrinkSequence(found!, (packets) => comparison.shows(packets));
    expect(smallest.map(({ data }) => data)).toEqual(Array.from({ length: 41 }, () => new Uint8Array(14)));
  });

  it('hits a constant that random bytes would not', async () => {
    const asking = (number: string): string => `.program p
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 18
  r0 = 2
  if r4 > r3 goto out
  r5 = *(u32 *)(r2 +14)
  if w5 != ${number} goto out
  r0 = 1
out:
  exit
`;
    const comparison = await compare(asking('0x12345678'), asking('0x12345679'));
    const { found } = await search(comparison, 1n, 20_000);
    const [smallest] = await shrinkSequence(found!, (packets) => comparison.shows(packets));
    expect([...smallest!.data.subarray(14)]).toSatisfy(
      (bytes: number[]) => bytes.length === 4 && [0x78, 0x79].includes(bytes[0]!) && bytes[3] === 0x12,
    );
  });

  it('finds what only a map holds', async () => {
    const locked = (verdict: number): string => `.map key array key=4 value=8 entries=1 data=efbeadde00000000
.program p
  r6 = *(u32 *)(r1 +0)
  r7 = *(u32 *)(r1 +4)
  r8 = r6
  r8 += 30
  if r8 > r7 goto out
  *(u32 *)(r10 -4) = 0
  r1 = map[key]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u32 *)(r0 +0)
  r2 = *(u32 *)(r6 +26)
  if w1 != w2 goto out
  r0 = ${verdict}
  exit
out:
  r0 = 2
  exit
`;
    const comparison = await compare(locked(1), locked(3));
    const { found } = await search(comparison, 1n, 20_000);
    const [smallest] = await shrinkSequence(found!, (packets) => comparison.shows(packets));
    const expected = new Uint8Array(30);
    expected.set([0xef, 0xbe, 0xad, 0xde], 26);
    expect(smallest!.data).toEqual(expected);
  });

  it('is the same for the same seed', async () => {
    const comparison = await compare(counting(3), counting(3));
    const first = await search(comparison, 9n, 500);
    const again = await search(await compare(counting(3), counting(3)), 9n, 500);
    expect(first.found).toBeUndefined();
    expect([again.packets, again.sequences]).toEqual([first.packets, first.sequences]);
    expect((await search(comparison, 10n, 500)).sequences).not.toBe(first.sequences);
  });

  it('ends when it is told to', async () => {
    const comparison = await compare(counting(3), counting(3));
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 100);
    const random = new RandomSource(randomStream(1n, 'packets'));
    const generator = new PacketGenerator(random, { constants: { words: [], lengths: [] } });
    const started = performance.now();
    const { interrupted } = await searchSequences(comparison, {
      generator,
      random,
      input: {},
      packets: 1e9,
      signal: abort.signal,
    });
    expect(interrupted).toBe(true);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
