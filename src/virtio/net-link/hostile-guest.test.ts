import { describe, expect, it } from 'vitest';
import {
  encodeNetHeader,
  featureSet,
  PLAIN_NET_HEADER,
  splitLayoutAt,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  type GuestMemory,
} from '../index.js';
import { CONTROL_QUEUE_SIZE, ControlLink, type ControlHandler } from './control-link.js';
import { MAX_LINK_FRAME_BYTES, NetLink } from './net-link.js';

const FEATURES = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_F_INDIRECT_DESC);
const QUEUE_SIZE = 8;
const HOSTILE_FRAME = new Uint8Array(60);

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

interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

interface Place {
  readonly memory: GuestMemory;
  /** First byte of the queue. */
  readonly queue: number;
  readonly size: number;
}

/** Writes descriptors and an avail ring as a hostile driver would: whatever it likes. */
function offer({ memory, queue, size }: Place, descriptors: readonly Descriptor[], head = 0, idx = 1): void {
  const at = splitLayoutAt(queue, size);
  descriptors.forEach((descriptor, index) => {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(descriptor.address)), true);
    view.setUint32(8, descriptor.length, true);
    view.setUint16(12, descriptor.flags ?? 0, true);
    view.setUint16(14, descriptor.next ?? 0, true);
    memory.write(Number(at.descriptorTable) + 16 * index, bytes);
  });
  memory.write(Number(at.availRing) + 4, Uint8Array.of(head & 0xff, head >> 8));
  memory.write(Number(at.availRing) + 2, Uint8Array.of(idx & 0xff, idx >> 8));
}

const W = VIRTQ_DESC_F_WRITE;
const N = VIRTQ_DESC_F_NEXT;

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
  const attacks: Readonly<
    Record<string, (base: number) => Parameters<typeof offer> extends [unknown, ...infer R] ? R : never>
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
    it.each(['transmit', 'receive'] as const)(`${what}, on the %s queue`, (queue) => {
      const { link, broken } = openNet();
      const place = queue === 'transmit' ? transmitQueue(link) : receiveQueue(link);
      offer(place, ...attack(link.layout.buffers));
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
      offer(controlQueue(link), ...attack(link.layout.buffers));
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
    const { link, broken } = openControl(featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ));
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
      { address: buffers, length: VIRTIO_NET_HDR_BYTES + 60, flags: N, next: 1 },
      { address: buffers + 4096, length: 8, flags: W },
    ]);
    expect(link.device.poll(0, 8)).toEqual([]);
    expect(broken).toHaveLength(1);
  });

  it('a forged used ring breaks the link from the driver’s side', () => {
    const { link, broken } = openNet();
    const { usedRing } = splitLayoutAt(link.layout.transmit[0]!, QUEUE_SIZE);
    link.memory.write(Number(usedRing) + 2, Uint8Array.of(7, 0));
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
    // The same descriptor once more, without the driver.
    const { availRing } = splitLayoutAt(link.layout.transmit[0]!, QUEUE_SIZE);
    link.memory.write(Number(availRing) + 4 + 2, Uint8Array.of(0, 0));
    link.memory.write(Number(availRing) + 2, Uint8Array.of(2, 0));
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
      frame(encodeNetHeader({ ...PLAIN_NET_HEADER, flags: VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: 14 }), 60),
    ],
  ] as const) {
    it(`refuses ${what}`, () => {
      const { broken, frames } = transmit(bytes);
      expect(broken).toHaveLength(1);
      expect(frames).toEqual([]);
    });
  }
});
