import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ethernetFrames,
  readCapture,
  writePcap,
  writePcapng,
  type PacketToWrite,
} from '../../packet/index.js';
import { FrameStream, readFrames } from './capture-input.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-capture-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Packets of all lengths, so that some lie across wherever a window ends. */
function packets(count: number): PacketToWrite[] {
  return Array.from({ length: count }, (_, index) => ({
    timestampNs: BigInt(index) * 1_000_001n,
    data: new Uint8Array(14 + ((index * 7919) % 5000)).fill(index),
    originalLength: 6000,
  }));
}

describe('FrameStream', () => {
  // About 5 MB: some windows of 1 MiB.
  it.each([
    ['pcap', writePcap(packets(2000))],
    ['big-endian pcap', writePcap(packets(2000), { endian: 'big', resolution: 'us' })],
    ['pcapng', writePcapng(packets(2000))],
    ['big-endian pcapng', writePcapng(packets(2000), { endian: 'big' })],
  ])('reads a %s as the whole file is read', async (_, bytes) => {
    expect(bytes.length).toBeGreaterThan(4 << 20);
    const path = write('whole', bytes);
    const stream = FrameStream.open(path);
    const whole = ethernetFrames(readCapture(bytes));
    expect(whole.length).toBe(2000);
    const read = await readFrames(path);
    expect(read.length).toBe(2000);
    expect(read.every(({ data }, at) => Buffer.compare(data, whole[at]!.data) === 0)).toBe(true);
    let index = 0;
    for (const frame of stream.frames()) {
      const expected = whole[index++]!;
      expect(Buffer.compare(frame.data, expected.data)).toBe(0);
      expect({ ...frame, data: null }).toEqual({ ...expected, data: null });
    }
    expect(index).toBe(2000);
    expect(stream.damage).toBeUndefined();
    stream.close();
  });

  it('gives the frames in front of where a file was cut off, and says where', async () => {
    const path = write('cut', writePcap(packets(1000)).slice(0, -10));
    const stream = FrameStream.open(path);
    expect([...stream.frames()].length).toBe(999);
    expect(stream.damage).toMatchObject({ code: 'pcap-invalid', at: { file: path } });
    await expect(readFrames(path)).rejects.toThrow(stream.damage!.message);
    stream.close();
  });

  it('refuses another link type, and what is no capture, before anything is run', () => {
    const path = write('raw', writePcap(packets(3), { linkType: 101 }));
    expect(() => FrameStream.open(path)).toThrow('link type 101');
    expect(() => FrameStream.open(write('text', new TextEncoder().encode('no capture')))).toThrow(
      'neither a pcap',
    );
    expect(() => FrameStream.open(write('empty', new Uint8Array()))).toThrow('an empty file');
    expect(() => FrameStream.open(join(folder, 'none'))).toThrow('cannot read');
  });
});

describe('readFrames', () => {
  it('lets others have their turn while it reads a long capture', async () => {
    const data = new Uint8Array(60);
    const path = write(
      'long',
      writePcap(Array.from({ length: 400_000 }, (_, i) => ({ timestampNs: BigInt(i), data }))),
    );
    const started = performance.now();
    let [last, longest] = [started, 0];
    const turn = (): void => {
      const now = performance.now();
      [last, longest] = [now, Math.max(longest, now - last)];
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    expect((await readFrames(path)).length).toBe(400_000);
    longest = Math.max(longest, performance.now() - last);
    clearImmediate(next);
    // In one go, it would be nearly all of the time.
    expect(longest).toBeLessThan((performance.now() - started) / 2);
  });
});
