import { dissect, findLayer } from '../../src/packet/index.js';

/**
 * Which queue a flow goes to: a hash of addresses, protocol and ports, so that a flow keeps to one queue. The
 * same for both directions (addresses and ports are combined by xor), as tun's automatic queue selection
 * expects.
 */
export function flowQueue(bytes: Uint8Array, queues: number): number {
  if (queues === 1) return 0;
  const packet = dissect(bytes);
  const ip = findLayer(packet, 'ipv4') ?? findLayer(packet, 'ipv6');
  const ports = findLayer(packet, 'udp') ?? findLayer(packet, 'tcp');
  let hash = 0x811c9dc5;
  const mix = (value: number): void => {
    hash = Math.imul(hash ^ (value & 0xff), 0x01000193);
  };
  if (ip !== undefined) {
    const addresses =
      ip.kind === 'ipv4'
        ? bytes.subarray(ip.offset + 12, ip.offset + 20)
        : bytes.subarray(ip.offset + 8, ip.offset + 40);
    const half = addresses.length / 2;
    for (let i = 0; i < half; i++) mix(addresses[i]! ^ addresses[half + i]!);
  }
  if (ports !== undefined) {
    mix(bytes[ports.offset]! ^ bytes[ports.offset + 2]!);
    mix(bytes[ports.offset + 1]! ^ bytes[ports.offset + 3]!);
  }
  return (hash >>> 0) % queues;
}
