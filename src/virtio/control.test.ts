import { describe, expect, it } from 'vitest';
import * as control from './control.js';

describe('control commands', () => {
  it('have the numbers of virtio 1.3, 5.1.6.5, and of RFC 2019', () => {
    expect(control).toMatchObject({
      VIRTIO_NET_OK: 0,
      VIRTIO_NET_ERR: 1,
      VIRTIO_NET_CTRL_RX: 0,
      VIRTIO_NET_CTRL_MAC: 1,
      VIRTIO_NET_CTRL_VLAN: 2,
      VIRTIO_NET_CTRL_ANNOUNCE: 3,
      VIRTIO_NET_CTRL_MQ: 4,
      VIRTIO_NET_CTRL_GUEST_OFFLOADS: 5,
      VIRTIO_NET_CTRL_EBPF: 6,
      VIRTIO_NET_CTRL_EBPF_PROG: 1,
      VIRTIO_NET_CTRL_EBPF_MAP: 2,
    });
    expect(control.controlCommandName(4, 0)).toBe('MQ_VQ_PAIRS_SET');
    expect(control.controlCommandName(0, 5)).toBe('RX_NOBCAST');
    expect(control.controlCommandName(6, 2)).toBe('EBPF_MAP');
    expect(control.controlCommandName(6, 0)).toBe('EBPF command 0');
    expect(control.controlCommandName(99, 1)).toBe('class 99 command 1');
  });

  it('split into class, command and payload', () => {
    const bytes = control.encodeControlCommand({ class: 4, command: 0, payload: Uint8Array.of(2, 0) });
    expect([...bytes]).toEqual([4, 0, 2, 0]);
    expect(control.decodeControlCommand(bytes)).toEqual({
      class: 4,
      command: 0,
      payload: Uint8Array.of(2, 0),
    });
    expect(control.decodeControlCommand(Uint8Array.of(4))).toBeUndefined();
    expect(control.decodeControlCommand(new Uint8Array(0))).toBeUndefined();
    expect(() =>
      control.encodeControlCommand({ class: 256, command: 0, payload: new Uint8Array(0) }),
    ).toThrow('256');
  });

  it('end in an ack, which is the last writable byte', () => {
    expect([...control.joinResponse(Uint8Array.of(7, 8), 0)]).toEqual([7, 8, 0]);
    expect(control.splitResponse(Uint8Array.of(7, 8, 1))).toEqual({ result: Uint8Array.of(7, 8), ack: 1 });
    expect(control.splitResponse(new Uint8Array(0))).toBeUndefined();
    expect([...control.encodeErrorResponse(3)]).toEqual([0, 0, 1]);
    expect([...control.encodeErrorResponse(1)]).toEqual([1]);
    expect([...control.encodeErrorResponse(0)]).toEqual([]);
    expect([...control.encodeAck(2, control.VIRTIO_NET_OK)]).toEqual([0, 0]);
  });

  it('are an ack alone where a driver names more room than any command takes', () => {
    const longest = control.encodeErrorResponse(control.MAX_RESPONSE_BYTES);
    expect(longest).toHaveLength(control.MAX_RESPONSE_BYTES);
    expect(longest.lastIndexOf(1)).toBe(longest.length - 1);
    expect([...control.encodeErrorResponse(control.MAX_RESPONSE_BYTES + 1)]).toEqual([1]);
    expect([...control.encodeAck(1 << 20, control.VIRTIO_NET_OK)]).toEqual([0]);
  });

  it('set queue pairs from 1 to max_virtqueue_pairs (5.1.6.5.6)', () => {
    expect([...control.encodeVqPairsSet(0x8000)]).toEqual([0, 0x80]);
    expect(() => control.encodeVqPairsSet(0)).toThrow('0 queue pairs');
    expect(control.decodeVqPairsSet(Uint8Array.of(4, 0), 4)).toBe(4);
    expect(control.decodeVqPairsSet(Uint8Array.of(5, 0), 4)).toBeUndefined();
    expect(control.decodeVqPairsSet(Uint8Array.of(0, 0), 4)).toBeUndefined();
    expect(control.decodeVqPairsSet(Uint8Array.of(1), 4)).toBeUndefined();
    expect(control.decodeVqPairsSet(Uint8Array.of(1, 0, 0), 4)).toBeUndefined();
  });
});
