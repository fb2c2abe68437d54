import { describe, expect, it } from 'vitest';
import { INVARIANTS, type Attack, type HostileGuest } from '../../core/contract/attack.js';
import { XdpbedError } from '../../core/diagnostic.js';
import { ControlLink, splitLayoutAt, VIRTIO_NET_ERR } from '../../virtio/index.js';
import { RIG_FEATURES } from '../offload/offload-rig.js';
import { SeededRandom } from '../verifier/seeded-random.js';

/**
 * What every attack must do, as tests: it says what it goes for, and comes to its end whatever the device answers. An attack
 * that hangs, or that throws something that is no XdpbedError, would end the run and tell of no device.
 */
export function attackConformance(name: string, make: () => Attack | Promise<Attack>): void {
  describe(`attack ${name} conforms`, () => {
    it('says what it goes for, once each', async () => {
      const { attack, aims } = await make();
      expect(attack).not.toBe('');
      expect(aims.length).toBeGreaterThan(0);
      expect(aims.filter((aim) => !Object.hasOwn(INVARIANTS, aim))).toEqual([]);
      expect(new Set(aims).size).toBe(aims.length);
    });

    it.each([
      ['refuses everything', (room: number) => Uint8Array.from({ length: room }, () => VIRTIO_NET_ERR)],
      ['acknowledges everything, and says nothing', (room: number) => new Uint8Array(room)],
      ['writes nothing at all', () => new Uint8Array()],
      ['answers at random', (room: number, random: SeededRandom) => random.bytes(room)],
      ['answers later', (room: number) => Promise.resolve(new Uint8Array(room))],
    ])('ends when the device %s', async (_, answer) => {
      const random = new SeededRandom(1);
      const link = new ControlLink({ label: 'mallory.eth0', features: RIG_FEATURES, now: () => 0 });
      link.serve((_request, room) => answer(room, random));
      const guest = hostileGuest(link, random);
      await (await make()).run(guest).catch((error: unknown) => {
        // It may say that nothing it does shows anything here.
        expect(error).toBeInstanceOf(XdpbedError);
      });
      link.close();
    });

    it('ends when the device is gone', async () => {
      const link = new ControlLink({ label: 'mallory.eth0', features: RIG_FEATURES, now: () => 0 });
      link.close();
      await (await make()).run(hostileGuest(link, new SeededRandom(1))).catch((error: unknown) => {
        expect(error).toBeInstanceOf(XdpbedError);
      });
    });
  });
}

/** A guest on a control queue of its own, with a neighbour that nothing happens to. */
function hostileGuest(link: ControlLink, random: SeededRandom): HostileGuest {
  const size = 64;
  const { descriptorTable, availRing, usedRing } = splitLayoutAt(link.layout.queue, size);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    node: 'mallory.eth0',
    queuePairs: 1,
    control: { send: (parts, room) => link.send(parts, room) },
    ring: {
      memory: link.memory,
      layout: {
        size,
        descriptorTable: Number(descriptorTable),
        availRing: Number(availRing),
        usedRing: Number(usedRing),
      },
      buffers: link.layout.buffers,
      kick: () => link.kicked(),
      get isDown() {
        return link.status.isDown;
      },
    },
    random: () => random.u32(),
    neighbour: {
      ask: turn,
      askInTime: async (_alone, _duration, onTurn) => {
        for (let n = 0; n < 100; n++) {
          await turn();
          onTurn?.();
        }
      },
    },
    reset: async () => link.reset(),
    offload: async () => 'refused',
    turn,
    saw: (invariant) => expect(Object.hasOwn(INVARIANTS, invariant)).toBe(true),
    did: () => {},
  };
}
