import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { exampleResults, exampleRun, refusedRun } from '../../conformance/reporter/index.js';
import {
  emptyVerdictCounts,
  formatMapEntry,
  ResultDocument,
  sumControl,
  sumFates,
  sumRulings,
  sumVerdicts,
  type MapResult,
} from './result.js';

it('accepts the example results', () => {
  const validate = new Ajv({ strict: false }).compile(ResultDocument);
  for (const result of Object.values(exampleResults())) expect(validate(result)).toBe(true);
});

describe('sums over a run', () => {
  it('adds up verdicts without touching them', () => {
    const hook = { ...exampleRun().hooks[0]!, verdicts: { ...emptyVerdictCounts(), XDP_DROP: 2, XDP_TX: 1 } };
    expect(sumVerdicts([hook, hook])).toEqual({ ...emptyVerdictCounts(), XDP_DROP: 4, XDP_TX: 2 });
    expect(sumVerdicts([])).toEqual(emptyVerdictCounts());
    expect(hook.verdicts.XDP_DROP).toBe(2);
  });

  it('adds up fates over places', () => {
    const fates = sumFates({
      ...exampleRun(),
      ends: [
        { place: 'a', fate: 'ring-full', frames: 2 },
        { place: 'b', fate: 'ring-full', frames: 3 },
        { place: 'b', fate: 'transmitted', frames: 1 },
      ],
    });
    expect(fates).toMatchObject({ 'ring-full': 5, transmitted: 1, 'guest-stack': 0 });
  });

  it('counts a ruling as often as it was given', () => {
    expect(sumRulings(refusedRun())).toEqual({ allow: 0, deny: 2 });
  });

  it('adds up commands and acks', () => {
    const [control] = exampleRun().control;
    expect(sumControl([control!, { ...control!, acks: { ok: 0, err: 3 } }])).toEqual({
      commands: 4,
      ok: 2,
      err: 3,
    });
  });
});

describe('formatMapEntry', () => {
  const map = (type: string): MapResult => ({ ...exampleRun().maps[0]!, type });
  it.each([
    ['BPF_MAP_TYPE_ARRAY', { key: '11000000', value: 'e803000000000000' }, '[17]=1000'],
    ['BPF_MAP_TYPE_PERCPU_ARRAY', { key: '00010000', value: 'ff' }, '[256]=255'],
    ['BPF_MAP_TYPE_DEVMAP', { key: '01000000', value: '05000000' }, '[1]=5'],
    // An address, in network order: no number.
    ['BPF_MAP_TYPE_HASH', { key: 'c0000201', value: '01000000' }, '[0xc0000201]=1'],
    ['BPF_MAP_TYPE_DEVMAP_HASH', { key: '07000000', value: '01000000' }, '[0x07000000]=1'],
    ['BPF_MAP_TYPE_HASH', { key: '01', value: '525400123400' }, '[0x01]=0x525400123400'],
    ['BPF_MAP_TYPE_ARRAY', { key: '00000000', value: 'ffffffffffffffff' }, '[0]=18446744073709551615'],
    ['BPF_MAP_TYPE_ARRAY', { key: '00000000', value: '0100', text: '{ .a = 1 }' }, '[0]={ .a = 1 }'],
  ])('%s %o is %s', (type, entry, expected) => {
    expect(formatMapEntry(map(type), entry)).toBe(expected);
  });
});
