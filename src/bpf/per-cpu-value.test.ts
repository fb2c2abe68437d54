import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from './map-spec.js';
import { cpuValues, syscallValue, syscallValueSize } from './per-cpu-value.js';

const perCpu = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY, valueSize: 3 };
const plain = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, valueSize: 3 };
const key = new Uint8Array(4);
const value = Uint8Array.of(1, 2, 3);

describe('a value as the system call takes it', () => {
  it('is 8 bytes, or a multiple, of each CPU', () => {
    expect([syscallValueSize(perCpu, 4), syscallValueSize(plain, 4)]).toEqual([32, 3]);
  });

  it('is that of every CPU where it is given once', () => {
    const all = [1, 2, 3, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0];
    expect(syscallValue(perCpu, { key, value }, 16)).toEqual(Uint8Array.from(all));
    expect(syscallValue(plain, { key, value }, 3)).toEqual(value);
  });

  it('is that of the CPUs that are named, and 0 of others, however many there are', () => {
    const entry = { key, cpuValues: [{ cpu: 1, value }] };
    expect(syscallValue(perCpu, entry, 24)).toEqual(
      Uint8Array.from([...new Uint8Array(8), 1, 2, 3, ...new Uint8Array(13)]),
    );
    expect(syscallValue(perCpu, entry, 8)).toBe('there is no CPU 1: an element has values of CPUs 0 to 0');
  });

  it('is taken apart again', () => {
    const all = syscallValue(perCpu, { key, value }, 16) as Uint8Array;
    expect(cpuValues(perCpu, all)).toEqual([value, value]);
    expect(cpuValues(plain, value)).toEqual([value]);
    // An object can say so; no map is made of it.
    expect(cpuValues({ ...perCpu, valueSize: 0 }, all)).toEqual([all]);
  });
});
