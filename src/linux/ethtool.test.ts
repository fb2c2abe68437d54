import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { driverStatistics, setReceiveOffload } from './ethtool.js';
import { probeNamespaces, testingNamespace, type TestingNamespace } from './testing-namespace.js';

const probe = probeNamespaces();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`ethtool${skipped}`, () => {
  let namespace: TestingNamespace;
  beforeAll(() => {
    namespace = testingNamespace();
    const queues = ['numrxqueues', '2', 'numtxqueues', '2'];
    namespace.ip('link', 'add', 'name', 'veth0', ...queues, 'type', 'veth', 'peer', 'name', 'veth1');
  });
  afterAll(() => namespace.close());

  it('reads the counters of a driver by name', () => {
    const counters = driverStatistics('veth0', namespace);
    expect([...counters.keys()]).toEqual(
      expect.arrayContaining(['rx_queue_0_xdp_packets', 'tx_queue_1_xdp_xmit_errors']),
    );
    expect(counters.get('tx_queue_0_xdp_xmit_errors')).toBe(0);
  });

  it('says so where there are none', () => {
    expect(() => driverStatistics('lo', namespace)).toThrow(
      'interface lo tells nothing to ethtool: EOPNOTSUPP',
    );
    expect(() => driverStatistics('none', namespace)).toThrow(
      'interface none tells nothing to ethtool: ENODEV',
    );
  });

  it('switches generic receive offload', () => {
    setReceiveOffload('veth0', true, namespace);
    setReceiveOffload('veth0', false, namespace);
    expect(() => setReceiveOffload('none', true, namespace)).toThrow('ENODEV');
  });
});
