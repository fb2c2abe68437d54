import { describe, expect, it } from 'vitest';
import { MAX_METADATA_LENGTH, XDP_ABORTED, XDP_PACKET_HEADROOM, XDP_PASS } from '../xdp.js';
import { AddressSpace } from './address-space.js';
import {
  FRAME_SLOT,
  FRAME_SLOT_SIZE,
  MAX_FRAGS_FRAME_LENGTH,
  MAX_FRAME_LENGTH,
  REDIRECT_IFINDEX,
  REDIRECT_NONE,
} from './xdp-frame.js';
import { FrameRing } from './frame-ring.js';

function setUp(slots = 3) {
  const space = new AddressSpace(1 << 18);
  const frames = new FrameRing(space, slots);
  const word = (slot: number, offset: number): number =>
    space.view.getUint32(frames.address(slot) + offset, true);
  return { space, frames, word };
}

const frame = Uint8Array.from({ length: 60 }, (_, i) => i);

describe('FrameRing', () => {
  it('spaces its slots by FRAME_SLOT_SIZE, whose contexts stay aligned', () => {
    const { frames } = setUp();
    expect(frames.address(2) - frames.address(0)).toBe(2 * FRAME_SLOT_SIZE);
    expect(FRAME_SLOT_SIZE % 8).toBe(0);
    expect(Number.isInteger(Math.log2(FRAME_SLOT_SIZE))).toBe(false);
  });

  it('puts metadata in front of the packet, and nothing of another length than there can be', () => {
    const { frames, word } = setUp();
    const dataMeta = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    frames.load(1, frame, { dataMeta });
    expect(word(1, 0) - word(1, 8)).toBe(8);
    expect(frames.metadata(1)).toEqual(dataMeta);
    expect(frames.packet(1)).toEqual(frame);
    frames.load(1, frame, { dataMeta: new Uint8Array(MAX_METADATA_LENGTH) });
    expect(frames.metadata(1)).toHaveLength(216);
    frames.load(1, frame);
    expect(frames.metadata(1)).toHaveLength(0);
    for (const length of [1, 6, MAX_METADATA_LENGTH + 4]) {
      expect(() => frames.load(1, frame, { dataMeta: new Uint8Array(length) })).toThrow(
        `metadata of ${length} bytes`,
      );
    }
  });

  it('lays a frame out as the kernel does', () => {
    const { frames, word } = setUp();
    frames.load(1, frame, { ingressIfindex: 3, rxQueueIndex: 4, egressIfindex: 5 });
    const hardStart = frames.address(1) + FRAME_SLOT.buffer;
    const data = hardStart + XDP_PACKET_HEADROOM;
    expect([0, 4, 8, 12, 16, 20].map((offset) => word(1, offset))).toEqual([data, data + 60, data, 3, 4, 5]);
    expect([word(1, FRAME_SLOT.hardStart), word(1, FRAME_SLOT.hardEnd)]).toEqual([
      hardStart,
      hardStart + 3776,
    ]);
    expect(frames.packet(1)).toEqual(frame);
    expect(frames.metadata(1)).toEqual(new Uint8Array());
  });

  it('takes frames up to MAX_FRAME_LENGTH, which fill the buffer up to its end', () => {
    const { frames, word } = setUp();
    frames.load(0, new Uint8Array(MAX_FRAME_LENGTH));
    expect(word(0, 4)).toBe(word(0, FRAME_SLOT.hardEnd));
    frames.load(0, new Uint8Array());
    expect(frames.packet(0)).toEqual(new Uint8Array());
    expect(() => frames.load(0, new Uint8Array(MAX_FRAME_LENGTH + 1))).toThrow(
      `a frame of ${MAX_FRAME_LENGTH + 1} bytes exceeds the limit of ${MAX_FRAME_LENGTH}`,
    );
  });

  it('reads packet, metadata, verdict and redirect back from where a program left them', () => {
    const { space, frames, word } = setUp();
    frames.load(0, frame);
    const at = frames.address(0);
    const data = word(0, 0);
    space.view.setUint32(at, data + 14, true);
    space.view.setUint32(at + 4, data + 20, true);
    space.view.setUint32(at + 8, data + 10, true);
    space.view.setUint32(at + FRAME_SLOT.verdict, 0xffff_fffe, true);
    space.view.setUint32(at + FRAME_SLOT.redirectKind, REDIRECT_IFINDEX, true);
    space.view.setUint32(at + FRAME_SLOT.redirectTarget, 0x8000_0000, true);
    expect(frames.packet(0)).toEqual(frame.slice(14, 20));
    expect(frames.metadata(0)).toEqual(frame.slice(10, 14));
    expect(frames.verdict(0)).toBe(0xffff_fffe);
    expect(frames.redirectWords(0)).toEqual({
      kind: REDIRECT_IFINDEX,
      target: 0x8000_0000,
      mapAddress: 0,
      flags: 0,
    });
  });

  it('forgets verdict and redirect of the frame before', () => {
    const { space, frames } = setUp();
    space.u8.fill(0xff, frames.address(0), frames.address(0) + FRAME_SLOT.buffer);
    frames.load(0, frame);
    expect(frames.verdict(0)).toBe(0);
    expect(frames.redirectWords(0)).toEqual({ kind: REDIRECT_NONE, target: 0, mapAddress: 0, flags: 0 });
  });

  it('gives its memory back', () => {
    const { space, frames } = setUp();
    frames.close();
    expect(space.bytesInUse).toBe(0);
  });
});

describe('FrameRing with frags', () => {
  const LONG = Uint8Array.from({ length: 9000 }, (_, i) => (i ^ ((i >> 8) * 31)) & 0xff);

  function setUpLong() {
    const space = new AddressSpace(1 << 20);
    const frames = new FrameRing(space, 3, new Map(), LONG.length);
    return {
      space,
      frames,
      word: (slot: number, offset: number) => space.i32[(frames.address(slot) + offset) >> 2]!,
    };
  }

  it('keeps what follows the first 3520 bytes in a region that no program may touch', () => {
    const { space, frames, word } = setUpLong();
    frames.load(1, LONG);
    expect(word(1, 4) - word(1, 0)).toBe(MAX_FRAME_LENGTH);
    expect(word(1, FRAME_SLOT.fragsLength)).toBe(9000 - MAX_FRAME_LENGTH);
    const at = word(1, FRAME_SLOT.frags);
    expect(space.read(at, 5480)).toEqual(LONG.slice(MAX_FRAME_LENGTH));
    expect(space.accessFault(at, 1, false)).toBe('the frags of a frame is not accessible to a program');
    expect(frames.packet(1)).toEqual(LONG);
  });

  it('keeps the frames of different slots apart', () => {
    const { frames } = setUpLong();
    const other = LONG.map((byte) => byte ^ 0xff);
    frames.load(0, LONG);
    frames.load(1, other.subarray(0, frames.longestFrame));
    frames.load(2, LONG);
    expect([0, 1, 2].map((slot) => Buffer.compare(frames.packet(slot), slot === 1 ? other : LONG))).toEqual([
      0, 0, 0,
    ]);
  });

  it('forgets the frags of the frame before', () => {
    const { frames, word } = setUpLong();
    frames.load(0, LONG);
    frames.load(0, frame);
    expect([word(0, FRAME_SLOT.fragsLength), word(0, FRAME_SLOT.frags)]).toEqual([0, 0]);
    expect(frames.packet(0)).toEqual(frame);
  });

  it('leaves nothing behind when there is no memory for them', () => {
    const space = new AddressSpace(1 << 17);
    expect(() => new FrameRing(space, 1, new Map(), MAX_FRAGS_FRAME_LENGTH)).toThrow('the frags of a frame');
    expect(space.bytesInUse).toBe(0);
  });

  it.each([
    ['more bytes than the pages of a frame', { fragsLength: 17 * 4096 + 1 }],
    ['more bytes than their region has', { fragsLength: 3 * 2 * 4096 + 1 }],
    ['a negative length', { fragsLength: -1 }],
    ['an address in another object', { frags: 0x1_0000 }],
    ['an address in no object', { frags: 0xffff_f000 }],
    ['no address', { frags: 0 }],
  ])('are not believed when the context was overwritten with %s', (_name, fields) => {
    const { space, frames } = setUpLong();
    frames.load(0, LONG);
    const at = frames.address(0);
    space.view.setUint32(at + FRAME_SLOT.verdict, XDP_PASS, true);
    expect(frames.verdict(0)).toBe(XDP_PASS);
    for (const [name, value] of Object.entries(fields)) {
      space.view.setUint32(at + FRAME_SLOT[name as 'frags' | 'fragsLength'], value, true);
    }
    expect([frames.intact(0), frames.verdict(0), frames.packet(0).length]).toEqual([false, XDP_ABORTED, 0]);
  });
});

describe('a frame whose context was overwritten', () => {
  const AREA = { start: FRAME_SLOT.buffer, end: FRAME_SLOT.buffer + 3776 };

  it.each([
    ['data before the slot', { data: AREA.start - 1, dataMeta: AREA.start - 1 }],
    ['data behind data_end', { dataEnd: AREA.start + XDP_PACKET_HEADROOM - 1 }],
    ['data_end behind the tailroom', { dataEnd: AREA.end + 1 }],
    ['data_end beyond all memory', { dataEnd: 0xffff_ff00 }],
    ['data_meta behind data', { dataMeta: AREA.start + XDP_PACKET_HEADROOM + 1 }],
    ['data_meta before the slot', { dataMeta: -4 }],
    ['a headroom that starts elsewhere', { hardStart: 0 }],
    ['a tailroom that ends elsewhere', { hardEnd: AREA.end + 4 }],
  ])('has no packet, no metadata and no verdict: %s', (_name, offsets) => {
    const { space, frames } = setUp();
    frames.load(1, frame);
    const at = frames.address(1);
    space.view.setUint32(at + FRAME_SLOT.verdict, XDP_PASS, true);
    expect([frames.intact(1), frames.verdict(1), frames.packet(1)]).toEqual([true, XDP_PASS, frame]);
    const fields = { data: 0, dataEnd: 4, dataMeta: 8, hardStart: 24, hardEnd: 28 };
    for (const [name, offset] of Object.entries(offsets)) {
      space.view.setUint32(at + fields[name as keyof typeof fields], at + offset, true);
    }
    expect([frames.intact(1), frames.verdict(1)]).toEqual([false, XDP_ABORTED]);
    expect([frames.packet(1).length, frames.metadata(1).length]).toEqual([0, 0]);
  });
});
