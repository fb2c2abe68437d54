import { Type } from '@sinclair/typebox';
import { definePlugin, WORKLOAD, type Workload, type WorkloadContext, type WorkloadFrame } from 'xdpbed';
import { buildFrame, formatMac } from 'xdpbed/packet';

/** A workload written against the published package alone: queries to port 53 of each target in turn. */
export class DnsQueries implements Workload {
  readonly name = 'dns-queries';

  constructor(readonly count: number) {}

  *frames({ random, targets, senderMac }: WorkloadContext): Iterable<WorkloadFrame> {
    for (let index = 0; index < this.count; index++) {
      const target = targets[index % targets.length]!;
      const id = random() & 0xffff;
      // RFC 1035 section 4.1.1: id, flags (recursion desired), one question; the root's NS records.
      const query = [id >> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
      const bytes = buildFrame({
        eth: { src: formatMac(senderMac), dst: formatMac(target.mac) },
        ipv4: { src: '198.51.100.1', dst: target.ipv4.join('.') },
        udp: { srcPort: 1024 + (index % 1000), dstPort: 53 },
        payload: Uint8Array.from(query),
      });
      // A microsecond apart.
      yield { bytes, at: index * 1_000_000 };
    }
  }
}

export default definePlugin({
  name: 'dns-queries',
  version: '1.0.0',
  role: 'workload',
  api: '^2',
  description: 'DNS queries to each target in turn',
  configSchema: Type.Object(
    { count: Type.Integer({ minimum: 1, default: 100, description: 'queries' }) },
    { additionalProperties: false },
  ),
  register(scope, config) {
    scope.bindFactory(WORKLOAD, () => new DnsQueries(config.count));
  },
});
