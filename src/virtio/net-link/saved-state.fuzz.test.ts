import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  featureSet,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../index.js';
import { NetLink, type NetLinkState } from './net-link.js';

const MUTANTS = 3000;

const FEATURES: Readonly<Record<string, bigint>> = {
  'no optional features': featureSet(VIRTIO_F_VERSION_1),
  'all of them, split': featureSet(
    VIRTIO_F_VERSION_1,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_NET_F_MRG_RXBUF,
  ),
  'packed queues': featureSet(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX),
};

/** Where something is in a tree of plain data. */
interface Place {
  readonly parent: Record<string, unknown>;
  readonly key: string;
}

function placesIn(root: object): Place[] {
  return Object.keys(root).flatMap((key): Place[] => {
    const parent = root as Record<string, unknown>;
    const value = parent[key];
    const within = typeof value === 'object' && value !== null ? placesIn(value) : [];
    return [{ parent, key }, ...within];
  });
}

const NONSENSE = [null, undefined, 'x', '5', -1, 0.5, NaN, Infinity, {}, [], [[1]], true, 2 ** 53, 1e308];

/** What is put in the place of something, given everything there is. */
const replacement = fc.oneof(
  fc.constantFrom<unknown>(...NONSENSE).map((value) => () => value),
  fc.nat(9).map((value) => () => value),
  fc
    .constantFrom(1, -1, 64, 2048, -64)
    .map((by) => (old: unknown) => (typeof old === 'number' ? old + by : by)),
  // One item less, or one twice.
  fc.tuple(fc.nat(), fc.boolean()).map(([at, twice]) => (old: unknown) => {
    if (!Array.isArray(old) || old.length === 0) return old;
    const index = at % old.length;
    const item: unknown = old[index];
    return (old as unknown[]).toSpliced(index, 1, ...(twice ? [item, item] : []));
  }),
  // Something else of the same state.
  fc.nat().map((at) => (_old: unknown, all: readonly Place[]) => {
    const { parent, key } = all[at % all.length]!;
    return structuredClone(parent[key]);
  }),
);
const mutation = fc.array(fc.tuple(fc.nat(), replacement), { minLength: 1, maxLength: 2 });

/** A few rounds of everything that either end does. */
function use(link: NetLink<number>): void {
  for (let round = 0; round < 12; round++) {
    link.driver.kick(0);
    link.driver.receive(0, 64);
    link.device.poll(0, 64);
    link.driver.refill(0);
    link.device.deliver(0, new Uint8Array(90), round);
    link.device.notify(0);
    link.driver.send(0, new Uint8Array(91), round);
  }
  link.save();
  link.reset();
  link.driver.refill(0);
  link.close();
}

describe('saved state that has come from anywhere', () => {
  for (const [what, features] of Object.entries(FEATURES)) {
    it(`is refused, or the link that goes on from it throws nothing: ${what}`, () => {
      const options = { label: 'g', features, queuePairs: 1, queueSize: 8 };
      const link = new NetLink<number>(options);
      for (let round = 0; round < 5; round++) {
        link.driver.refill(0);
        link.device.deliver(0, new Uint8Array(60), round);
        link.driver.receive(0, 8);
        link.driver.send(0, new Uint8Array(60), round);
        link.driver.kick(0);
        link.device.poll(0, 8);
      }
      link.driver.refill(0);
      link.device.deliver(0, new Uint8Array(60), 1);
      link.driver.send(0, new Uint8Array(60), 2);
      link.driver.kick(0);
      link.driver.send(0, new Uint8Array(60), 3);
      const memory = link.memory.read(link.memory.base, link.memory.size)!;
      const text = JSON.stringify(link.save());

      let refused = 0;
      fc.assert(
        fc.property(mutation, (changes) => {
          const state = JSON.parse(text) as NetLinkState<number>;
          for (const [at, replace] of changes) {
            const all = placesIn(state);
            const { parent, key } = all[at % all.length]!;
            parent[key] = replace(parent[key], all);
          }
          let restored: NetLink<number>;
          try {
            restored = new NetLink<number>(options, { state, memory });
          } catch (error) {
            expect(error).toMatchObject({ code: 'virtio-violation' });
            refused++;
            return;
          }
          use(restored);
        }),
        { numRuns: MUTANTS, seed: 20191126 },
      );
      expect(refused).toBeGreaterThan(MUTANTS / 2);
      expect(refused).toBeLessThan(MUTANTS);
    });
  }
});
