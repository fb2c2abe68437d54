import { Ajv } from 'ajv';
import { describe, expect, it, vi } from 'vitest';
import { workloadConformance, workloadContext } from '../../src/conformance/workload/index.js';
import { WORKLOAD, type Workload, type WorkloadFrame } from '../../src/core/contract/workload.js';
import { Scope } from '../../src/core/plugin/scope.js';
import { buildFrame, formatMac, type PacketToWrite, writePcap, writePcapng } from '../../src/packet/index.js';
import plugin from './index.js';

const frameTo = (dst: string, srcPort = 1) =>
  buildFrame({
    eth: { src: '02:00:00:00:00:01', dst },
    ipv4: { src: '10.0.0.1', dst: '10.0.0.2' },
    udp: { srcPort, dstPort: 2 },
  });

/** To three hosts, and one of them again, then to all: 0, 1, 3, 6 and 8 µs after the first. */
const START = 1_700_000_000_000_000_000n;
const THREE: PacketToWrite[] = [
  { data: frameTo('02:aa:00:00:00:01'), timestampNs: START },
  { data: frameTo('02:aa:00:00:00:02'), timestampNs: START + 1000n },
  { data: frameTo('02:aa:00:00:00:03'), timestampNs: START + 3000n },
  { data: frameTo('02:aa:00:00:00:02', 9), timestampNs: START + 6000n },
  { data: frameTo('ff:ff:ff:ff:ff:ff'), timestampNs: START + 8000n },
];

function replay(config: object): Workload {
  const filled = { ...config };
  const check = new Ajv({ useDefaults: true, strict: false }).compile(plugin.configSchema);
  if (!check(filled)) throw new Error(JSON.stringify(check.errors));
  const scope = new Scope('test');
  void plugin.register(scope, filled);
  return scope.resolve(WORKLOAD);
}

/** What a file with this content gives. */
function framesOf(content: Uint8Array, config: object = {}, targets = 2): WorkloadFrame[] {
  const files = { 'given.pcap': content };
  return [...replay({ file: 'given.pcap', ...config }).frames(workloadContext({ files, targets }))];
}

const files = { 'three.pcap': writePcap(THREE) };
workloadConformance('pcap-replay', () => replay({ file: 'three.pcap', loop: 3 }), { files });
workloadConformance('pcap-replay, as captured', () => replay({ file: 'three.pcap', rewrite: 'none' }), {
  files,
  reachesEveryTarget: false,
});

describe('pcap-replay', () => {
  it('sends at the captured times, counted from the first packet', () => {
    const frames = framesOf(writePcapng(THREE));
    expect(frames.map(({ at }) => at)).toEqual([0, 1_000_000, 3_000_000, 6_000_000, 8_000_000]);
  });

  it('hands the captured destinations out to the targets, and leaves groups alone', () => {
    const destinations = framesOf(writePcapng(THREE)).map(({ bytes }) => formatMac(bytes));
    expect(destinations).toEqual([
      '52:54:00:12:34:00',
      '52:54:00:12:34:01',
      // The third destination: two targets, so the first again. The fourth packet goes where the second went.
      '52:54:00:12:34:00',
      '52:54:00:12:34:01',
      'ff:ff:ff:ff:ff:ff',
    ]);
  });

  it('changes nothing but the destination, and with rewrite: none nothing', () => {
    const rewritten = framesOf(writePcapng(THREE));
    const asCaptured = framesOf(writePcapng(THREE), { rewrite: 'none' });
    for (const [index, { data }] of THREE.entries()) {
      expect([...rewritten[index]!.bytes.subarray(6)]).toEqual([...data.subarray(6)]);
      expect([...asCaptured[index]!.bytes]).toEqual([...data]);
    }
  });

  it('loops at the mean distance', () => {
    const times = framesOf(writePcapng(THREE), { loop: 2 }).map(({ at }) => at);
    // Five packets in 8 µs are 2 µs apart on average: the second pass starts at 10 µs.
    expect(times).toEqual(
      [0, 1, 3, 6, 8, 10, 11, 13, 16, 18].map((microseconds) => microseconds * 1_000_000),
    );
  });

  it('loops a single packet every microsecond', () => {
    const times = framesOf(writePcapng(THREE.slice(0, 1)), { loop: 3 }).map(({ at }) => at);
    expect(times).toEqual([0, 1_000_000, 2_000_000]);
  });

  it('keeps the order of the file where its times step back', () => {
    const packets = [THREE[1]!, THREE[0]!, THREE[2]!];
    const frames = framesOf(writePcapng(packets), { rewrite: 'none' });
    expect(frames.map(({ bytes }) => bytes[5])).toEqual([2, 1, 3]);
    expect(frames.map(({ at }) => at)).toEqual([0, 0, 2_000_000]);
  });

  it('fills what the snaplen cut off with zeros', () => {
    const data = frameTo('02:aa:00:00:00:01').subarray(0, 34);
    const [frame] = framesOf(writePcapng([{ data, originalLength: 100 }]), { rewrite: 'none' });
    expect([...frame!.bytes]).toEqual([...data, ...new Array<number>(66).fill(0)]);
  });

  it.each(['destination', 'none'])('fills no frame before it is asked for (rewrite: %s)', (rewrite) => {
    const data = frameTo('02:aa:00:00:00:01').subarray(0, 14);
    const short = writePcap(Array.from({ length: 2000 }, () => ({ data, originalLength: 70_000 })));
    const files = { 'short.pcap': short };
    const frames = replay({ file: 'short.pcap', rewrite }).frames(workloadContext({ files }));
    let allocated = 0;
    const Plain = Uint8Array;
    vi.stubGlobal(
      'Uint8Array',
      new Proxy(Plain, {
        construct(target, parameters: [number], newTarget) {
          if (typeof parameters[0] === 'number') allocated += parameters[0];
          return Reflect.construct(target, parameters, newTarget) as object;
        },
      }),
    );
    const first = frames[Symbol.iterator]().next();
    vi.unstubAllGlobals();
    expect(allocated).toBeGreaterThanOrEqual(70_000);
    expect(allocated).toBeLessThan(2 * 70_000);
    expect(first.done).toBe(false);
  });

  it('gives each frame, of every pass, bytes of its own', () => {
    const frames = framesOf(writePcapng(THREE), { loop: 2 });
    const before = frames.map(({ bytes }) => [...bytes]);
    frames[0]!.bytes.fill(0xff);
    expect(frames.slice(1).map(({ bytes }) => [...bytes])).toEqual(before.slice(1));
    expect(frames[5]!.bytes.subarray(0, 6)).toEqual(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0));
  });

  it.each([
    ['an empty capture', writePcapng([]), 'pcap-invalid', 'given.pcap holds no packets'],
    [
      'a text file',
      Buffer.from('not a capture'),
      'pcap-invalid',
      'given.pcap: this is neither a pcap nor a pcapng',
    ],
    [
      'a frame longer than XDP takes',
      writePcapng([{ data: new Uint8Array(73_153) }]),
      'pcap-invalid',
      'given.pcap: packet 1 has 73153 bytes, more than the 73152',
    ],
    [
      'a cut packet that claims to be huge',
      writePcapng([{ data: new Uint8Array(60), originalLength: 0xffff_ffff }]),
      'pcap-invalid',
      'packet 1 has 4294967295 bytes',
    ],
    [
      'a packet shorter than an Ethernet header',
      writePcapng([THREE[0]!, { data: new Uint8Array(13) }]),
      'pcap-invalid',
      'given.pcap: packet 2 has 13 bytes, less than the 14',
    ],
    [
      'another link type',
      writePcapng([{ data: new Uint8Array(60) }], { interfaces: [{ linkType: 101 }] }),
      'pcap-invalid',
      'given.pcap: packet 1 has link type 101',
    ],
  ])('refuses %s', (_what, content, code, message) => {
    expect(() => framesOf(content)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) as string }),
    );
  });

  it('says where a broken file breaks', () => {
    const content = writePcap(THREE);
    // The file header is 24 bytes; a record header of 16 needs more than is left here.
    expect(() => framesOf(content.subarray(0, 30))).toThrow(
      expect.objectContaining({ at: { file: 'given.pcap', offset: 24 } }),
    );
  });

  it('says which file it reads', () => {
    expect(plugin.files?.({ file: 'captures/dns.pcap', rewrite: 'none', loop: 1 })).toEqual([
      'captures/dns.pcap',
    ]);
  });

  it('refuses to send to nobody, unless the frames have addresses of their own', () => {
    expect(() => framesOf(writePcapng(THREE), {}, 0)).toThrow('no guest to send to');
    expect(framesOf(writePcapng(THREE), { rewrite: 'none' }, 0)).toHaveLength(5);
  });

  it.each([{}, { file: '' }, { file: 'x', loop: 0 }, { file: 'x', rewrite: 'source' }])(
    'refuses the config %j',
    (config) => {
      expect(() => replay(config)).toThrow();
    },
  );
});
