import { describe, expect, it } from 'vitest';
import { buildFrame, type FrameSpec, type VlanSpec } from '../../src/packet/index.js';
import { flowQueue } from './flow-hash.js';

interface Endpoint {
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly port: number;
}

/** Numbers of a 32-bit linear congruential generator (Numerical Recipes), its upper bits: reproducible flows. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function endpoint(next: (below: number) => number): Endpoint {
  const hex = (below: number) => next(below).toString(16);
  return {
    mac: `52:54:00:00:00:${hex(256).padStart(2, '0')}`,
    ipv4: `10.${next(256)}.${next(256)}.${next(256)}`,
    ipv6: `2001:db8:${hex(65536)}:${hex(65536)}:${hex(65536)}:${hex(65536)}:${hex(65536)}:${hex(65536)}`,
    port: next(65536),
  };
}

interface Shape {
  readonly ip: 4 | 6;
  readonly transport: 'udp' | 'tcp' | 'icmp';
  readonly vlan?: readonly VlanSpec[];
}

function frame(shape: Shape, from: Endpoint, to: Endpoint, size?: number): Uint8Array {
  const ports = { srcPort: from.port, dstPort: to.port };
  const transport: Partial<FrameSpec> =
    shape.transport === 'udp' ? { udp: ports } : shape.transport === 'tcp' ? { tcp: ports } : {};
  const icmp = shape.transport === 'icmp';
  const ip: Partial<FrameSpec> =
    shape.ip === 4
      ? { ipv4: { src: from.ipv4, dst: to.ipv4, ...(icmp && { protocol: 1 }) } }
      : { ipv6: { src: from.ipv6, dst: to.ipv6, ...(icmp && { nextHeader: 58 }) } };
  return buildFrame({
    eth: { src: from.mac, dst: to.mac },
    ...(shape.vlan !== undefined && { vlan: shape.vlan }),
    ...ip,
    ...transport,
    ...(size !== undefined && { size }),
  });
}

const SHAPES: [string, Shape][] = [
  ['UDP over IPv4', { ip: 4, transport: 'udp' }],
  ['TCP over IPv4', { ip: 4, transport: 'tcp' }],
  ['ICMP over IPv4', { ip: 4, transport: 'icmp' }],
  ['UDP over IPv6', { ip: 6, transport: 'udp' }],
  ['TCP over IPv6', { ip: 6, transport: 'tcp' }],
  ['ICMP over IPv6', { ip: 6, transport: 'icmp' }],
  ['UDP over IPv4 with a VLAN tag', { ip: 4, transport: 'udp', vlan: [{ id: 100 }] }],
  ['TCP over IPv6 with a VLAN tag', { ip: 6, transport: 'tcp', vlan: [{ id: 100 }] }],
  ['UDP over IPv4 with two VLAN tags', { ip: 4, transport: 'udp', vlan: [{ id: 7 }, { id: 100 }] }],
];
const QUEUE_COUNTS = [2, 3, 4, 5, 8, 16];

describe.each(SHAPES)('a flow of %s', (_, shape) => {
  it('goes to the same queue in both directions, and whatever its frames’ length', () => {
    const next = numbers(1);
    for (let flow = 0; flow < 200; flow++) {
      const [a, b] = [endpoint(next), endpoint(next)];
      for (const queues of QUEUE_COUNTS) {
        const queue = flowQueue(frame(shape, a, b), queues);
        expect(flowQueue(frame(shape, b, a), queues)).toBe(queue);
        expect(flowQueue(frame(shape, a, b, 512), queues)).toBe(queue);
        expect(Number.isInteger(queue) && queue >= 0 && queue < queues).toBe(true);
      }
    }
  });
});

/** Frames of many flows by queue. */
function spread(flows: readonly Uint8Array[], queues: number): number[] {
  const counts = new Array<number>(queues).fill(0);
  for (const bytes of flows) counts[flowQueue(bytes, queues)]!++;
  return counts;
}

/**
 * Bounds that a count of an even spread keeps: it is binomial with variance n/q·(1 − 1/q), and five standard
 * deviations are exceeded by one in 1.7 million.
 */
function evenShare(flows: number, queues: number): { least: number; most: number } {
  const mean = flows / queues;
  const margin = 5 * Math.sqrt(mean * (1 - 1 / queues));
  return { least: mean - margin, most: mean + margin };
}

describe('many flows', () => {
  const FLOWS = 2000;

  /** Flows between two endpoints that differ in what `vary` draws anew. */
  function flows(shape: Shape, vary: 'everything' | 'addresses' | 'one port'): Uint8Array[] {
    const next = numbers(2);
    const [a, b] = [endpoint(next), endpoint(next)];
    return Array.from({ length: FLOWS }, () => {
      const fresh = endpoint(next);
      switch (vary) {
        case 'everything':
          return frame(shape, fresh, endpoint(next));
        case 'addresses':
          return frame(shape, { ...fresh, port: a.port }, b);
        case 'one port':
          return frame(shape, { ...a, port: fresh.port }, b);
      }
    });
  }

  it.each([
    ['UDP over IPv4', 'everything', { ip: 4, transport: 'udp' }],
    ['UDP over IPv4', 'addresses', { ip: 4, transport: 'udp' }],
    ['UDP over IPv4', 'one port', { ip: 4, transport: 'udp' }],
    ['ICMP over IPv4', 'addresses', { ip: 4, transport: 'icmp' }],
    ['TCP over IPv6', 'addresses', { ip: 6, transport: 'tcp' }],
    ['TCP over IPv6', 'one port', { ip: 6, transport: 'tcp' }],
    ['tagged UDP over IPv4', 'one port', { ip: 4, transport: 'udp', vlan: [{ id: 100 }] }],
  ] as const)('of %s that differ in %s spread evenly over the queues', (_, vary, shape) => {
    const frames = flows(shape, vary);
    for (const queues of QUEUE_COUNTS) {
      const { least, most } = evenShare(FLOWS, queues);
      for (const count of spread(frames, queues)) {
        expect(count).toBeGreaterThan(least);
        expect(count).toBeLessThan(most);
      }
    }
  });

  it('all go to the only queue there is', () => {
    expect(spread(flows({ ip: 4, transport: 'udp' }, 'everything'), 1)).toEqual([FLOWS]);
  });
});

describe('a frame without a flow', () => {
  it('goes to one queue, whoever sends it', () => {
    const arp = (last: string) =>
      buildFrame({ eth: { src: `52:54:00:00:00:${last}`, dst: 'ff:ff:ff:ff:ff:ff', type: 0x0806 } });
    for (const queues of QUEUE_COUNTS)
      expect(flowQueue(arp('01'), queues)).toBe(flowQueue(arp('02'), queues));
  });

  it('may be cut off anywhere', () => {
    const next = numbers(3);
    const whole = frame({ ip: 6, transport: 'tcp', vlan: [{ id: 1 }] }, endpoint(next), endpoint(next));
    for (let length = 0; length <= whole.length; length++) {
      const queue = flowQueue(whole.subarray(0, length), 4);
      expect(Number.isInteger(queue) && queue >= 0 && queue < 4).toBe(true);
    }
  });
});
