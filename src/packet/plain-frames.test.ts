import { describe, expect, it } from 'vitest';
import { dissect, findLayer } from './dissect.js';
import { buildFrame } from './frame-builder.js';
import { tcp, udp } from './plain-frames.js';

describe('frames in one line', () => {
  it('are what buildFrame makes of all their layers', () => {
    expect(udp()).toEqual(
      buildFrame({
        eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' },
        ipv4: { src: '198.51.100.1', dst: '192.0.2.1' },
        udp: { srcPort: 49152, dstPort: 9 },
      }),
    );
    expect(
      tcp({
        dst: '2001:db8::53',
        dstPort: 80,
        flags: ['SYN'],
        seq: 7,
        payload: 'hi',
        vlan: [{ id: 5 }],
        ipv6: { hopLimit: 3 },
        eth: { dst: '02:00:00:00:00:09' },
      }),
    ).toEqual(
      buildFrame({
        eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:09' },
        vlan: [{ id: 5 }],
        ipv6: { src: '2001:db8::1', dst: '2001:db8::53', hopLimit: 3 },
        tcp: { srcPort: 49152, dstPort: 80, flags: ['SYN'], seq: 7 },
        payload: Uint8Array.of(0x68, 0x69),
      }),
    );
  });

  it('take the family of the address that is given, and have no frame of two', () => {
    expect(findLayer(dissect(udp({ src: '2001:db8::7' })), 'ipv6')?.header.dst).toBe('2001:db8::2');
    expect(() => udp({ src: '2001:db8::7', dst: '192.0.2.1' })).toThrow('192.0.2.1');
    expect(() => udp({ ipv6: {}, ipv4: {} })).toThrow('a frame has ipv4 or ipv6, not both');
  });
});
