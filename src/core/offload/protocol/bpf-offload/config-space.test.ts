import { describe, expect, it } from 'vitest';
import { hex, normative } from '../../../../conformance/offload/normative.js';
import {
  checkAcceptedFeatures,
  checkFeatures,
  featureSet,
  hasFeature,
  negotiateFeatures,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_BPF_OFFLOAD,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_XDP_OFFLOAD,
} from '../../../../virtio/features.js';
import { encodeNetConfig } from '../../../../virtio/net-config.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { BPF_OFFLOAD } from './bpf-offload.js';
import { readCapabilities } from './config-space.js';

const CAPABILITIES: DeviceCapabilities = {
  maxInsns: 0x1_0000,
  maxObjects: 4096,
  maxKeyBytes: 512,
  maxValueBytes: 0x1_0000,
  maxBatch: 4096,
  maxBtfBytes: 0x1_0000,
  cpus: 2,
  granted: { maps: 64, programs: 16, mapMemory: 0x1_0000_0000n },
  commands: 0x0fff_ffffn,
  mapTypes: 0b110n,
  hookPoints: 1n,
  programFeatures: 0x7fn,
  helpers: (1n << 1n) | (1n << 211n),
};
/** docs/spec/bpf-offload.md, `struct virtio_net_bpf_capabilities`, field by field. */
const STRUCTURE = hex(`
  70 00 00 00 | 00 00 01 00 | 00 10 00 00 | 00 02 00 00 | 00 00 01 00
  00 10 00 00 | 00 00 01 00 | 02 00 00 00 | 40 00 00 00 | 10 00 00 00
  00 00 00 00 01 00 00 00 | ff ff ff 0f 00 00 00 00 | 06 00 00 00 00 00 00 00
  01 00 00 00 00 00 00 00 | 7f 00 00 00 00 00 00 00
  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00`);
const NET = { mac: Uint8Array.of(2, 0, 0, 0, 0, 1), status: 1, maxVirtqueuePairs: 1, mtu: 1500 };

/** Configuration space of a device that is able to do this. */
function space(capabilities: DeviceCapabilities): Uint8Array {
  return encodeNetConfig(NET, BPF_OFFLOAD.encodeConfiguration!(capabilities));
}

/** What a driver makes of configuration space. */
function read(bytes: Uint8Array): DeviceCapabilities | undefined {
  return readCapabilities({ readConfig: (offset, length) => bytes.slice(offset, offset + length) });
}

describe('configuration space', () => {
  normative('dev-config-offset', 'the structure is at byte 256', () => {
    const bytes = space(CAPABILITIES);
    expect(bytes).toHaveLength(256 + 112);
    expect([...bytes.subarray(256)]).toEqual([...STRUCTURE]);
    expect([...bytes.subarray(0, 12)]).toEqual([2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5]);
    expect(read(bytes)).toEqual(CAPABILITIES);
  });

  normative('dev-granted', 'a limit beyond its field is the most that the field holds', () => {
    const granted = { maps: 2 ** 40, programs: Number.MAX_SAFE_INTEGER, mapMemory: 1n << 50n };
    const bytes = space({ ...CAPABILITIES, granted });
    expect([...bytes.subarray(256 + 32, 256 + 48)]).toEqual([
      ...hex('ff ff ff ff | ff ff ff ff | 00 00 00 00 00 00 04 00'),
    ]);
  });

  normative('dev-config-zero', 'what lies between it and the fields of virtio is 0', () => {
    const between = space(CAPABILITIES).subarray(12, 256);
    expect(between.every((byte) => byte === 0)).toBe(true);
  });

  normative(
    'drv-config-length',
    'a longer structure is read as far as it is known, a shorter one not at all',
    () => {
      const longer = Uint8Array.from([...space(CAPABILITIES), 9, 9, 9, 9]);
      longer[256] = 116;
      expect(read(longer)).toEqual(CAPABILITIES);
      const shorter = longer.slice(0, 256 + 112);
      shorter[256] = 111;
      expect(read(shorter)).toBeUndefined();
      shorter[256] = 112;
      expect(read(shorter)).toBeDefined();
      expect(read(shorter.subarray(0, 256 + 111))).toBeUndefined();
    },
  );

  it('is virtio’s own where a device adds nothing, and drivers behind a stream of bytes have none', () => {
    expect(encodeNetConfig(NET, undefined)).toHaveLength(12);
    expect(read(encodeNetConfig(NET, undefined))).toBeUndefined();
    expect(readCapabilities({})).toBeUndefined();
  });
});

describe('the feature bit', () => {
  const own = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_BPF_OFFLOAD);
  const withQueue = own | featureSet(VIRTIO_NET_F_CTRL_VQ);
  const both = withQueue | featureSet(VIRTIO_NET_F_XDP_OFFLOAD);

  normative('dev-feature-queue', 'is not offered without a control virtqueue', () => {
    expect(checkFeatures(own)).toMatchObject([{ kind: 'requires', feature: 127 }]);
    expect(checkFeatures(withQueue)).toEqual([]);
  });

  normative('drv-feature-queue', 'is not accepted without a control virtqueue', () => {
    expect(hasFeature(negotiateFeatures(own, own), 127)).toBe(false);
    expect(hasFeature(negotiateFeatures(withQueue, withQueue), 127)).toBe(true);
  });

  normative('drv-feature-conflict', 'is accepted instead of RFC 2019’s, not beside it', () => {
    expect(negotiateFeatures(both, both)).toBe(withQueue);
  });

  normative('dev-feature-conflict', 'is refused beside RFC 2019’s', () => {
    expect(checkAcceptedFeatures(both, both)).toMatchObject([
      { kind: 'conflicts', feature: VIRTIO_NET_F_XDP_OFFLOAD },
    ]);
  });
});
