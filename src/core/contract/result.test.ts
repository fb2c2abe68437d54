import { describe, expect, it } from 'vitest';
import {
  emptyVerdictCounts,
  formatMapEntry,
  isGuestHook,
  sumControl,
  sumFates,
  sumRulings,
  sumVerdicts,
  type HookResult,
  type RulingRecord,
  type RunResult,
} from './result.js';

const RUN: RunResult = {
  id: 'default',
  axes: {},
  fabric: 'model',
  framesSent: 6,
  framesCopied: 0,
  attachments: [],
  hooks: [],
  ends: [],
  maps: [],
  control: [],
  links: [],
  rulings: [],
  audit: [],
};

const hook = (site: HookResult['site']): HookResult => ({
  site,
  node: 'guest0.eth0',
  program: 'xdp1',
  frames: 3,
  verdicts: { ...emptyVerdictCounts(), XDP_DROP: 2, XDP_TX: 1 },
});

describe('sums over a run', () => {
  it('adds up verdicts without touching them', () => {
    const given = hook('offload');
    expect(sumVerdicts([given, given])).toEqual({ ...emptyVerdictCounts(), XDP_DROP: 4, XDP_TX: 2 });
    expect(sumVerdicts([])).toEqual(emptyVerdictCounts());
    expect(given).toEqual(hook('offload'));
  });

  it('adds up fates over places', () => {
    const fates = sumFates({
      ...RUN,
      ends: [
        { place: 'a', fate: 'ring-full', frames: 2 },
        { place: 'b', fate: 'ring-full', frames: 3 },
        { place: 'b', fate: 'transmitted', frames: 1 },
      ],
    });
    expect(fates).toMatchObject({ 'ring-full': 5, transmitted: 1, 'guest-stack': 0 });
  });

  it('counts a ruling as often as it was given', () => {
    const record = { guest: 'guest0', operation: 'map-create', policy: 'quota', reason: 'because' };
    const rulings: RulingRecord[] = [
      { ...record, ruling: 'allow', count: 3 },
      { ...record, ruling: 'deny', count: 2 },
      { ...record, ruling: 'allow', count: 1 },
    ];
    expect(sumRulings({ ...RUN, rulings })).toEqual({ allow: 4, deny: 2 });
  });

  it('adds up commands and acks', () => {
    const commands = { 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_PROG/SET_OFFLOAD': 2 };
    const control = { guest: 'guest0', nic: 'eth0', commands, acks: { ok: 2, err: 1 } };
    expect(sumControl([control, { ...control, guest: 'guest1' }])).toEqual({ commands: 6, ok: 4, err: 2 });
  });

  it('tells the hooks of guests’ programs from the host’s', () => {
    const sites = ['host-nic', 'offload', 'tap-rx', 'guest-driver'] as const;
    expect(sites.filter((site) => isGuestHook(hook(site)))).toEqual(['offload', 'guest-driver']);
  });
});

describe('formatMapEntry', () => {
  const map = (type: string) =>
    ({ guest: 'guest0', nic: 'eth0', name: 'rxcnt', type, readFrom: 'device', entries: [] }) as const;
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
    expect(formatMapEntry({ ...map(type), entries: [entry] }, entry)).toBe(expected);
  });
});
