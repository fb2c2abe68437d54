import { mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ledger, PacketSocket, runIp, TapDevice } from '../../src/linux/index.js';
import {
  probeNamespaces,
  testingNamespace,
  type TestingNamespace,
} from '../../src/linux/testing-namespace.js';
import { buildTapReader, TapReader } from './tap-reader.js';

const probe = probeNamespaces();
const reason =
  probe.status !== 'supported'
    ? probe.reason
    : (await buildTapReader()) === undefined
      ? 'there is no C compiler here'
      : '';
const skipped = reason === '' ? '' : ` (skipped: ${reason})`;

/** From 192.0.2.1, port 1000, to 192.0.2.2, port 2000: 18 bytes of UDP. */
const FRAME = Buffer.from(
  '52540000000252540000000908004500002e000000004011f6bbc0000201c000020203e807d0001a0000' + '00'.repeat(18),
  'hex',
);

describe.skipIf(skipped !== '')(`the reader of a tap${skipped}`, () => {
  let folder: string;
  let namespace: TestingNamespace;
  let ledger: Ledger;
  let tap: TapDevice;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'xdpbed-reader-'));
    namespace = testingNamespace();
    ledger = Ledger.create(folder);
    tap = TapDevice.open({ name: 'tap0', ifindex: 5, queues: 2, vnetHeader: false }, namespace);
    await runIp(['link set tap0 up'], { namespace: namespace.name });
  });
  afterEach(() => {
    tap.close();
    namespace.close();
    rmSync(folder, { recursive: true });
  });

  it('takes and answers frames, and has of the machine nothing but the tap', async () => {
    const reader = (await TapReader.start(tap, 'answer', undefined, ledger))!;
    try {
      const [{ kind, id }] = ledger.held as [{ kind: string; id: string }];
      expect(kind).toBe('process');
      const socket = PacketSocket.open(5, namespace);
      for (let sent = 0; sent < 10;) if (socket.send(FRAME)) sent++;
      socket.close();
      await expect.poll(async () => (await reader.counts()).written).toBe(10);

      // By now it is the reader, whatever was started first.
      const of = `/proc/${id.split(' ')[0]}`;
      const status = readFileSync(`${of}/status`, 'utf8');
      expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
      expect(status).toMatch(/^Gid:\t65534\t65534\t65534\t65534$/m);
      expect(status).toMatch(/^Groups:\t\s*$/m);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
        expect(status).toMatch(new RegExp(`^Cap${set}:\\t0+$`, 'm'));
      for (const space of ['net', 'ipc'])
        expect(readlinkSync(`${of}/ns/${space}`)).not.toBe(readlinkSync(`/proc/self/ns/${space}`));
      expect(readFileSync(`${of}/environ`, 'latin1')).toBe('');
    } finally {
      await reader.close();
    }
    expect(ledger.held).toEqual([]);
    ledger.close();
  });
});
