import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFrame, dissect, findLayer, flowHash, type FrameSpec } from './index.js';

const eth = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const ipv4 = { src: '192.0.2.1', dst: '198.51.100.2' };
const ipv6 = { src: '2001:db8::1', dst: '2001:db8:1::2' };
const udp = { srcPort: 1024, dstPort: 9 };
const tcp = { srcPort: 1024, dstPort: 80 };

/** The same by the layers that `dissect` finds: FNV-1a of the addresses, then the ports, each pair xored. */
function hashOfLayers(frame: Uint8Array): number {
  const packet = dissect(frame);
  const four = findLayer(packet, 'ipv4');
  const six = findLayer(packet, 'ipv6');
  const ports = findLayer(packet, 'udp') ?? findLayer(packet, 'tcp');
  const fields: [offset: number, length: number][] = [];
  if (four !== undefined) fields.push([four.offset + 12, 4]);
  else if (six !== undefined) fields.push([six.offset + 8, 16]);
  if (ports !== undefined) fields.push([ports.offset, 2]);
  let hash = 0x811c9dc5;
  for (const [offset, length] of fields) {
    for (let i = 0; i < length; i++) {
      hash = Math.imul(hash ^ (frame[offset + i]! ^ frame[offset + length + i]!), 0x01000193) >>> 0;
    }
  }
  return hash;
}

const extension = (next: number) => [next, 0, 1, 4, 0, 0, 0, 0];
const extended = (first: number, ...headers: number[][]): FrameSpec => ({
  eth,
  ipv6: { ...ipv6, nextHeader: first },
  payload: Uint8Array.from([...headers.flat(), 4, 0, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4]),
});

const SPECS: Record<string, FrameSpec> = {
  'UDP over IPv4': { eth, ipv4, udp },
  'TCP over IPv4': { eth, ipv4, tcp },
  'another protocol over IPv4': { eth, ipv4: { ...ipv4, protocol: 1 }, size: 80 },
  'a later fragment': { eth, ipv4: { ...ipv4, fragmentOffset: 1480 }, udp },
  'two tags': { eth, vlan: [{ id: 1 }, { id: 2 }], ipv4, udp },
  'UDP over IPv6': { eth, ipv6, udp },
  'TCP over IPv6, tagged': { eth, vlan: [{ id: 1 }], ipv6, tcp },
  'IPv6 with options before UDP': extended(0, extension(60), extension(43), extension(17)),
  'IPv6, a first fragment': extended(44, [17, 0, 0, 1, 0, 0, 0, 1]),
  'IPv6, a later fragment': extended(44, [17, 0, 5, 0xc8, 0, 0, 0, 1]),
  ARP: { eth: { ...eth, type: 0x0806 } },
};

describe.each(Object.entries(SPECS))('flowHash of %s', (_, spec) => {
  const frame = buildFrame(spec);

  it('is that of the layers, whatever bytes are changed or cut off', () => {
    expect(flowHash(frame)).toBe(hashOfLayers(frame));
    const changes = fc.array(fc.tuple(fc.nat(frame.length - 1), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(changes, fc.nat(frame.length), (bytes, length) => {
        const changed = frame.slice();
        for (const [at, value] of bytes) changed[at] = value;
        expect(flowHash(changed)).toBe(hashOfLayers(changed));
        expect(flowHash(changed.subarray(0, length))).toBe(hashOfLayers(changed.subarray(0, length)));
      }),
      { numRuns: 2000 },
    );
  });
});

it('flowHash does not look past the frame, whatever lies behind it', () => {
  const block = new Uint8Array(256).fill(0xff);
  const frame = buildFrame(SPECS['UDP over IPv4']!);
  block.set(frame);
  for (let length = 0; length <= frame.length; length++) {
    expect(flowHash(block.subarray(0, length))).toBe(flowHash(frame.slice(0, length)));
  }
});

it('flowHash tells flows apart by address and by port', () => {
  const hashes = [
    { eth, ipv4, udp },
    { eth, ipv4: { ...ipv4, src: '192.0.2.3' }, udp },
    { eth, ipv4, udp: { ...udp, srcPort: 1025 } },
    { eth, ipv6, udp },
  ].map((spec) => flowHash(buildFrame(spec)));
  expect(new Set(hashes).size).toBe(hashes.length);
});
