import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE, type MapAttributes } from '../../bpf/map-spec.js';
import type { HostUsage, Policy, PolicyRequest } from '../../core/contract/policy.js';

const NOTHING: HostUsage = { maps: 0, mapMemory: 0, entries: 0, programs: 0, insns: 0, btfMemory: 0 };
const EVERYTHING: HostUsage = {
  maps: Number.MAX_SAFE_INTEGER,
  mapMemory: Number.MAX_SAFE_INTEGER,
  entries: Number.MAX_SAFE_INTEGER,
  programs: Number.MAX_SAFE_INTEGER,
  insns: Number.MAX_SAFE_INTEGER,
  btfMemory: Number.MAX_SAFE_INTEGER,
};
const SMALL_MAP: MapAttributes = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
  flags: 0,
};
/** As a guest may send them: each field a u32, none of them checked. */
const HOSTILE_MAP: MapAttributes = {
  type: 0xffff_ffff,
  keySize: 0xffff_ffff,
  valueSize: 0xffff_ffff,
  maxEntries: 0xffff_ffff,
  flags: 0xffff_ffff,
};

/**
 * One request of each operation, modest and hostile, by guests that hold nothing and that hold everything. For
 * tests of policies, too.
 */
export function policyRequests(): PolicyRequest[] {
  const requests: PolicyRequest[] = [];
  for (const [usage, totalUsage] of [
    [NOTHING, NOTHING],
    [EVERYTHING, EVERYTHING],
    [NOTHING, EVERYTHING],
  ] as const) {
    const common = { id: requests.length + 1, time: 0, guest: 'guest0', nic: 'eth0', usage, totalUsage };
    for (const map of [SMALL_MAP, HOSTILE_MAP]) {
      for (const memoryBytes of [64, Number.MAX_VALUE, Infinity, NaN]) {
        requests.push({ ...common, operation: 'map-create', map, memoryBytes });
      }
      for (const operation of [
        'map-lookup',
        'map-update',
        'map-delete',
        'map-next-key',
        'map-free',
        'map-freeze',
        'map-read-records',
      ] as const) {
        requests.push({ ...common, operation, map }, { ...common, operation, map, elements: 0xffff_ffff });
      }
    }
    requests.push(
      { ...common, operation: 'btf-load', bytes: 64 },
      { ...common, operation: 'btf-load', bytes: Number.MAX_VALUE },
      { ...common, operation: 'object-pin', object: 'map', name: 'flows' },
      { ...common, operation: 'object-open', object: 'link' },
      { ...common, operation: 'migrate-out', usageOfMove: usage, attached: usage.programs > 0 },
      { ...common, operation: 'migrate-in', usageOfMove: usage, attached: usage.programs > 0 },
    );
    for (const helpers of [[], [1], [-1, 0, 25, 99_999, 0x7fff_ffff]]) {
      const program = {
        insnCount: helpers.length + 2,
        helpers,
        mapTypes: [2, 0xffff_ffff],
        gplCompatible: false,
      };
      const properties = {
        helpers,
        mapTypes: [2],
        writesPacket: true,
        verdicts: ['XDP_PASS'],
        worstCaseInsns: Infinity,
        stackBytes: 512,
      };
      requests.push(
        { ...common, operation: 'program-load', program },
        { ...common, operation: 'program-attach', program, properties },
        { ...common, operation: 'program-attach', program, properties: undefined },
      );
    }
  }
  return requests;
}

/**
 * What every policy must do, as tests: rule on each operation, with a reason, whatever the numbers are; never
 * throw; and leave what it was shown as it was.
 */
export function policyConformance(name: string, make: () => Policy): void {
  describe(`policy ${name} conforms`, () => {
    it('rules on every request, with a reason that fits on a line', () => {
      const policy = make();
      expect(policy.name).not.toBe('');
      for (const request of policyRequests()) {
        const { ruling, reason } = policy.rule(request);
        expect(['allow', 'deny']).toContain(ruling);
        expect(reason).toMatch(/^\S[^\n]*$/);
      }
    });

    it('rules on every command that comes, if it rules on commands, and bears to be told of costs', () => {
      const policy = make();
      for (const time of [0, 1, 1e12, Number.MAX_SAFE_INTEGER, 0]) {
        for (const guest of ['guest0', 'constructor', '__proto__', '']) {
          const common = { guest, nic: 'eth0', time };
          const ruling = policy.admit?.(deepFreeze({ ...common, id: 1, bytes: 0xffff_ffff }));
          if (ruling !== undefined) {
            expect(['allow', 'deny']).toContain(ruling.ruling);
            expect(ruling.reason).toMatch(/^\S[^\n]*$/);
          }
          policy.observe?.(deepFreeze({ ...common, kind: 'verification', milliseconds: 12.5 }));
          policy.observe?.(deepFreeze({ ...common, kind: 'insns', since: 0, insns: 2 ** 53 }));
        }
      }
      for (const request of policyRequests())
        expect(['allow', 'deny']).toContain(policy.rule(request).ruling);
    });

    it('tells a guest that it denies the same, whatever the others hold', () => {
      const others = [0, 1, 1000, 2 ** 40, Number.MAX_SAFE_INTEGER];
      for (const request of policyRequests()) {
        const told = new Set<string | undefined>();
        for (const more of others) {
          const totalUsage = plus(request.usage, more);
          const ruling = make().rule({ ...request, totalUsage });
          if (ruling.ruling === 'deny') told.add(`${ruling.errno} ${ruling.toGuest}`);
        }
        expect([...told].slice(1)).toEqual([]);
      }
    });

    it('grants a guest the same, whatever the others have asked for', () => {
      const asked = make();
      const before = asked.grants?.('guest0');
      for (const request of policyRequests()) asked.rule({ ...request, guest: 'guest1' });
      expect(asked.grants?.('guest0')).toEqual(before);
    });

    it('does not change the request', () => {
      const policy = make();
      for (const request of policyRequests()) {
        const before = structuredClone(request);
        policy.rule(deepFreeze(request));
        expect(request).toEqual(before);
      }
    });

    it('is made anew for each testbed: two instances rule alike on the same requests', () => {
      const rulings = (policy: Policy): string[] =>
        policyRequests().map((request) => JSON.stringify(policy.rule(request)));
      expect(rulings(make())).toEqual(rulings(make()));
    });
  });
}

function plus(usage: HostUsage, more: number): HostUsage {
  const { maps, mapMemory, entries, programs, insns, btfMemory } = usage;
  return {
    maps: maps + more,
    mapMemory: mapMemory + more,
    entries: entries + more,
    programs: programs + more,
    insns: insns + more,
    btfMemory: btfMemory + more,
  };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
