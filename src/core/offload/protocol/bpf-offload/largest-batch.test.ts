import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../../../bpf/map-spec.js';
import { OffloadRig, u32Key } from '../../../../conformance/offload/offload-rig.js';
import { PACKED_QUEUE, SPLIT_QUEUE, type QueueFormat } from '../../../../virtio/index.js';
import { featureSet, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../../../virtio/features.js';
import { ControlLink } from '../../../../virtio/net-link/control-link.js';
import { DeviceClient } from '../../device-client.js';
import type { BpfReply, BpfRequest } from '../control-protocol.js';
import { BPF_OFFLOAD } from './bpf-offload.js';
import { MAX_BATCH_BYTES } from './wire.js';
import { testingParty, type TestingParty } from '../../testing-party.js';

function party(name: string): TestingParty {
  return testingParty(name, { mebibytes: 16 });
}

/** As many elements as a batch may have, which together take as many bytes as a batch may take. */
const COUNT = 4096;
const KEY_BYTES = 4;
const VALUE_BYTES = MAX_BATCH_BYTES / COUNT - KEY_BYTES;

describe.each<[string, QueueFormat]>([
  ['split', SPLIT_QUEUE],
  ['packed', PACKED_QUEUE],
])('a batch of the greatest size, over a %s queue', (_name, format) => {
  it('fits into a chain, with its header and its answer, there and back', async () => {
    const rig = new OffloadRig({ host: party('host'), guest: party('guest'), protocol: BPF_OFFLOAD });
    const features = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ);
    const link = new ControlLink({ label: 'guest0.eth0', features, format });
    link.serve((request, room) => rig.device.handle(request, room));
    const client = new DeviceClient(link, BPF_OFFLOAD);
    const ask = async (request: BpfRequest): Promise<BpfReply> => {
      const answer = await client.request(request);
      if (!answer.ok) throw new Error(`${request.kind}: ${answer.message}`);
      return answer.value;
    };
    const made = await ask({
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
      keySize: KEY_BYTES,
      valueSize: VALUE_BYTES,
      maxEntries: COUNT,
      mapFlags: 0,
    });
    if (made.kind !== 'handle') throw new Error(made.kind);
    const batch = { handle: made.handle, keySize: KEY_BYTES, valueSize: VALUE_BYTES, count: COUNT };
    const keys = new Uint8Array(COUNT * KEY_BYTES);
    const values = new Uint8Array(COUNT * VALUE_BYTES);
    for (let index = 0; index < COUNT; index++) {
      keys.set(u32Key(index), index * KEY_BYTES);
      values.fill(index & 0xff, index * VALUE_BYTES, (index + 1) * VALUE_BYTES);
    }
    expect(keys.length + values.length).toBe(MAX_BATCH_BYTES);
    expect(await ask({ kind: 'update-batch', ...batch, keys, values, flags: 0n })).toEqual({
      kind: 'count',
      count: COUNT,
    });

    // In the order in which the map has them: each key once, with its own value.
    const found = await ask({ kind: 'lookup-batch', ...batch, cursor: undefined, remove: false });
    if (found.kind !== 'elements') throw new Error(found.kind);
    expect(found.count).toBe(COUNT);
    const view = new DataView(found.keys.buffer, found.keys.byteOffset, found.keys.length);
    const seen = new Set<number>();
    for (let at = 0; at < COUNT; at++) {
      const index = view.getUint32(at * KEY_BYTES, true);
      seen.add(index);
      const value = found.values.subarray(at * VALUE_BYTES, (at + 1) * VALUE_BYTES);
      expect(value.every((byte) => byte === (index & 0xff))).toBe(true);
    }
    expect(seen.size).toBe(COUNT);
    expect(link.status.violations).toBe(0);
  });
});
