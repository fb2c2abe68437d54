import { describe, expect, it } from 'vitest';
import { FdbWatch } from './bridge-fdb.js';
import { limitLearnedAddresses } from './bridge-limit.js';
import { probeBpf } from './bpf-probe.js';
import { PacketSocket } from './packet-socket.js';
import { probeNamespaces, testingNamespace } from './testing-namespace.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`limitLearnedAddresses${skipped}`, () => {
  it('has a bridge learn so many, and no more', () => {
    const namespace = testingNamespace();
    let socket: PacketSocket | undefined;
    try {
      namespace.ip('link', 'add', 'br0', 'index', '11', 'type', 'bridge');
      namespace.ip(...'link add name a index 12 type veth peer name b index 13'.split(' '));
      // What the kernel itself may send there, its IPv6 for one, is from one of the senders, so that it is counted as well.
      namespace.ip('link', 'set', 'dev', 'b', 'address', '02:00:00:00:00:00');
      namespace.ip('link', 'set', 'dev', 'a', 'master', 'br0', 'up');
      for (const name of ['b', 'br0']) namespace.ip('link', 'set', 'dev', name, 'up');
      limitLearnedAddresses(namespace, 11, 20);
      socket = PacketSocket.open(13, namespace);
      for (let sender = 0; sender < 50; sender++) {
        const frame = new Uint8Array(60);
        frame.set([2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, sender, 0x12, 0x34]);
        socket.send(frame);
      }
      const watch = FdbWatch.open(namespace);
      const learnt = watch.dump(1000).filter(({ address }) => address.startsWith('0200000000'));
      watch.close();
      expect(learnt).toHaveLength(20);
    } finally {
      socket?.close();
      namespace.close();
    }
  });

  it('says what the kernel says', () => {
    const namespace = testingNamespace();
    try {
      expect(() => limitLearnedAddresses(namespace, 99, 20)).toThrow(
        'a bridge’s addresses cannot be limited: ENODEV',
      );
    } finally {
      namespace.close();
    }
  });
});
