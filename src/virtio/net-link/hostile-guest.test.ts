import { describe, expect, it } from 'vitest';
import {
  encodeNetHeader,
  featureSet,
  PLAIN_NET_HEADER,
  splitLayoutAt,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  type GuestMemory,
} from '../index.js';
import { CONTROL_QUEUE_SIZE, ControlLink, type ControlHandler } from './control-link.js';
import { MAX_LINK_FRAME_BYTES, NetLink } from './net-link.js';

const BASE = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_F_INDIRECT_DESC);
const QUEUE_SIZE = 8;
const HOSTILE_FRAME = new Uint8Array(60);

interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
}

interface Place {
  readonly memory: GuestMemory;
  /** First byte of the queue. */
  readonly queue: number;
  readonly size: number;
}

interface Attack {
  readonly descriptors?: readonly Descriptor[];
  /** What is done to the ring after they were offered. */
  readonly then?: (place: Place) => void;
}

const W = VIRTQ_DESC_F_WRITE;
const N = VIRTQ_DESC_F_NEXT;

function write(memory: GuestMemory, at: number, { address, length }: Descriptor, ...words: number[]): void {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, BigInt(address)), true);
  view.setUint32(8, length, true);
  words.forEach((word, index) => view.setUint16(12 + 2 * index, word, true));
  memory.write(at, bytes);
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);

/** How a hostile driver writes the first buffer of a fresh queue, and what it can do with the queue as such. */
interface Format {
  readonly name: string;
  readonly features: bigint;
  readonly offer: (place: Place, descriptors: readonly Descriptor[]) => void;
  readonly attacks: Readonly<Record<string, (base: number) => Attack>>;
  /** Pretends that the device returned what it does not hold. */
  readonly forgeUsed: (place: Place) => void;
  /** Makes the buffer available that went through the queue as its first, without the driver. */
  readonly offerFirstAgain: (place: Place) => void;
}

const SPLIT: Format = {
  name: 'split',
  features: BASE,
  offer: ({ memory, queue, size }, descriptors) => {
    const { availRing } = splitLayoutAt(queue, size);
    descriptors.forEach((each, index) => {
      const next = index < descriptors.length - 1;
      write(memory, queue + 16 * index, each, (each.flags ?? 0) | (next ? N : 0), next ? index + 1 : 0);
    });
    memory.write(Number(availRing) + 4, u16(0));
    memory.write(Number(availRing) + 2, u16(1));
  },
  attacks: {
    'an avail idx that jumps': () => ({
      then: ({ memory, queue, size }) =>
        memory.write(Number(splitLayoutAt(queue, size).availRing) + 2, u16(999)),
    }),
    'a head out of range': (base) => ({
      descriptors: [{ address: base, length: 1 }],
      then: ({ memory, queue, size }) =>
        memory.write(Number(splitLayoutAt(queue, size).availRing) + 4, u16(4000)),
    }),
    'a loop': (base) => ({
      descriptors: [{ address: base, length: 1 }],
      then: ({ memory, queue }) => write(memory, queue, { address: base, length: 1 }, N, 0),
    }),
    'a next out of range': (base) => ({
      descriptors: [{ address: base, length: 1 }],
      then: ({ memory, queue }) => write(memory, queue, { address: base, length: 1 }, N, 4000),
    }),
  },
  forgeUsed: ({ memory, queue, size }) =>
    memory.write(Number(splitLayoutAt(queue, size).usedRing) + 2, u16(7)),
  offerFirstAgain: ({ memory, queue, size }) => {
    const { availRing } = splitLayoutAt(queue, size);
    memory.write(Number(availRing) + 4 + 2, u16(0));
    memory.write(Number(availRing) + 2, u16(2));
  },
};

const PACKED: Format = {
  name: 'packed',
  features: BASE | featureSet(VIRTIO_F_RING_PACKED),
  offer: ({ memory, queue }, descriptors) => {
    descriptors.forEach((each, index) => {
      const next = index < descriptors.length - 1;
      write(memory, queue + 16 * index, each, 0, (each.flags ?? 0) | (next ? N : 0) | VIRTQ_DESC_F_AVAIL);
    });
  },
  attacks: {
    'a buffer ID out of range': (base) => ({
      descriptors: [{ address: base, length: 1 }],
      then: ({ memory, queue }) => memory.write(queue + 12, u16(4000)),
    }),
    'a list without end': (base) => ({
      then: ({ memory, queue, size }) => {
        for (let slot = 0; slot < size; slot++) {
          write(memory, queue + 16 * slot, { address: base, length: 1 }, 0, N | VIRTQ_DESC_F_AVAIL);
        }
      },
    }),
    'a list whose end is not available': (base) => ({
      descriptors: [{ address: base, length: 1, flags: N }],
    }),
  },
  forgeUsed: ({ memory, queue }) => memory.write(queue + 14, u16(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)),
  offerFirstAgain: ({ memory, queue }) => {
    memory.write(queue + 16, memory.read(queue, 14)!);
    memory.write(queue + 16 + 8, Uint8Array.of(VIRTIO_NET_HDR_BYTES + HOSTILE_FRAME.length, 0, 0, 0));
    memory.write(queue + 16 + 14, u16(VIRTQ_DESC_F_AVAIL));
  },
};

/** What is wrong with the descriptors, which is the same in both formats. */
const ATTACKS: Readonly<Record<string, (base: number) => Attack>> = {
  'a descriptor without bytes': (base) => ({ descriptors: [{ address: base, length: 0 }] }),
  'readable after writable': (base) => ({
    descriptors: [
      { address: base, length: 8, flags: W },
      { address: base, length: 8 },
    ],
  }),
  'an address outside memory': () => ({ descriptors: [{ address: 0, length: 8 }] }),
  'an address that wraps': () => ({ descriptors: [{ address: 0xffff_ffff_ffff_fff0n, length: 0x20 }] }),
  'a length that overflows': (base) => ({ descriptors: [{ address: base, length: 0xffff_ffff }] }),
  'an indirect table outside memory': () => ({
    descriptors: [{ address: 0, length: 16, flags: VIRTQ_DESC_F_INDIRECT }],
  }),
  'an indirect table of half a descriptor': (base) => ({
    descriptors: [{ address: base, length: 8, flags: VIRTQ_DESC_F_INDIRECT }],
  }),
};

describe.each([SPLIT, PACKED])('over $name queues', (format) => {
  const FEATURES = format.features;
  const { offer } = format;

  function openNet(features = FEATURES): { link: NetLink; broken: string[] } {
    const broken: string[] = [];
    const link = new NetLink({ label: 'guest0.eth0', queuePairs: 1, queueSize: QUEUE_SIZE, features });
    link.status.onBroken((reason) => void broken.push(reason));
    return { link, broken };
  }

  function openControl(
    features = FEATURES,
    handler: ControlHandler = (_request, room) => new Uint8Array(room),
  ): { link: ControlLink; broken: string[] } {
    const broken: string[] = [];
    const link = new ControlLink({ label: 'guest0.eth0', features });
    link.status.onBroken((reason) => void broken.push(reason));
    link.serve(handler);
    return { link, broken };
  }

  function launch(place: Place, { descriptors, then }: Attack): void {
    if (descriptors !== undefined) offer(place, descriptors);
    then?.(place);
  }

  const transmitQueue = (link: NetLink): Place => ({
    memory: link.memory,
    queue: link.layout.transmit[0]!,
    size: QUEUE_SIZE,
  });
  const receiveQueue = (link: NetLink): Place => ({
    memory: link.memory,
    queue: link.layout.receive[0]!,
    size: QUEUE_SIZE,
  });
  const controlQueue = (link: ControlLink): Place => ({
    memory: link.memory,
    queue: link.layout.queue,
    size: CONTROL_QUEUE_SIZE,
  });

  describe('hostile descriptor chains end in a broken link, not in a throw or a hang', () => {
    for (const [what, attack] of Object.entries({ ...format.attacks, ...ATTACKS })) {
      it.each(['transmit', 'receive'] as const)(`${what}, on the %s queue`, (queue) => {
        const { link, broken } = openNet();
        const place = queue === 'transmit' ? transmitQueue(link) : receiveQueue(link);
        launch(place, attack(link.layout.buffers));
        if (queue === 'transmit') link.device.poll(0, 8);
        else link.device.deliver(0, HOSTILE_FRAME, undefined);
        expect(broken).toHaveLength(1);
        expect(link.status.brokenReason).toBe(broken[0]);
        expect(link.status.violations).toBe(1);
        // The link is down for everything, and says so once.
        expect(link.device.poll(0, 8)).toEqual([]);
        expect(link.device.deliver(0, HOSTILE_FRAME, undefined)).toBe(false);
        expect(link.device.notify(0)).toBe(false);
        expect(link.driver.send(0, HOSTILE_FRAME, undefined)).toBe(false);
        expect(link.driver.receive(0, 8)).toEqual([]);
        expect(broken).toHaveLength(1);
        link.reset();
        expect(link.status.brokenReason).toBeUndefined();
        link.driver.refill(0);
        expect(link.device.deliver(0, HOSTILE_FRAME, undefined)).toBe(true);
        expect(link.driver.receive(0, 8)).toHaveLength(1);
      });

      it(`${what}, on the control queue`, async () => {
        const { link, broken } = openControl();
        launch(controlQueue(link), attack(link.layout.buffers));
        link.kicked();
        expect(broken).toHaveLength(1);
        expect(link.status.violations).toBe(1);
        await expect(link.send([Uint8Array.of(0, 0)], 1)).rejects.toThrow('the link is broken');
        expect(broken).toHaveLength(1);
        link.reset();
        expect(await link.send([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
      });
    }

    it('INDIRECT that was not negotiated', () => {
      const { link, broken } = openControl(FEATURES & ~featureSet(VIRTIO_F_INDIRECT_DESC));
      const { buffers } = link.layout;
      offer(controlQueue(link), [{ address: buffers, length: 16, flags: VIRTQ_DESC_F_INDIRECT }]);
      link.kicked();
      expect(broken[0]).toContain('not negotiated');
    });

    it('a command without room for an ack is carried out and answered by nothing', () => {
      let asked = 0;
      const { link, broken } = openControl(FEATURES, (_request, room) => {
        asked++;
        return new Uint8Array(room);
      });
      offer(controlQueue(link), [{ address: link.layout.buffers, length: 2 }]);
      link.kicked();
      expect([asked, broken]).toEqual([1, []]);
    });

    it('what the guest changes after a kick does not reach the device', async () => {
      let seen: Uint8Array | undefined;
      const { link } = openControl(FEATURES, async (request) => {
        link.memory.fill(link.layout.buffers, 4096, 0xee);
        await Promise.resolve();
        seen = request;
        return Uint8Array.of(0);
      });
      await link.send([Uint8Array.of(1, 2, 3)], 1);
      expect(seen).toEqual(Uint8Array.of(1, 2, 3));
    });

    it('a frame to send that the device could write to', () => {
      const { link, broken } = openNet();
      const { buffers } = link.layout;
      offer(transmitQueue(link), [
        { address: buffers, length: VIRTIO_NET_HDR_BYTES + 60 },
        { address: buffers + 4096, length: 8, flags: W },
      ]);
      expect(link.device.poll(0, 8)).toEqual([]);
      expect(broken).toHaveLength(1);
    });

    it('a forged used buffer breaks the link from the driver’s side', () => {
      const { link, broken } = openNet();
      format.forgeUsed(transmitQueue(link));
      expect(link.driver.send(0, HOSTILE_FRAME, undefined)).toBe(false);
      expect(broken[0]).toMatch(/^driver: /);
    });

    it('a frame that the guest puts into the ring by itself has no tag, also where one had before', () => {
      const link = new NetLink<string>({
        label: 'g',
        queuePairs: 1,
        queueSize: QUEUE_SIZE,
        features: FEATURES,
      });
      expect(link.driver.send(0, HOSTILE_FRAME, 'honest')).toBe(true);
      link.driver.kick(0);
      expect(link.device.poll(0, 8).map(({ tag }) => tag)).toEqual(['honest']);
      format.offerFirstAgain({ memory: link.memory, queue: link.layout.transmit[0]!, size: QUEUE_SIZE });
      expect(link.device.poll(0, 8)).toEqual([{ bytes: HOSTILE_FRAME, tag: undefined }]);
    });
  });

  describe('net headers', () => {
    const transmit = (bytes: Uint8Array): { broken: string[]; frames: Uint8Array[] } => {
      const { link, broken } = openNet();
      link.memory.write(link.layout.buffers, bytes);
      offer(transmitQueue(link), [{ address: link.layout.buffers, length: bytes.length }]);
      return { broken, frames: link.device.poll(0, 8).map(({ bytes: frame }) => frame) };
    };
    const frame = (header: Uint8Array, length: number): Uint8Array =>
      Uint8Array.from([...header, ...new Uint8Array(length)]);

    it('takes a frame with a plain header', () => {
      const { broken, frames } = transmit(frame(encodeNetHeader(PLAIN_NET_HEADER), 60));
      expect(broken).toEqual([]);
      expect(frames).toEqual([new Uint8Array(60)]);
    });

    for (const [what, bytes] of [
      ['less than a header', new Uint8Array(VIRTIO_NET_HDR_BYTES - 1)],
      ['a header without a frame', encodeNetHeader(PLAIN_NET_HEADER)],
      ['a frame that is too long', frame(encodeNetHeader(PLAIN_NET_HEADER), MAX_LINK_FRAME_BYTES + 1)],
      [
        'a checksum outside the frame',
        frame(encodeNetHeader({ ...PLAIN_NET_HEADER, flags: 1, csumStart: 59 }), 60),
      ],
      ['an unknown gso_type', frame(encodeNetHeader({ ...PLAIN_NET_HEADER, gsoType: 77 }), 60)],
      [
        'an offload that is not carried',
        frame(
          encodeNetHeader({ ...PLAIN_NET_HEADER, flags: VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: 14 }),
          60,
        ),
      ],
    ] as const) {
      it(`refuses ${what}`, () => {
        const { broken, frames } = transmit(bytes);
        expect(broken).toHaveLength(1);
        expect(frames).toEqual([]);
      });
    }
  });
});
