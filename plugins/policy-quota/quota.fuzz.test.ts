import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { entryBytes } from '../../src/conformance/offload/counted-party.js';
import { OffloadRig } from '../../src/conformance/offload/offload-rig.js';
import { SeededRandom } from '../../src/conformance/verifier/index.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import type { Party } from '../../src/core/contract/party.js';
import type { HostUsage } from '../../src/core/contract/policy.js';
import type { CreateMap } from '../../src/core/offload/protocol/control-protocol.js';
import { NO_USAGE, QuotaAccounts } from '../../src/core/offload/quota-accounts.js';
import { MemoryMapBackend, SUPPORTED_MAP_TYPES } from '../map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../verifier-structural/structural-verifier.js';
import { Quota, QuotaConfig } from './quota.js';

const ROUNDS = 25;
const STEPS = 250;
const GUESTS = ['alice', 'bob', 'carol'];
const MIB = 2 ** 20;
const T = BPF_MAP_TYPE;
/** Those that a guest can ask for: the protocol has no field for a map of maps' inner map. */
const MAP_TYPES = SUPPORTED_MAP_TYPES.filter(
  (type) => type !== T.BPF_MAP_TYPE_ARRAY_OF_MAPS && type !== T.BPF_MAP_TYPE_HASH_OF_MAPS,
);

/** So little that it is nearly always used up. */
const LIMITS = {
  'per-guest': { maps: 4, 'map-memory': MIB / 2, entries: 4096, programs: 2, insns: 9 },
  total: { maps: 8, 'map-memory': MIB, entries: 7000, programs: 4, insns: 16 },
  'insns-per-program': 6,
};
const CONFIG = Value.Parse(QuotaConfig, Value.Default(QuotaConfig, LIMITS));

const RULES = [
  ...['maps', 'map-memory', 'entries', 'insns'].map((limit) => `per-guest.${limit}`),
  // RFC 2019's commands, which are what is sent here, carry no BTF.
  ...Object.keys(LIMITS.total)
    .filter((limit) => limit !== 'btf-memory')
    .map((limit) => `total.${limit}`),
  'insns-per-program',
];

type Limits = (typeof LIMITS)['total'];

const ENV = { cpus: 1, countWork: undefined };

/** One guest's device, whose verifier and executor take their time and fail at random. */
function device(name: string, quota: Quota, accounts: QuotaAccounts, whenever: () => Promise<void>) {
  const runtime = new BpfRuntime({ memoryBytes: 4 * MIB });
  const before = runtime.space.bytesInUse;
  const verifier = new StructuralVerifier();
  let [ids, programs, insns] = [0, 0, 0];
  const host: Party = {
    ...ENV,
    name: `host of ${name}`,
    mapBackend: new MemoryMapBackend(runtime),
    verifier: {
      name: 'whenever',
      verify: async (request) => {
        await whenever();
        return verifier.verify(request);
      },
    },
    executor: {
      name: 'whenever',
      load: async (program) => {
        await whenever();
        programs++;
        insns += program.insns.length;
        // Takes none of the memory that maps are in, so that what is taken there is the maps'.
        const loaded: Partial<LoadedProgram> = {
          id: ++ids,
          name: program.name,
          close: () => {
            programs--;
            insns -= program.insns.length;
          },
        };
        return loaded as LoadedProgram;
      },
    },
  };
  const limits = { mapTypes: MAP_TYPES };
  const rig = new OffloadRig({ host, guest: host, name, policies: [quota], accounts, device: { limits } });
  rig.place.onAttach = whenever;
  rig.place.onReplace = whenever;
  return {
    name,
    rig,
    /** What is really there, by who makes it and not by who counts it. */
    held: () => {
      // Beside the maps' own memory, what the device keeps of elements that are objects: it has no other trace.
      const elements = [...runtime.maps.values()].reduce(
        (sum, { attributes }) => sum + entryBytes(attributes),
        0,
      );
      const mapMemory = runtime.space.bytesInUse - before + elements;
      return { mapMemory, maps: runtime.maps.size, programs, insns };
    },
  };
}

function randomMap(random: SeededRandom): CreateMap {
  const hostile = (): number => random.pick([0, 1, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, random.u32()]);
  const odd = random.chance(10);
  const mapType = random.pick(MAP_TYPES);
  if (mapType === T.BPF_MAP_TYPE_RINGBUF && !odd) {
    return { kind: 'create-map', mapType, keySize: 0, valueSize: 0, maxEntries: 4096, mapFlags: 0 };
  }
  return {
    kind: 'create-map',
    mapType,
    keySize: odd ? hostile() : random.pick([0, 4, 4, 8, 1 + random.below(64)]),
    valueSize: odd ? hostile() : random.pick([0, 4, 8, 1 + random.below(500)]),
    maxEntries: random.chance(10)
      ? hostile()
      : random.pick([1 << random.below(13), 1 + random.below(40), 1 + random.below(3000)]),
    mapFlags: random.pick([0, 0, 0, 1, random.u32() & 0xfff]),
  };
}

function expectWithin(usage: HostUsage, limits: Limits, whose: string): void {
  expect(usage.maps, whose).toBeLessThanOrEqual(limits.maps);
  expect(usage.mapMemory, whose).toBeLessThanOrEqual(limits['map-memory']);
  expect(usage.entries, whose).toBeLessThanOrEqual(limits.entries);
  expect(usage.programs, whose).toBeLessThanOrEqual(limits.programs);
  expect(usage.insns, whose).toBeLessThanOrEqual(limits.insns);
}

describe('quota, with the requests of several guests under way at the same time', () => {
  it('is never exceeded, in what is held or in what is counted, and is used up', async () => {
    const seen = { loaded: 0, created: new Set<number>(), denied: new Map<string, number>() };
    for (let round = 0; round < ROUNDS; round++) {
      const random = new SeededRandom(round);
      const accounts = new QuotaAccounts();
      const quota = new Quota(CONFIG);
      let behaves = false;
      const waiting: (() => void)[] = [];
      const whenever = async (): Promise<void> => {
        if (behaves) return;
        if (random.chance(60)) await new Promise<void>((resolve) => waiting.push(resolve));
        if (!behaves && random.chance(5)) throw new Error('out of order');
      };
      const devices = GUESTS.map((name) => ({
        ...device(name, quota, accounts, whenever),
        handles: [1],
        sent: [] as Promise<void>[],
      }));
      for (let step = 0; step < STEPS; step++) {
        const { rig, handles, sent } = random.pick(devices);
        const what = random.below(100);
        if (what < 40) {
          const map = randomMap(random);
          sent.push(
            rig.send(map).then((reply) => {
              if (reply.kind !== 'handle') return;
              handles.push(reply.handle);
              seen.created.add(map.mapType);
            }),
          );
        } else if (what < 60) {
          const maps = new Map([['m', random.pick(handles)]]);
          const text = `${random.chance(50) ? 'r1 = map[m]\n' : ''}${'r0 = 2\n'.repeat(1 + random.below(6))}exit`;
          const insns = encodeInsns(assemble(text, { maps }));
          sent.push(
            rig.send({ kind: 'set-offload', insns, gplCompatible: true }).then((reply) => {
              if (reply.kind === 'done') seen.loaded++;
            }),
          );
        } else if (what < 65) {
          const index = random.below(handles.length);
          const [handle] = handles.length > 1 ? handles.splice(index, 1) : handles;
          sent.push(rig.send({ kind: 'free-map', handle: handle! }).then(() => undefined));
        } else if (what < 66) {
          void rig.device.reset();
        } else if (what < 68) {
          sent.push(rig.send({ kind: 'unset-offload' }).then(() => undefined));
        } else {
          waiting.splice(random.below(waiting.length || 1), 1)[0]?.();
          await new Promise((resolve) => setImmediate(resolve));
        }
        const total = { ...NO_USAGE };
        for (const { name, held } of devices) {
          const usage = accounts.usageOf(name);
          expectWithin(usage, LIMITS['per-guest'], name);
          const real = held();
          // Exact at every moment: a map is charged in the instant in which it is made.
          expect({ maps: usage.maps, mapMemory: usage.mapMemory }).toEqual({
            maps: real.maps,
            mapMemory: real.mapMemory,
          });
          // Charged from before the verifier is asked, so never less than there is.
          expect(usage.programs).toBeGreaterThanOrEqual(real.programs);
          expect(usage.insns).toBeGreaterThanOrEqual(real.insns);
          for (const key of Object.keys(total) as (keyof HostUsage)[]) total[key] += usage[key];
        }
        expect(accounts.totalUsage()).toEqual(total);
        expectWithin(total, LIMITS.total, 'all guests');
      }
      behaves = true;
      for (const go of waiting.splice(0)) go();
      for (const { rig, sent, held, name } of devices) {
        await Promise.all(sent);
        await rig.device.idle();
        const { maps, mapMemory, programs, insns } = accounts.usageOf(name);
        expect({ maps, mapMemory, programs, insns }).toEqual(held());
        for (const { breaches = [] } of rig.records.rulings) {
          for (const { rule } of breaches) seen.denied.set(rule, (seen.denied.get(rule) ?? 0) + 1);
        }
        await rig.device.unplug();
        await rig.device.idle();
        expect(held()).toEqual({ maps: 0, mapMemory: 0, programs: 0, insns: 0 });
      }
      expect(accounts.totalUsage()).toEqual(NO_USAGE);
    }
    expect(seen.loaded).toBeGreaterThan(5 * ROUNDS);
    // Each limit was reached; of one guest's programs there are at most two at once, which is its limit.
    for (const rule of RULES) expect(seen.denied.get(rule) ?? 0, rule).toBeGreaterThan(0);
    expect([...seen.created].sort((a, b) => a - b)).toEqual([...MAP_TYPES].sort((a, b) => a - b));
  });
});
