import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Btf } from '../../bpf/btf/btf.js';
import { BtfEncoder } from '../../bpf/btf/btf-encoder.js';
import { parseValue } from '../../bpf/btf/parse-value.js';
import { readObject } from '../../bpf/elf/object-spec.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../bpf/map-spec.js';
import { cpuStride } from '../../bpf/per-cpu-value.js';
import { overAllCpus } from './cpu-sums.js';

const path = new URL('../../bpf/elf/fixtures/written_values.o', import.meta.url).pathname;
/** `struct odd`: integers of all kinds, addresses, an enum, text. */
const { valueType: odd, valueSize: oddSize } = readObject(readFileSync(path), path).maps[0]!;

function perCpu(valueSize: number, valueType?: MapSpec['valueType']): MapSpec {
  const type = BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH;
  return { name: 'm', type, keySize: 4, valueSize, valueType, maxEntries: 1, flags: 0, initial: [] };
}

function together(map: MapSpec, ...values: readonly Uint8Array[]): Record<string, string> {
  const all = new Uint8Array(cpuStride(map) * values.length);
  values.forEach((value, cpu) => all.set(value, cpu * cpuStride(map)));
  return Object.fromEntries(overAllCpus(map, all));
}

describe('values of all CPUs together', () => {
  const ofOdd = (...values: readonly object[]): Record<string, string> =>
    together(perCpu(oddSize, odd), ...values.map((value) => parseValue(odd!, value)));

  it('are sums of integers, as wide as the member is', () => {
    expect(
      ofOdd(
        {
          counters: { packets: 3, bytes: '18446744073709551615' },
          padded: [{}, { first: 200 }],
          many: [0, 1],
        },
        { counters: { packets: 4, bytes: 2 }, padded: [{ second: 7 }, { first: 100 }], many: [0, 2] },
      ),
    ).toEqual({
      '.counters.packets': '7',
      // 2^64 - 1 + 2, and 300, each modulo what the member holds.
      '.counters.bytes': '1',
      '.padded[1].first': '44',
      '.padded[0].second': '7',
      '.many[1]': '3',
    });
    // Five bits with a sign: -3 and -2, 9 and 9; 128 bits.
    expect(ofOdd({ field: -3, wide: '18446744073709551615' }, { field: -2, wide: 1 })).toEqual({
      '.field': '-5',
      '.wide': '18446744073709551616',
    });
    expect(ofOdd({ field: 9 }, { field: 9 })).toEqual({ '.field': '-14' });
  });

  it('are what occurs of anything else, once and in whatever order', () => {
    const [one, other] = [
      { flow: { source: '192.0.2.1', source_port: 53, mac: '02:00:00:00:00:01', name: 'eth0' }, flag: true },
      {
        flow: { source: '192.0.2.9', source_port: 53, mac: '02:00:00:00:00:01' },
        action: 'ALLOW',
        flag: true,
      },
    ];
    const expected = {
      '.flow.source': '192.0.2.1, 192.0.2.9',
      '.flow.source_port': '53',
      '.flow.mac': '"02:00:00:00:00:01"',
      '.flow.name': 'eth0',
      '.action': 'ALLOW',
      '.flag': 'true',
    };
    expect(ofOdd(one, other)).toEqual(expected);
    expect(ofOdd(other, {}, one, one)).toEqual(expected);
  });

  it('do not have what is 0 on every CPU, or comes to 0', () => {
    expect(ofOdd({}, {})).toEqual({});
    expect(ofOdd({ counters: { packets: 1 } }, { counters: { packets: '18446744073709551615' } })).toEqual(
      {},
    );
  });

  it('do not look at bytes between members', () => {
    const [value, padding] = [parseValue(odd!, { padded: [{ second: 1 }] }), parseValue(odd!, {})];
    const second = value.indexOf(1);
    padding[second - 1] = 0xff;
    expect(together(perCpu(oddSize, odd), value, padding)).toEqual({ '.padded[0].second': '1' });
  });

  it('are a sum without BTF, too, where they have the size of an integer', () => {
    expect(together(perCpu(1), Uint8Array.of(200), Uint8Array.of(100))).toEqual({ '': '44' });
    expect(together(perCpu(4), Uint8Array.of(0xff, 0xff, 0, 0), Uint8Array.of(1, 0, 0, 0))).toEqual({
      '': '65536',
    });
    expect(together(perCpu(4), new Uint8Array(4))).toEqual({});
  });

  it('are those that there are where nothing says what they mean, each as often as it is there', () => {
    const [a, b, none] = [new Uint8Array(3).fill(1), new Uint8Array(3).fill(2), new Uint8Array(3)];
    expect(together(perCpu(3), b, none, a)).toEqual({ '': '010101, 020202' });
    expect(together(perCpu(3), a, a)).toEqual({ '': '010101, 010101' });
    expect(together(perCpu(3), none, none)).toEqual({});
  });

  it('take no longer than a value is worth, whatever its type says', () => {
    const encoder = new BtfEncoder();
    // Structs that hold twice the one before, of which the first has no bytes.
    let id = encoder.type('STRUCT', { name: 's', sizeOrType: 0 });
    for (let depth = 1; depth < 30; depth++) {
      const body = ['a', 'b'].flatMap((name) => [encoder.string(name), id, 0]);
      id = encoder.type('STRUCT', { name: 's', vlen: 2, sizeOrType: depth === 29 ? 4 : 0, body });
    }
    const btf = new Btf(encoder.bytes());
    expect(together(perCpu(4, { btf, id }), Uint8Array.of(1, 2, 3, 4))).toEqual({});
  });
});
