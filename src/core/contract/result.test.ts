import { describe, expect, it } from 'vitest';
import {
  emptyVerdictCounts,
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
    const record = {
      request: 1,
      time: 0,
      guest: 'guest0',
      nic: 'eth0',
      operation: 'map-create',
      policy: 'quota',
      reason: 'because',
    };
    const rulings: RulingRecord[] = [
      { ...record, ruling: 'allow', count: 3 },
      { ...record, ruling: 'deny', count: 2 },
      { ...record, ruling: 'allow', count: 1 },
      { ...record, ruling: 'deny', dryRun: true, count: 5 },
      { ...record, ruling: 'allow', dryRun: true, count: 7 },
    ];
    expect(sumRulings({ ...RUN, rulings })).toEqual({ allow: 11, deny: 2, wouldDeny: 5 });
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
