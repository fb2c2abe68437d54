import { expect, it } from 'vitest';
import { Scope, WORKLOAD } from 'xdpbed';
import { workloadConformance, workloadContext } from 'xdpbed/conformance';
import { dissect, findLayer } from 'xdpbed/packet';
import plugin, { DnsQueries } from './index.js';

workloadConformance('dns-queries', () => new DnsQueries(50));

it('sends queries to port 53', () => {
  const scope = new Scope('test');
  void plugin.register(scope, { count: 2 });
  const frames = [...scope.resolve(WORKLOAD).frames(workloadContext())];
  expect(frames.map(({ bytes }) => findLayer(dissect(bytes), 'udp')?.header.dstPort)).toEqual([53, 53]);
});
