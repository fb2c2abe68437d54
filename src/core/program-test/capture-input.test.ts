import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writePcap, writePcapng, type PacketToWrite } from '../../packet/index.js';
import { FrameStream, readWholeFrames } from './capture-input.js';

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
    const whole = await readWholeFrames(path);
    expect(whole.packets.length).toBe(2000);
    let index = 0;
    for (const frame of stream.frames()) {
      const expected = whole.packets[index++]!;
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
    const whole = await readWholeFrames(path);
    expect([...stream.frames()].length).toBe(999);
    expect(stream.damage).toMatchObject({ code: 'pcap-invalid', at: { file: path } });
    expect(stream.damage!.message).toBe(whole.damage!.message);
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
