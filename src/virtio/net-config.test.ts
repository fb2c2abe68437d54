import { describe, expect, it } from 'vitest';
import { featureSet, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_RSS } from './features.js';
import { decodeNetConfig, encodeNetConfig, netQueueNumbers } from './net-config.js';

const config = { mac: Uint8Array.of(2, 0, 0, 0, 0, 1), status: 3, maxVirtqueuePairs: 4, mtu: 1500 };

describe('the configuration space', () => {
  it('has the byte layout of virtio 1.3, 5.1.4', () => {
    const bytes = encodeNetConfig(config);
    expect([...bytes]).toEqual([2, 0, 0, 0, 0, 1, 3, 0, 4, 0, 0xdc, 5]);
    expect(decodeNetConfig(bytes)).toEqual(config);
    expect(decodeNetConfig(bytes.subarray(0, 11))).toBeUndefined();
  });

  it('keeps to the limits of 5.1.4.1', () => {
    expect(() => encodeNetConfig({ ...config, mtu: 67 })).toThrow('mtu 67');
    expect(() => encodeNetConfig({ ...config, maxVirtqueuePairs: 0 })).toThrow('max_virtqueue_pairs 0');
    expect(() => encodeNetConfig({ ...config, maxVirtqueuePairs: 0x8001 })).toThrow();
    expect(encodeNetConfig({ ...config, maxVirtqueuePairs: 0x8000, mtu: 68 })).toHaveLength(12);
    expect(() => encodeNetConfig({ ...config, mac: new Uint8Array(5) })).toThrow('5 bytes');
  });
});

describe('queue numbers (virtio 1.3, 5.1.2)', () => {
  it('put controlq after all pairs with MQ or RSS', () => {
    for (const bit of [VIRTIO_NET_F_MQ, VIRTIO_NET_F_RSS]) {
      expect(netQueueNumbers(featureSet(VIRTIO_NET_F_CTRL_VQ, bit), 4)).toEqual({
        pairs: 4,
        receive: [0, 2, 4, 6],
        transmit: [1, 3, 5, 7],
        control: 8,
        count: 9,
      });
    }
  });

  it('know one pair without them, whatever the device could do', () => {
    expect(netQueueNumbers(featureSet(VIRTIO_NET_F_CTRL_VQ), 4)).toMatchObject({ pairs: 1, control: 2 });
    expect(netQueueNumbers(0n, 4)).toEqual({
      pairs: 1,
      receive: [0],
      transmit: [1],
      control: undefined,
      count: 2,
    });
  });
});
