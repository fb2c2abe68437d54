import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFrame, checkChecksums, dissect, findLayer, type FrameSpec, summarizeFrame } from './index.js';

const eth = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const ipv4 = { src: '192.0.2.1', dst: '192.0.2.2' };
const udp = { srcPort: 7, dstPort: 9 };
const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
const shape = (frame: Uint8Array) =>
  dissect(frame).layers.map((layer) => `${layer.kind}@${layer.offset}+${layer.length}`);

describe('dissect', () => {
  it('gives each layer its offset and length', () => {
    const frame = buildFrame({ eth, vlan: [{ id: 10 }], ipv4, udp, payload: new Uint8Array(4) });
    expect(shape(frame)).toEqual([
      'ethernet@0+14',
      'vlan@14+4',
      'ipv4@18+20',
      'udp@38+8',
      'payload@46+4',
      'padding@50+10',
    ]);
  });

  it('says what is missing at every length of a cut frame', () => {
    const frame = buildFrame({ eth, vlan: [{ id: 10 }], ipv4, udp, payload: new Uint8Array(4), padTo: 0 });
    expect(dissect(frame).missing).toBeUndefined();
    const missingAt = (length: number) => dissect(frame.subarray(0, length)).missing;
    expect(missingAt(0)).toEqual({ kind: 'ethernet', offset: 0, need: 14, have: 0 });
    expect(missingAt(13)).toEqual({ kind: 'ethernet', offset: 0, need: 14, have: 13 });
    expect(missingAt(14)).toEqual({ kind: 'vlan', offset: 14, need: 4, have: 0 });
    expect(missingAt(37)).toEqual({ kind: 'ipv4', offset: 18, need: 20, have: 19 });
    expect(missingAt(45)).toEqual({ kind: 'udp', offset: 38, need: 8, have: 7 });
    // From here on the headers are whole, and IP says how much more there was.
    expect(missingAt(46)).toEqual({ kind: 'payload', offset: 38, need: 12, have: 8 });
    expect(missingAt(49)).toEqual({ kind: 'payload', offset: 38, need: 12, have: 11 });
  });

  it('walks IPv6 extension headers to the transport', () => {
    const extensions = fromHex('3c00010400000000' + '1100010400000000');
    const inner = buildFrame({ eth, ipv6: { src: '::1', dst: '::2' }, udp, padTo: 0 });
    const frame = buildFrame({
      eth,
      ipv6: { src: '::1', dst: '::2', nextHeader: 0 },
      payload: Uint8Array.from([...extensions, ...inner.subarray(54)]),
    });
    expect(shape(frame)).toEqual([
      'ethernet@0+14',
      'ipv6@14+40',
      'ipv6-extension@54+8',
      'ipv6-extension@62+8',
      'udp@70+8',
    ]);
    // The pseudo-header names UDP, not the extension: the checksum of the plain packet holds.
    expect(checkChecksums(frame, dissect(frame))).toEqual({ udp: 'ok' });
  });

  it('finds no transport header in a later fragment', () => {
    const frame = buildFrame({ eth, ipv4: { ...ipv4, fragmentOffset: 1480 }, udp, size: 60 });
    expect(shape(frame)).toEqual(['ethernet@0+14', 'ipv4@14+20', 'payload@34+26']);
  });

  it('accepts a first fragment whose UDP length exceeds it, and knows no checksum', () => {
    const frame = buildFrame({ eth, ipv4: { ...ipv4, moreFragments: true }, udp, size: 60 });
    frame[39] = 200;
    expect(dissect(frame).malformed).toBeUndefined();
    expect(checkChecksums(frame, dissect(frame))).toEqual({ ipv4: 'ok', udp: 'unknown' });
  });

  const base: FrameSpec = { eth, ipv4, udp, size: 60 };
  const patched = (spec: FrameSpec, offset: number, value: number): Uint8Array => {
    const frame = buildFrame(spec);
    frame[offset] = value;
    return frame;
  };
  it.each([
    ['IPv4 version', patched(base, 14, 0x65), 'ipv4', 'version 6 is not 4'],
    ['IHL', patched(base, 14, 0x44), 'ipv4', 'header length 16 is less than 20'],
    ['total length', patched(base, 17, 19), 'ipv4', "total length 19 is less than the header's 20"],
    ['UDP length below its header', patched(base, 39, 7), 'udp', 'length 7 is less than 8'],
    [
      'UDP length above the IP payload',
      patched(base, 39, 27),
      'udp',
      'length 27 exceeds the 26 bytes of the IP payload',
    ],
    [
      'TCP offset',
      patched({ ...base, udp: undefined, tcp: udp }, 46, 0x40),
      'tcp',
      'header length 16 is less than 20',
    ],
    [
      'IPv6 version',
      patched({ eth, ipv6: { src: '::1', dst: '::2' }, udp }, 14, 0x40),
      'ipv6',
      'version 4 is not 6',
    ],
  ])('calls a wrong %s malformed', (_name, frame, kind, reason) => {
    expect(dissect(frame).malformed).toMatchObject({ kind, reason });
  });

  it('never throws, and its layers cover the frame without gaps', () => {
    const seeds = [
      buildFrame({
        eth,
        vlan: [{ id: 1 }, { id: 2 }],
        ipv4: { ...ipv4, options: new Uint8Array(8) },
        tcp: udp,
      }),
      buildFrame({ eth, ipv6: { src: '::1', dst: '::2' }, udp, size: 100 }),
      buildFrame({ eth, ipv6: { src: '::1', dst: '::2', nextHeader: 44 }, size: 100 }),
      buildFrame({ eth, ipv4, udp, size: 100 }),
    ];
    // Real frames with a few bytes changed and an end cut off get deeper than random bytes do.
    const mutated = fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(99), fc.nat(255)), { maxLength: 4 }),
        fc.nat(100),
      )
      .map(([seed, changes, length]) => {
        const frame = seed.slice(0, length);
        for (const [offset, value] of changes) if (offset < frame.length) frame[offset] = value;
        return frame;
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 80 })), (frame) => {
        const dissection = dissect(frame);
        let end = 0;
        for (const layer of dissection.layers) {
          expect(layer.offset).toBe(end);
          expect(layer.length).toBeGreaterThan(0);
          end += layer.length;
        }
        expect(end).toBe(frame.length);
        checkChecksums(frame, dissection);
        expect(summarizeFrame(frame, dissection)).toContain(`${frame.length} bytes`);
      }),
      { seed: 768, numRuns: 2000 },
    );
  });
});

describe('checkChecksums', () => {
  it('does not know what a cut packet had', () => {
    const frame = buildFrame({ eth, ipv4, udp, size: 100 }).subarray(0, 64);
    expect(checkChecksums(frame, dissect(frame))).toEqual({ ipv4: 'ok', udp: 'unknown' });
  });

  it('calls UDP without a checksum bad over IPv6 (RFC 8200 section 8.1)', () => {
    const frame = buildFrame({ eth, ipv6: { src: '::1', dst: '::2' }, udp: { ...udp, checksum: 0 } });
    expect(checkChecksums(frame, dissect(frame))).toEqual({ udp: 'bad' });
  });
});

describe('summarizeFrame', () => {
  it.each([
    [
      buildFrame({ eth, vlan: [{ id: 10 }], ipv4, udp }),
      '02:00:00:00:00:01 > 02:00:00:00:00:02 vlan 10 192.0.2.1:7 > 192.0.2.2:9 UDP 60 bytes',
    ],
    [
      buildFrame({ eth, ipv6: { src: '2001:db8::1', dst: '::2' }, tcp: { ...udp, flags: ['SYN', 'ACK'] } }),
      '02:00:00:00:00:01 > 02:00:00:00:00:02 [2001:db8::1]:7 > [::2]:9 TCP [SYN ACK] 74 bytes',
    ],
    [buildFrame({ eth: { ...eth, type: 0x0806 } }), '02:00:00:00:00:01 > 02:00:00:00:00:02 ARP 60 bytes'],
    [
      buildFrame({ eth, ipv4, udp }).subarray(0, 20),
      '02:00:00:00:00:01 > 02:00:00:00:00:02 IPv4 20 bytes (truncated: ipv4 needs 20 bytes, 6 are there)',
    ],
  ])('%#', (frame, line) => {
    expect(summarizeFrame(frame)).toBe(line);
  });

  it('is found by kind', () => {
    expect(findLayer(dissect(buildFrame({ eth, ipv4, udp })), 'tcp')).toBeUndefined();
  });
});
