import { describe, expect, it } from 'vitest';
import { transportConformance } from '../../src/conformance/transport/index.js';
import type { DeviceHandlers } from '../../src/core/contract/transport.js';
import {
  encodeNetHeader,
  featureSet,
  PLAIN_NET_HEADER,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  type SplitLayout,
} from '../../src/virtio/index.js';
import { MAX_LINK_FRAME_BYTES, type VirtqueueLink } from './virtqueue-link.js';
import { VirtqueueTransport } from './virtqueue-transport.js';

transportConformance('virtqueue', () => new VirtqueueTransport());

const FEATURES = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_F_INDIRECT_DESC);

async function open(
  features = FEATURES,
  device: Partial<DeviceHandlers> = {},
): Promise<{ link: VirtqueueLink; broken: string[]; frames: Uint8Array[] }> {
  const broken: string[] = [];
  const frames: Uint8Array[] = [];
  const link = await new VirtqueueTransport().open({
    label: 'guest0.eth0',
    queuePairs: 1,
    queueSize: 8,
    features,
    device: {
      control: (_readable, writableLength) => new Uint8Array(writableLength),
      transmit: (_queue, frame) => void frames.push(frame),
      broken: (reason) => void broken.push(reason),
      ...device,
    },
  });
  return { link, broken, frames };
}

interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** Writes descriptors and an avail ring as a hostile driver would: whatever it likes. */
function offer(
  link: VirtqueueLink,
  at: SplitLayout,
  descriptors: readonly Descriptor[],
  head = 0,
  idx = 1,
): void {
  descriptors.forEach((descriptor, index) => {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(descriptor.address)), true);
    view.setUint32(8, descriptor.length, true);
    view.setUint16(12, descriptor.flags ?? 0, true);
    view.setUint16(14, descriptor.next ?? 0, true);
    link.memory.write(Number(at.descriptorTable) + 16 * index, bytes);
  });
  link.memory.write(Number(at.availRing) + 4, Uint8Array.of(head & 0xff, head >> 8));
  link.memory.write(Number(at.availRing) + 2, Uint8Array.of(idx & 0xff, idx >> 8));
}

const W = VIRTQ_DESC_F_WRITE;
const N = VIRTQ_DESC_F_NEXT;

describe('hostile descriptor chains end in a broken link, not in a throw or a hang', () => {
  const attacks: Readonly<
    Record<
      string,
      (base: number) => Parameters<typeof offer> extends [unknown, unknown, ...infer R] ? R : never
    >
  > = {
    'an avail idx that jumps': () => [[], 0, 999],
    'a head out of range': () => [[], 4000, 1],
    'a loop': (base) => [[{ address: base, length: 1, flags: N, next: 0 }]],
    'a next out of range': (base) => [[{ address: base, length: 1, flags: N, next: 4000 }]],
    'a descriptor without bytes': (base) => [[{ address: base, length: 0 }]],
    'readable after writable': (base) => [
      [
        { address: base, length: 8, flags: W | N, next: 1 },
        { address: base, length: 8 },
      ],
    ],
    'an address outside memory': () => [[{ address: 0, length: 8 }]],
    'an address that wraps': () => [[{ address: 0xffff_ffff_ffff_fff0n, length: 0x20 }]],
    'a length that overflows': (base) => [[{ address: base, length: 0xffff_ffff }]],
    'an indirect table outside memory': () => [[{ address: 0, length: 16, flags: VIRTQ_DESC_F_INDIRECT }]],
    'an indirect table of half a descriptor': (base) => [
      [{ address: base, length: 8, flags: VIRTQ_DESC_F_INDIRECT }],
    ],
  };
  for (const [what, attack] of Object.entries(attacks)) {
    it(`${what}, on each queue`, async () => {
      const poke = {
        control: (link: VirtqueueLink) => link.serveControlQueue(),
        transmit: async (link: VirtqueueLink) => void link.device.poll(0, 8),
        receive: async (link: VirtqueueLink) => void link.device.deliver(0, new Uint8Array(60)),
      };
      for (const queue of ['control', 'transmit', 'receive'] as const) {
        const { link, broken } = await open();
        const at = queue === 'control' ? link.layout.control : link.layout[queue][0]!;
        offer(link, at, ...attack(link.layout.buffers));
        await poke[queue](link);
        expect(broken, queue).toHaveLength(1);
        expect(link.brokenReason).toBe(broken[0]);
        expect(link.statistics.violations).toBe(1);
        // The link is down for everything, and says so once.
        expect(link.device.poll(0, 8)).toBe(0);
        expect(link.device.deliver(0, new Uint8Array(60))).toBe(false);
        expect(link.device.notify(0)).toBe(false);
        expect(link.driver.send(0, new Uint8Array(60))).toBe(false);
        expect(link.driver.receive(0, 8)).toEqual([]);
        await expect(link.driver.control([Uint8Array.of(0, 0)], 1)).rejects.toThrow('the link is broken');
        expect(broken).toHaveLength(1);
        link.reset();
        expect(link.brokenReason).toBeUndefined();
        expect(await link.driver.control([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
      }
    });
  }

  it('INDIRECT that was not negotiated', async () => {
    const { link, broken } = await open(featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ));
    offer(link, link.layout.control, [
      { address: link.layout.buffers, length: 16, flags: VIRTQ_DESC_F_INDIRECT },
    ]);
    await link.serveControlQueue();
    expect(broken[0]).toContain('not negotiated');
  });

  it('a command without room for an ack is carried out and answered by nothing', async () => {
    let asked = 0;
    const { link, broken } = await open(FEATURES, {
      control: (_readable, writableLength) => {
        asked++;
        return new Uint8Array(writableLength);
      },
    });
    offer(link, link.layout.control, [{ address: link.layout.buffers, length: 2 }]);
    await link.serveControlQueue();
    expect([asked, broken]).toEqual([1, []]);
  });

  it('what the guest changes after a kick does not reach the device', async () => {
    let seen: Uint8Array | undefined;
    const { link } = await open(FEATURES, {
      control: async (readable) => {
        link.memory.fill(link.layout.buffers, 4096, 0xee);
        await Promise.resolve();
        seen = readable;
        return Uint8Array.of(0);
      },
    });
    await link.driver.control([Uint8Array.of(1, 2, 3)], 1);
    expect(seen).toEqual(Uint8Array.of(1, 2, 3));
  });

  it('a frame to send that the device could write to', async () => {
    const { link, broken, frames } = await open();
    offer(link, link.layout.transmit[0]!, [
      { address: link.layout.buffers, length: VIRTIO_NET_HDR_BYTES + 60, flags: N, next: 1 },
      { address: link.layout.buffers + 4096, length: 8, flags: W },
    ]);
    link.device.poll(0, 8);
    expect([broken.length, frames.length]).toEqual([1, 0]);
  });

  it('a forged used ring breaks the link from the driver’s side', async () => {
    const { link, broken } = await open();
    link.memory.write(Number(link.layout.transmit[0]!.usedRing) + 2, Uint8Array.of(7, 0));
    expect(link.driver.send(0, new Uint8Array(60))).toBe(false);
    expect(broken[0]).toMatch(/^driver: /);
  });
});

describe('net headers', () => {
  const transmit = async (bytes: Uint8Array): Promise<{ broken: string[]; frames: Uint8Array[] }> => {
    const opened = await open();
    const { link } = opened;
    link.memory.write(link.layout.buffers, bytes);
    offer(link, link.layout.transmit[0]!, [{ address: link.layout.buffers, length: bytes.length }]);
    link.device.poll(0, 8);
    return opened;
  };
  const frame = (header: Uint8Array, length: number): Uint8Array =>
    Uint8Array.from([...header, ...new Uint8Array(length)]);

  it('takes a frame with a plain header', async () => {
    const { broken, frames } = await transmit(frame(encodeNetHeader(PLAIN_NET_HEADER), 60));
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
      frame(encodeNetHeader({ ...PLAIN_NET_HEADER, flags: VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: 14 }), 60),
    ],
  ] as const) {
    it(`refuses ${what}`, async () => {
      const { broken, frames } = await transmit(bytes);
      expect(broken).toHaveLength(1);
      expect(frames).toEqual([]);
    });
  }
});

describe('merged receive buffers', () => {
  it('are all or none: a frame for which there is no room leaves the buffers for the next one', async () => {
    const { link } = await open(FEATURES | featureSet(VIRTIO_NET_F_MRG_RXBUF));
    link.driver.refill(0);
    const large = new Uint8Array(3520).fill(1);
    const small = new Uint8Array(60).fill(2);
    // Eight buffers of 2048 bytes: three times two, then one.
    for (const frame of [large, large, large, small]) expect(link.device.deliver(0, frame)).toBe(true);
    expect(link.device.deliver(0, large)).toBe(false);
    expect(link.device.deliver(0, small)).toBe(true);
    expect(link.device.deliver(0, small)).toBe(false);
    expect(link.driver.receive(0, 64)).toEqual([large, large, large, small, small]);
  });
});

describe('notifications', () => {
  for (const eventIdx of [false, true]) {
    it(`are suppressed while the other side is at work (${eventIdx ? 'event index' : 'flags'})`, async () => {
      const { link } = await open(FEATURES | (eventIdx ? featureSet(VIRTIO_F_EVENT_IDX) : 0n));
      link.driver.refill(0);
      link.driver.kick(0);
      expect(link.statistics).toMatchObject({ kicks: 1, suppressedNotifications: 0 });
      link.device.deliver(0, new Uint8Array(60));
      link.device.deliver(0, new Uint8Array(60));
      expect(link.device.notify(0)).toBe(true);
      expect(link.device.notify(0), 'there is nothing new').toBe(false);
      expect(link.driver.receive(0, 1)).toHaveLength(1);
      // The driver's budget ended: it polls, and does not want to be told.
      link.device.deliver(0, new Uint8Array(60));
      expect(link.device.notify(0)).toBe(false);
      expect(link.driver.receive(0, 8)).toHaveLength(2);
      link.device.deliver(0, new Uint8Array(60));
      expect(link.device.notify(0)).toBe(true);
      expect(link.statistics.interrupts).toBe(2);
    });
  }
});

describe('opening', () => {
  it('refuses a queue size that is no power of two', async () => {
    const transport = new VirtqueueTransport();
    const device = { control: () => new Uint8Array(), transmit: () => {}, broken: () => {} };
    await expect(
      transport.open({ label: 'l', queuePairs: 1, queueSize: 12, features: FEATURES, device }),
    ).rejects.toMatchObject({ code: 'virtio-violation' });
  });

  it('has no control queue unless it was negotiated', async () => {
    const { link } = await open(featureSet(VIRTIO_F_VERSION_1));
    await expect(link.driver.control([Uint8Array.of(0, 0)], 1)).rejects.toThrow('VIRTIO_NET_F_CTRL_VQ');
  });

  it('refuses frames that the link cannot carry', async () => {
    const { link } = await open();
    expect(() => link.driver.send(0, new Uint8Array(0))).toThrow('a frame of 0 bytes');
    expect(() => link.driver.send(0, new Uint8Array(5000))).toThrow('a frame of 5000 bytes');
    expect(link.device.deliver(0, new Uint8Array(5000))).toBe(false);
  });
});
