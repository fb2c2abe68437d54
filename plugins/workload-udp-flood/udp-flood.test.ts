import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { workloadConformance, workloadContext } from '../../src/conformance/workload/index.js';
import { WORKLOAD } from '../../src/core/contract/workload.js';
import { Scope } from '../../src/core/plugin/scope.js';
import { checkChecksums, dissect, findLayer } from '../../src/packet/index.js';
import plugin from './index.js';
import type { UdpFloodConfig } from './udp-flood.js';
import { UdpFlood } from './udp-flood.js';

function flood(config: Partial<UdpFloodConfig> = {}): UdpFlood {
  const defaults = { frames: 1000, size: 60, flows: 1, rate: 1_000_000, protocol: 'udp', ip: 4 } as const;
  return new UdpFlood({ ...defaults, ...config });
}

workloadConformance('udp-flood', () => flood());
workloadConformance('udp-flood, tcp over IPv6 in a VLAN', () =>
  flood({ protocol: 'tcp', ip: 6, vlan: 7, flows: 300, size: 200 }),
);

describe('udp-flood', () => {
  it('sends what its defaults say: 1000 frames of 60 bytes in a millisecond', () => {
    const config: Record<string, unknown> = {};
    expect(new Ajv({ useDefaults: true, strict: false }).validate(plugin.configSchema, config)).toBe(true);
    const scope = new Scope('test');
    void plugin.register(scope, config as UdpFloodConfig);
    const frames = [...scope.resolve(WORKLOAD).frames(workloadContext({ targets: 1 }))];

    expect(frames).toHaveLength(1000);
    expect(frames[1]!.at).toBe(1_000_000);
    expect(frames[999]!.at).toBe(999_000_000);
    const { bytes } = frames[0]!;
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '525400123400' +
        '0200000000fe' +
        '0800' +
        // IPv4: total length 46 = 60 − 14. 4500+002e+4011+c612+0001+c000+0201 = 20d53, folded 0d55.
        '4500002e000000004011' +
        'f2aa' +
        'c6120001' +
        'c0000201' +
        // UDP 1024 → 9, length 26. c612+0001+c000+0201+0011+001a +0400+0009+001a = 18c62, folded 8c63.
        '04000009001a' +
        '739c' +
        '00'.repeat(18),
    );
  });

  it('goes to the targets in turn and, at each, through the flows in turn', () => {
    const seen = [...flood({ frames: 8, flows: 2 }).frames(workloadContext({ targets: 2 }))].map(
      ({ bytes }) => {
        const udp = findLayer(dissect(bytes), 'udp')!;
        return `${bytes[5]!}:${udp.header.srcPort}`;
      },
    );
    expect(seen).toEqual(['0:1024', '1:1024', '0:1025', '1:1025', '0:1024', '1:1024', '0:1025', '1:1025']);
  });

  it('tells flows apart by port, then by address', () => {
    const sources = [...flood({ frames: 600, flows: 600 }).frames(workloadContext({ targets: 1 }))].map(
      ({ bytes }) => {
        const dissection = dissect(bytes);
        return `${findLayer(dissection, 'ipv4')!.header.src}:${findLayer(dissection, 'udp')!.header.srcPort}`;
      },
    );
    expect(new Set(sources).size).toBe(600);
    expect([sources[0], sources[255], sources[256], sources[599]]).toEqual([
      '198.18.0.1:1024',
      '198.18.0.1:1279',
      '198.18.0.2:1024',
      // 599 = 2 · 256 + 87
      '198.18.0.3:1111',
    ]);
  });

  it('sends the same whether or not frames are kept as templates', () => {
    // 4097 flows are one more than are kept: every frame is built anew. The first 300 flows are the same.
    const sent = (flows: number) =>
      [...flood({ frames: 300, flows }).frames(workloadContext({ targets: 1 }))].map(({ bytes }) =>
        Buffer.from(bytes).toString('hex'),
      );
    expect(sent(4097)).toEqual(sent(300));
  });

  it.each([
    ['udp', 4, undefined, 60],
    // 14 + 40 + 8
    ['udp', 6, undefined, 62],
    // 14 + 4 + 40 + 20
    ['tcp', 6, 100, 78],
  ] as const)('sends %s over IPv%i, VLAN %s, as %i bytes at least', (protocol, ip, vlan, length) => {
    const config = { protocol, ip, frames: 1, ...(vlan !== undefined && { vlan }) };
    const [frame] = [...flood(config).frames(workloadContext())];
    expect(frame!.bytes).toHaveLength(length);
    const dissection = dissect(frame!.bytes);
    expect(dissection.malformed ?? dissection.missing).toBeUndefined();
    expect(findLayer(dissection, 'vlan')?.header.id).toBe(vlan);
    expect(findLayer(dissection, protocol)).toBeDefined();
    expect(findLayer(dissection, 'ipv6')?.header.dst).toBe(ip === 6 ? '2001:2:0:1::c000:201' : undefined);
    expect(Object.values(checkChecksums(frame!.bytes, dissection))).not.toContain('bad');
  });

  it('is exactly as long as asked when the headers fit', () => {
    for (const size of [60, 61, 1514, 9014, 65_549]) {
      const [frame] = [...flood({ size, frames: 1 }).frames(workloadContext())];
      expect(frame!.bytes).toHaveLength(size);
    }
  });

  it('gives each TCP segment a sequence number of the seed', () => {
    const sequence = (seed: number) =>
      [...flood({ protocol: 'tcp', frames: 3 }).frames(workloadContext({ seed }))].map(
        ({ bytes }) => findLayer(dissect(bytes), 'tcp')!.header.seq,
      );
    expect(new Set(sequence(1)).size).toBe(3);
    expect(sequence(1)).not.toEqual(sequence(2));
  });

  it('keeps time exactly at a rate that does not divide a second', () => {
    const times = [...flood({ rate: 3, frames: 4 }).frames(workloadContext())].map(({ at }) => at);
    expect(times).toEqual([0, 333_333_333_333, 666_666_666_666, 1_000_000_000_000]);
  });

  it('refuses to send to nobody', () => {
    expect(() => [...flood().frames(workloadContext({ targets: 0 }))]).toThrow('no guest to send to');
  });

  it.each([
    { size: 59 },
    { size: 65_550 },
    { frames: 0 },
    { rate: 0 },
    { protocol: 'sctp' },
    { ip: 5 },
    { vlan: 4095 },
    { flow: 1 },
  ])('refuses the config %o', (config) => {
    expect(new Ajv({ strict: false }).compile(plugin.configSchema)({ ...flood().config, ...config })).toBe(
      false,
    );
  });
});
