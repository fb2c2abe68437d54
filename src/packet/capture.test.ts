import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { XdpbedError } from '../core/diagnostic.js';
import {
  buildFrame,
  detectCaptureFormat,
  encodePcapHeader,
  ethernetFrames,
  MAX_CAPTURED_BYTES,
  readCapture,
  readWholePackets,
  writePcap,
  writePcapng,
} from './index.js';

const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));

function failure(bytes: Uint8Array): XdpbedError {
  try {
    readCapture(bytes);
  } catch (error) {
    if (error instanceof XdpbedError) return error;
    throw error;
  }
  throw new Error('the capture was read');
}

/** Written out by hand from the draft: version 2.4, snaplen 65535, Ethernet, one record of 3 bytes of 60. */
const PCAP_LE_US = fromHex(`
  d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000
  15cd5b07 40e20100 03000000 3c000000 aabbcc`);
const PCAP_BE_NS = fromHex(`
  a1b23c4d 0002 0004 00000000 00000000 0000ffff 00000001
  075bcd15 075bcd15 00000003 0000003c aabbcc`);

describe('pcap', () => {
  it('reads little-endian microseconds', () => {
    expect(readCapture(PCAP_LE_US)).toEqual({
      format: 'pcap',
      interfaces: [{ linkType: 1, snapLength: 65535, fcsBytes: 0 }],
      packets: [
        // 123456789 s and 123456 µs.
        {
          timestampNs: 123_456_789_123_456_000n,
          data: Uint8Array.of(0xaa, 0xbb, 0xcc),
          originalLength: 60,
          interfaceIndex: 0,
        },
      ],
    });
  });

  it('reads big-endian nanoseconds', () => {
    expect(readCapture(PCAP_BE_NS).packets[0]).toMatchObject({
      timestampNs: 123_456_789_123_456_789n,
      originalLength: 60,
    });
  });

  it('writes the same bytes', () => {
    const packet = {
      timestampNs: 123_456_789_123_456_789n,
      data: Uint8Array.of(0xaa, 0xbb, 0xcc),
      originalLength: 60,
    };
    expect(writePcap([packet], { resolution: 'us', snapLength: 65535 })).toEqual(PCAP_LE_US);
    expect(writePcap([packet], { endian: 'big', snapLength: 65535 })).toEqual(PCAP_BE_NS);
  });

  it('reads the FCS length from the link type field', () => {
    const bytes = PCAP_LE_US.slice();
    bytes[23] = 0x24;
    expect(readCapture(bytes).interfaces[0]).toMatchObject({ linkType: 1, fcsBytes: 4 });
  });

  it.each([
    ['a cut file header', PCAP_LE_US.subarray(0, 23), 0, 'a pcap file header needs 24 bytes, 23 are left'],
    ['a wrong version', PCAP_LE_US.with(4, 3), 4, 'pcap version 3.4 is not 2.4'],
    [
      'a cut record header',
      PCAP_LE_US.subarray(0, 39),
      24,
      'the record header of packet 1 needs 16 bytes, 15 are left',
    ],
    ['a cut record', PCAP_LE_US.subarray(0, 42), 40, 'packet 1 needs 3 bytes, 2 are left'],
    [
      'a record of 4 GiB',
      PCAP_LE_US.with(35, 0xff),
      40,
      `more than the ${MAX_CAPTURED_BYTES} of any capture`,
    ],
  ])('names the offset of %s', (_name, bytes, offset, message) => {
    const error = failure(bytes);
    expect(error.message).toContain(message);
    expect(error).toMatchObject({ code: 'pcap-invalid', at: { offset } });
  });

  it('gives the packets in front of what was cut off', () => {
    const bytes = writePcap([{ data: new Uint8Array(60) }, { data: new Uint8Array(61) }]).subarray(0, -1);
    const { packets, damage } = readWholePackets(bytes);
    expect(packets.map(({ data }) => data.length)).toEqual([60]);
    expect(damage).toMatchObject({ code: 'pcap-invalid', message: 'packet 2 needs 61 bytes, 60 are left' });
    expect(readWholePackets(PCAP_LE_US).damage).toBeUndefined();
    expect(() => readWholePackets(PCAP_LE_US.subarray(0, 23))).toThrow('a pcap file header');
  });

  it('says how much of a cut file is whole', () => {
    const bytes = writePcap([{ data: new Uint8Array(60) }, { data: new Uint8Array(60) }]);
    expect(failure(bytes.subarray(0, -1)).hint).toBe('the packet before it is whole');
  });

  it.each([
    ['a negative timestamp', { timestampNs: -1n, data: new Uint8Array(1) }],
    ['a timestamp after 2106', { timestampNs: 2n ** 32n * 1_000_000_000n, data: new Uint8Array(1) }],
    ['a packet no reader takes', { data: new Uint8Array(MAX_CAPTURED_BYTES + 1) }],
  ])('refuses to write %s', (_name, packet) => {
    expect(() => writePcap([packet])).toThrow(expect.objectContaining({ code: 'packet-invalid' }));
  });
});

/** Section header, by hand; section length not given. */
const SHB_LE = '0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000';
const SHB_BE = '0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c';
/** Ethernet, snaplen 4, no options. */
const IDB_LE = '01000000 14000000 0100 0000 04000000 14000000';
/** Ethernet, no snaplen, if_name "tap0", if_tsresol 2^-10, if_tsoffset 5 s, end of options. */
const IDB_BE =
  '00000001 00000034 0001 0000 00000000 0002 0004 74617030 0009 0001 8a000000 000e 0008 0000000000000005 0000 0000 00000034';

describe('pcapng', () => {
  it('reads big-endian sections, time resolution in powers of two, a time offset and options', () => {
    // 3584 units of 1/1024 s = 3.5 s; comment "hi"; XDP verdict 1.
    const epb =
      '00000006 00000040 00000000 00000000 00000e00 00000003 0000003c aabbcc00' +
      '0001 0002 68690000 0007 0009 02 0000000000000001 000000 0000 0000 00000040';
    expect(readCapture(fromHex(SHB_BE + IDB_BE + epb))).toEqual({
      format: 'pcapng',
      interfaces: [{ linkType: 1, snapLength: 0, fcsBytes: 0, name: 'tap0' }],
      packets: [
        {
          timestampNs: 8_500_000_000n,
          data: Uint8Array.of(0xaa, 0xbb, 0xcc),
          originalLength: 60,
          interfaceIndex: 0,
          comment: 'hi',
          xdpVerdict: 1,
        },
      ],
    });
  });

  it('takes microseconds by default, cuts simple packets to the snaplen, skips unknown blocks', () => {
    const unknown = 'ad0b0000 10000000 deadbeef 10000000';
    const spb = '03000000 14000000 3c000000 aabbccdd 14000000';
    const epb = '06000000 24000000 00000000 00000000 02000000 02000000 02000000 aabb0000 24000000';
    expect(readCapture(fromHex(SHB_LE + unknown + IDB_LE + spb + epb)).packets).toEqual([
      { timestampNs: 0n, data: fromHex('aabbccdd'), originalLength: 60, interfaceIndex: 0 },
      { timestampNs: 2000n, data: fromHex('aabb'), originalLength: 2, interfaceIndex: 0 },
    ]);
  });

  it('reads the obsolete packet block', () => {
    const packet = '02000000 24000000 0000 0700 00000000 02000000 02000000 02000000 aabb0000 24000000';
    expect(readCapture(fromHex(SHB_LE + IDB_LE + packet)).packets[0]).toMatchObject({ timestampNs: 2000n });
  });

  it('numbers the interfaces of each section from 0, in its own byte order', () => {
    const epb = '06000000 24000000 00000000 00000000 02000000 02000000 02000000 aabb0000 24000000';
    const capture = readCapture(fromHex(SHB_BE + IDB_BE + SHB_LE + IDB_LE + epb));
    expect(capture.interfaces).toHaveLength(2);
    expect(capture.packets[0]).toMatchObject({ interfaceIndex: 1, timestampNs: 2000n });
  });

  const EPB = '06000000 24000000 00000000 00000000 02000000 02000000 02000000 aabb0000 24000000';
  it.each([
    ['a cut section header', SHB_LE.slice(0, 40), 0, 'a section header block needs 28 bytes'],
    ['a wrong byte-order magic', SHB_LE.replace('4d3c', '4d3d'), 8, 'byte-order magic'],
    ['a wrong version', SHB_LE.replace('0100', '0200'), 12, 'pcapng version 2.0 is not 1.0'],
    [
      'a block of 8 bytes',
      `${SHB_LE} 01000000 08000000 08000000`,
      32,
      'block length 8 is not a multiple of 4',
    ],
    [
      'a block of 4 GiB',
      `${SHB_LE} 01000000 fcffffff fcffffff`,
      28,
      'a pcapng block needs 4294967292 bytes, 12 are left',
    ],
    [
      'an end length that differs',
      `${SHB_LE}${IDB_LE.slice(0, -8)}18000000`,
      44,
      'block length 24 at its end is not the 20',
    ],
    ['a packet before any interface', SHB_LE + EPB, 36, "interface 0 is not one of the section's 0"],
    [
      'an interface of another section',
      SHB_BE + IDB_BE + SHB_LE + EPB,
      116,
      "interface 0 is not one of the section's 0",
    ],
    [
      'a packet longer than its block',
      SHB_LE + IDB_LE + EPB.replace('02000000 02000000 aabb', 'f0000000 02000000 aabb'),
      76,
      'packet 1 needs 240 bytes, its block has 4 left',
    ],
    [
      'a simple packet longer than its block',
      `${SHB_LE}${IDB_LE}03000000 10000000 3c000000 10000000`,
      60,
      'packet 1 needs 4',
    ],
    [
      'an option longer than its block',
      `${SHB_LE} 01000000 18000000 0100 0000 04000000 0200 0500 18000000`,
      48,
      'option 2 needs 5 bytes, its block has 0 left',
    ],
  ])('names the offset of %s', (_name, hex, offset, message) => {
    const error = failure(fromHex(hex));
    expect(error.message).toContain(message);
    expect(error).toMatchObject({ code: 'pcap-invalid', at: { offset } });
  });

  it('bounds a packet even where the block and the snaplen do not', () => {
    const length = MAX_CAPTURED_BYTES + 4;
    const block = new Uint8Array(16 + length);
    const view = new DataView(block.buffer);
    view.setUint32(0, 3, true);
    view.setUint32(4, block.length, true);
    view.setUint32(8, length, true);
    view.setUint32(block.length - 4, block.length, true);
    const idb = IDB_LE.replace('04000000', '00000000');
    const bytes = Uint8Array.from([...fromHex(SHB_LE + idb), ...block]);
    expect(failure(bytes).message).toContain(`more than the ${MAX_CAPTURED_BYTES} of any capture`);
  });

  it.each([
    ['an unknown interface', { data: new Uint8Array(1), interfaceIndex: 1 }],
    ['a negative timestamp', { data: new Uint8Array(1), timestampNs: -1n }],
    ['a comment of 64 KiB', { data: new Uint8Array(1), comment: 'x'.repeat(65_536) }],
    ['a negative verdict', { data: new Uint8Array(1), xdpVerdict: -1 }],
  ])('refuses to write %s', (_name, packet) => {
    expect(() => writePcapng([packet])).toThrow(expect.objectContaining({ code: 'packet-invalid' }));
  });
});

describe('readCapture', () => {
  it('tells the formats apart', () => {
    expect(detectCaptureFormat(PCAP_BE_NS)).toBe('pcap');
    expect(detectCaptureFormat(fromHex(SHB_BE))).toBe('pcapng');
    expect(detectCaptureFormat(Uint8Array.of(1, 2, 3))).toBeUndefined();
  });

  it.each([
    ['nothing', '', 'an empty file is neither a pcap nor a pcapng file', undefined],
    ['text', '68656c6c6f', 'this is neither a pcap nor a pcapng file', undefined],
    ['gzip', '1f8b0800', 'a gzip file is neither a pcap nor a pcapng file', 'decompress it first'],
  ])('refuses %s', (_name, hex, message, hint) => {
    expect(failure(fromHex(hex))).toMatchObject({ code: 'pcap-invalid', message, hint, at: { offset: 0 } });
  });

  const anyPacket = fc.record({
    timestampNs: fc.bigInt({ min: 0n, max: 4_294_967_295_999_999_999n }),
    data: fc.uint8Array({ maxLength: 70 }),
    originalLength: fc.nat(0xffff_ffff),
  });
  const endian = fc.constantFrom('little' as const, 'big' as const);

  it('reads what writePcap wrote', () => {
    fc.assert(
      fc.property(fc.array(anyPacket), endian, (packets, order) => {
        const expected = packets.map((packet) => ({ ...packet, interfaceIndex: 0 }));
        expect(readCapture(writePcap(packets, { endian: order })).packets).toEqual(expected);
      }),
    );
  });

  it('reads what writePcapng wrote', () => {
    const annotated = fc
      .tuple(
        anyPacket,
        fc.nat(1),
        fc.record({ comment: fc.string({ unit: 'grapheme' }), xdpVerdict: fc.nat(4) }, { requiredKeys: [] }),
      )
      .map(([packet, interfaceIndex, notes]) => ({ ...packet, interfaceIndex, ...notes }));
    const interfaces = [{ name: 'nic' }, { name: 'tap0', linkType: 101, snapLength: 96 }];
    fc.assert(
      fc.property(fc.array(annotated), endian, (packets, order) => {
        const capture = readCapture(writePcapng(packets, { endian: order, interfaces }));
        expect(capture.packets).toEqual(packets);
        expect(capture.interfaces).toEqual([
          { linkType: 1, snapLength: 0, fcsBytes: 0, name: 'nic' },
          { linkType: 101, snapLength: 96, fcsBytes: 0, name: 'tap0' },
        ]);
      }),
    );
  });

  it('reads or refuses any damaged file, with an offset inside it', () => {
    const packets = [60, 0, 61, 64].map((length) => ({
      data: new Uint8Array(length),
      comment: 'c',
      xdpVerdict: 2,
    }));
    const originals = [
      writePcap(packets),
      writePcap(packets, { endian: 'big', resolution: 'us' }),
      writePcapng(packets),
      writePcapng(packets, { endian: 'big', interfaces: [{ name: 'tap0' }] }),
      fromHex(SHB_LE + IDB_LE + EPB_AND_SPB),
    ];
    const extreme = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 4, 0x7f, 0x80, 0xff));
    const damaged = fc
      .tuple(
        fc.constantFrom(...originals),
        fc.array(fc.tuple(fc.nat(400), extreme), { maxLength: 6 }),
        fc.option(fc.nat(500)),
      )
      .map(([original, changes, cut]) => {
        const bytes = original.slice(0, cut ?? undefined);
        for (const [offset, value] of changes) if (offset < bytes.length) bytes[offset] = value;
        return bytes;
      });
    let refused = 0;
    let read = 0;
    fc.assert(
      fc.property(damaged, (bytes) => {
        try {
          const capture = readCapture(bytes);
          read++;
          const total = capture.packets.reduce((sum, packet) => sum + packet.data.length, 0);
          expect(total).toBeLessThanOrEqual(bytes.length);
          for (const packet of capture.packets) expect(packet.data.buffer).toBe(bytes.buffer);
        } catch (error) {
          if (!(error instanceof XdpbedError)) throw error;
          refused++;
          expect(error.code).toBe('pcap-invalid');
          expect((error.at as { offset: number }).offset).toBeLessThanOrEqual(bytes.length);
        }
      }),
      { seed: 19, numRuns: 5000 },
    );
    // Both ways are taken, or the fuzzing proves nothing.
    expect(refused).toBeGreaterThan(500);
    expect(read).toBeGreaterThan(500);
  });
});

const EPB_AND_SPB =
  '06000000 24000000 00000000 00000000 02000000 02000000 02000000 aabb0000 24000000' +
  '03000000 14000000 3c000000 aabbccdd 14000000';

describe('ethernetFrames', () => {
  it('takes the FCS off whole frames only', () => {
    const bytes = writePcap([
      { data: new Uint8Array(64) },
      { data: new Uint8Array(64), originalLength: 1518 },
    ]);
    bytes[23] = 0x24;
    expect(ethernetFrames(readCapture(bytes)).map((packet) => packet.data.length)).toEqual([60, 64]);
  });

  it('refuses other link types', () => {
    const bytes = writePcap([{ data: new Uint8Array(20) }], { linkType: 101 });
    expect(() => ethernetFrames(readCapture(bytes))).toThrow('packet 1 has link type 101, not Ethernet (1)');
  });

  it('has nothing to refuse in an empty capture', () => {
    expect(ethernetFrames(readCapture(encodePcapHeader({ linkType: 101 })))).toEqual([]);
  });
});

const missing = (tool: string): boolean =>
  spawnSync(tool, ['--version'], { stdio: 'ignore' }).error !== undefined;
const noTcpdump = missing('tcpdump');
const noTshark = missing('tshark');
const unless = (absent: boolean, tool: string): string =>
  absent ? ` (skipped: ${tool} is not installed)` : '';

describe('files as other tools see them', () => {
  const eth = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
  const packets = [
    {
      timestampNs: 1_574_726_400_123_456_789n,
      data: buildFrame({
        eth,
        vlan: [{ id: 10 }],
        ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
        udp: { srcPort: 40000, dstPort: 9000 },
        payload: new TextEncoder().encode('xdpbed'),
      }),
      comment: 'dropped in the tap',
      xdpVerdict: 1,
    },
    {
      timestampNs: 1_574_726_401_000_000_000n,
      data: buildFrame({
        eth,
        ipv6: { src: '2001:db8::1', dst: '2001:db8::2' },
        tcp: { srcPort: 40001, dstPort: 9001, flags: ['SYN'] },
      }),
    },
  ];
  const files = {
    'nanosecond pcap': writePcap(packets),
    'big-endian microsecond pcap': writePcap(packets, { endian: 'big', resolution: 'us' }),
    pcapng: writePcapng(packets, { interfaces: [{ name: 'tap0' }] }),
    'big-endian pcapng': writePcapng(packets, { endian: 'big' }),
  };

  it.skipIf(noTcpdump).each(Object.entries(files))(
    `tcpdump reads a %s and finds the checksums right${unless(noTcpdump, 'tcpdump')}`,
    (_name, bytes) => {
      // From standard input: AppArmor keeps tcpdump out of some folders.
      const text = execFileSync('tcpdump', ['-r', '-', '-nn', '-vv', '-e', '-tt'], {
        input: bytes,
        stdio: ['pipe', 'pipe', 'ignore'],
        encoding: 'utf8',
      });
      expect(text).toMatch(/1574726400\.123456/);
      expect(text).toMatch(
        /vlan 10.*\n\s*192\.0\.2\.1\.40000 > 192\.0\.2\.2\.9000: \[udp sum ok\] UDP, length 6/,
      );
      expect(text).toMatch(
        /2001:db8::1\.40001 > 2001:db8::2\.9001: Flags \[S\], cksum 0x[0-9a-f]{4} \(correct\)/,
      );
    },
  );

  it.skipIf(noTshark)(`tshark reads pcapng with its annotations${unless(noTshark, 'tshark')}`, () => {
    // A file: tshark cannot read the socket that Node makes of a child's standard input.
    const folder = mkdtempSync(join(tmpdir(), 'xdpbed-capture-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'annotated.pcapng');
    writeFileSync(file, files.pcapng);
    const fields = ['frame.time_epoch', 'frame.interface_name', 'frame.comment', 'frame.verdict.ebpf_xdp'];
    const checks = ['ip.checksum.status', 'udp.checksum.status', 'tcp.checksum.status'];
    const args = [
      ...['-r', file, '-T', 'fields', '-E', 'separator=|'],
      ...['ip', 'udp', 'tcp'].flatMap((protocol) => ['-o', `${protocol}.check_checksum:TRUE`]),
      ...[...fields, ...checks].flatMap((field) => ['-e', field]),
    ];
    const text = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    // Checksum status 1 is "good".
    expect(text.trim().split('\n')).toEqual([
      '1574726400.123456789|tap0|dropped in the tap|1|1|1|',
      '1574726401.000000000|tap0|||||1',
    ]);
  });
});
