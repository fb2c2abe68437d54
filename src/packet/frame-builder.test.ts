import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buildFrame,
  checkChecksums,
  dissect,
  findLayer,
  type FrameSpec,
  MAX_FRAME_BYTES,
  TCP_FLAG,
  type TcpFlagName,
} from './index.js';

const eth = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const ipv4 = { src: '192.168.0.1', dst: '192.168.0.199' };
const ipv6 = { src: '2001:db8::1', dst: '2001:db8::2' };
const udp = { srcPort: 7, dstPort: 9 };
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('buildFrame', () => {
  it('builds UDP over IPv4, byte by byte', () => {
    const frame = buildFrame({ eth, ipv4, udp, payload: Uint8Array.of(0xab, 0xcd, 0xef), padTo: 0 });
    expect(hex(frame)).toBe(
      '020000000002' +
        '020000000001' +
        '0800' +
        // IPv4, total length 31: 4500+001f+4011+c0a8+0001+c0a8+00c7 = 20748, folded 074a.
        '4500001f000000004011' +
        'f8b5' +
        'c0a80001' +
        'c0a800c7' +
        // UDP, length 11: c0a8+0001+c0a8+00c7 +0011+000b +0007+0009+000b +abcd+ef00 = 31d1c, folded 1d1f.
        '00070009000b' +
        'e2e0' +
        'abcdef',
    );
  });

  it('pads to 60 bytes without FCS unless told otherwise', () => {
    expect(buildFrame({ eth, ipv4, udp })).toHaveLength(60);
    expect(buildFrame({ eth, ipv4, udp, padTo: 64 })).toHaveLength(64);
    expect(buildFrame({ eth, ipv4, udp, padTo: 0 })).toHaveLength(42);
    expect(buildFrame({ eth, ipv4, udp, payload: new Uint8Array(100) })).toHaveLength(142);
  });

  it('fills to an exact size inside the innermost layer, not as padding', () => {
    const frame = buildFrame({ eth, ipv4, udp, size: 1514 });
    expect(frame).toHaveLength(1514);
    expect(findLayer(dissect(frame), 'udp')?.header.length).toBe(1480);
    expect(buildFrame({ eth, ipv4, udp, size: 42 })).toHaveLength(42);
  });

  it('chains TPIDs: 0x88a8 outside, 0x8100 inside, the payload type last', () => {
    const frame = buildFrame({
      eth,
      vlan: [
        { id: 100, priority: 5 },
        { id: 4095, dropEligible: true },
      ],
      ipv4,
      udp,
      padTo: 0,
    });
    expect(hex(frame.subarray(12, 22))).toBe('88a8' + 'a064' + '8100' + '1fff' + '0800');
    expect(hex(buildFrame({ eth, vlan: [{ id: 1 }], ipv4, udp }).subarray(12, 18))).toBe(
      '8100' + '0001' + '0800',
    );
  });

  it('builds what is not IP from its EtherType', () => {
    const frame = buildFrame({ eth: { ...eth, type: 0x88b5 }, payload: Uint8Array.of(1), padTo: 0 });
    expect(hex(frame)).toBe('02000000000202000000000188b501');
  });

  it('sends a UDP checksum that computes to 0 as 0xffff (RFC 768)', () => {
    const withoutPayload = buildFrame({ eth, ipv4, udp, payload: Uint8Array.of(0, 0), padTo: 0 });
    // A payload word equal to the checksum makes the new sum all ones, its complement 0.
    const payload = withoutPayload.slice(40, 42);
    const frame = buildFrame({ eth, ipv4, udp, payload, padTo: 0 });
    expect(hex(frame.subarray(40, 42))).toBe('ffff');
    expect(checkChecksums(frame, dissect(frame)).udp).toBe('ok');
  });

  it('writes given checksums as they are', () => {
    const frame = buildFrame({ eth, ipv4: { ...ipv4, checksum: 0xdead }, udp: { ...udp, checksum: 0 } });
    expect(checkChecksums(frame, dissect(frame))).toEqual({ ipv4: 'bad', udp: 'none' });
  });

  const invalid: [string, FrameSpec, string][] = [
    ['both IP versions', { eth, ipv4, ipv6, udp }, 'a frame has ipv4 or ipv6, not both'],
    ['both transports', { eth, ipv4, udp, tcp: udp }, 'a frame has udp or tcp, not both'],
    ['a transport without IP', { eth, tcp: udp }, 'tcp needs ipv4 or ipv6 below it'],
    ['no type', { eth }, 'a frame without ipv4 or ipv6 needs eth.type'],
    ['no protocol', { eth, ipv4 }, 'ipv4 without udp or tcp needs ipv4.protocol'],
    [
      'payload and size',
      { eth, ipv4, udp, payload: new Uint8Array(1), size: 60 },
      'payload or size, not both',
    ],
    [
      'a size below the headers',
      { eth, ipv4, udp, size: 41 },
      'size 41 is less than the 42 bytes of the headers',
    ],
    ['a huge size', { eth, ipv4, udp, size: 2 ** 40 }, `is not an integer of 0 to ${MAX_FRAME_BYTES}`],
    ['a huge padding', { eth, ipv4, udp, padTo: 2 ** 40 }, `is not an integer of 0 to ${MAX_FRAME_BYTES}`],
    [
      'a port',
      { eth, ipv4, udp: { srcPort: 65536, dstPort: 0 } },
      'udp.srcPort 65536 is not an integer of 0 to 65535',
    ],
    ['a fraction', { eth, ipv4, udp: { srcPort: 1.5, dstPort: 0 } }, 'udp.srcPort 1.5'],
    ['a VLAN id', { eth, vlan: [{ id: 4096 }], ipv4, udp }, 'vlan[0].id 4096 is not an integer of 0 to 4095'],
    ['a TTL', { eth, ipv4: { ...ipv4, ttl: 256 }, udp }, 'ipv4.ttl 256'],
    ['a fragment offset', { eth, ipv4: { ...ipv4, fragmentOffset: 4 }, udp }, 'is not a multiple of 8'],
    [
      'options of 3 bytes',
      { eth, ipv4: { ...ipv4, options: new Uint8Array(3) }, udp },
      '3 bytes of IPv4 options',
    ],
    [
      'TCP options of 44 bytes',
      { eth, ipv4, tcp: { ...udp, options: new Uint8Array(44) } },
      '44 bytes of TCP options',
    ],
    [
      'an IPv4 packet over 65535',
      { eth, vlan: [{ id: 1 }], ipv4, udp, size: 65_554 },
      'ipv4 total length 65536',
    ],
    ['an address', { eth, ipv4: { ...ipv4, src: '1.2.3' }, udp }, '"1.2.3" is not an IPv4 address'],
  ];
  it.each(invalid)('refuses %s', (_name, spec, message) => {
    expect(() => buildFrame(spec)).toThrow(
      expect.objectContaining({
        code: 'packet-invalid',
        message: expect.stringContaining(message) as string,
      }),
    );
  });
});

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const words = fc.nat(10).chain((count) => fc.uint8Array({ minLength: count * 4, maxLength: count * 4 }));
const anyIpv4 = fc.record({
  src: fc.ipV4(),
  dst: fc.ipV4(),
  ttl: u8,
  id: u16,
  dscp: fc.nat(63),
  ecn: fc.nat(3),
  dontFragment: fc.boolean(),
  options: words,
});
const anyIpv6 = fc.record({
  src: fc.constantFrom('::', '2001:db8::1', 'ff02::1:ff00:1'),
  dst: fc.constantFrom('::1', 'fe80::1:2', '2001:db8:1:2:3:4:5:6'),
  hopLimit: u8,
  trafficClass: u8,
  flowLabel: fc.nat(0xfffff),
});
const anyTcp = fc.record({
  srcPort: u16,
  dstPort: u16,
  seq: u32,
  ack: u32,
  flags: fc.subarray(Object.keys(TCP_FLAG) as TcpFlagName[]),
  window: u16,
  urgent: u16,
  options: words,
});
const anyUdp = fc.record({ srcPort: u16, dstPort: u16 });
const anySpec = fc.record(
  {
    eth: fc.constant(eth),
    vlan: fc.array(fc.record({ id: fc.nat(4095), priority: fc.nat(7), dropEligible: fc.boolean() }), {
      maxLength: 3,
    }),
    ip: fc.oneof(
      anyIpv4.map((fields) => ({ ipv4: fields })),
      anyIpv6.map((fields) => ({ ipv6: fields })),
    ),
    transport: fc.oneof(
      anyUdp.map((fields) => ({ udp: fields })),
      anyTcp.map((fields) => ({ tcp: fields })),
    ),
    payload: fc.uint8Array({ maxLength: 100 }),
  },
  { requiredKeys: ['eth', 'ip', 'transport', 'payload'] },
);

describe('a built frame, dissected', () => {
  it('has the fields it was declared with and right checksums', () => {
    fc.assert(
      fc.property(anySpec, ({ ip, transport, ...rest }) => {
        const spec: FrameSpec = { ...rest, ...ip, ...transport };
        const frame = buildFrame(spec);
        const dissection = dissect(frame);
        expect(dissection.missing).toBeUndefined();
        expect(dissection.malformed).toBeUndefined();

        expect(findLayer(dissection, 'ethernet')?.header).toMatchObject(eth);
        const tags = dissection.layers.flatMap((layer) => (layer.kind === 'vlan' ? [layer.header] : []));
        expect(tags).toMatchObject(spec.vlan ?? []);
        if (spec.ipv4) expect(findLayer(dissection, 'ipv4')?.header).toMatchObject(spec.ipv4);
        if (spec.ipv6) expect(findLayer(dissection, 'ipv6')?.header).toMatchObject(spec.ipv6);
        if (spec.udp) expect(findLayer(dissection, 'udp')?.header).toMatchObject(spec.udp);
        if (spec.tcp) {
          const flags = spec.tcp.flags!.reduce((bits, name) => bits | TCP_FLAG[name], 0);
          expect(findLayer(dissection, 'tcp')?.header).toMatchObject({ ...spec.tcp, flags });
        }
        const payload = findLayer(dissection, 'payload');
        const found = payload ? frame.subarray(payload.offset, payload.offset + payload.length) : [];
        expect([...found]).toEqual([...spec.payload!]);

        expect(Object.values(checkChecksums(frame, dissection)).every((state) => state === 'ok')).toBe(true);
      }),
      { seed: 20191126, numRuns: 200 },
    );
  });

  it('has a bad checksum once any covered bit is flipped', () => {
    const frame = buildFrame({ eth, ipv4, tcp: { ...udp, flags: ['SYN'] }, payload: Uint8Array.of(1, 2, 3) });
    for (let bit = 34 * 8; bit < 57 * 8; bit++) {
      // The data offset decides what is payload, not what is covered; a wrong one is malformed or missing.
      if (bit >> 3 === 46) continue;
      const flipped = frame.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(checkChecksums(flipped, dissect(flipped)).tcp, `bit ${bit}`).toBe('bad');
    }
  });
});
