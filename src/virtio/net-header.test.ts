import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkTransmitHeader,
  decodeNetHeader,
  encodeNetHeader,
  PLAIN_NET_HEADER,
  VIRTIO_NET_HDR_BYTES,
} from './net-header.js';

describe('the net header', () => {
  it('has the byte layout of virtio 1.3, 5.1.6', () => {
    const header = {
      flags: 1,
      gsoType: 0x81,
      hdrLen: 0x0302,
      gsoSize: 0x0504,
      csumStart: 0x0706,
      csumOffset: 0x0908,
      numBuffers: 0x0b0a,
    };
    const bytes = encodeNetHeader(header);
    expect([...bytes]).toEqual([1, 0x81, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(decodeNetHeader(bytes)).toEqual(header);
    expect(decodeNetHeader(bytes.subarray(0, 11))).toBeUndefined();
    expect(() => encodeNetHeader({ ...header, hdrLen: 65536 })).toThrow('hdr_len 65536');
  });

  it('decodes any bytes, and encodes them back', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: VIRTIO_NET_HDR_BYTES, maxLength: 40 }),
        fc.nat(100),
        (bytes, frame) => {
          const header = decodeNetHeader(bytes)!;
          expect(encodeNetHeader(header)).toEqual(bytes.slice(0, VIRTIO_NET_HDR_BYTES));
          checkTransmitHeader(header, frame);
        },
      ),
    );
  });

  it('is checked before the device acts on it (5.1.6.2)', () => {
    const check = (change: object, frame = 60): string | undefined =>
      checkTransmitHeader({ ...PLAIN_NET_HEADER, ...change }, frame);
    expect(check({})).toBeUndefined();
    // The example of the specification: TCP over IPv4, csum_start 34, csum_offset 16.
    expect(check({ flags: 1, csumStart: 34, csumOffset: 16 }, 52)).toBeUndefined();
    expect(check({ flags: 1, csumStart: 34, csumOffset: 16 }, 51)).toBe('csum-outside-frame');
    expect(check({ csumStart: 0xffff, csumOffset: 0xffff })).toBeUndefined(); // not in use
    expect(check({ gsoType: 2 })).toBe('gso-type-unknown');
    expect(check({ gsoType: 1 })).toBe('gso-without-csum');
    expect(check({ gsoType: 1, flags: 1 })).toBe('gso-size-zero');
    expect(check({ gsoType: 0x81, flags: 1, gsoSize: 1448 })).toBeUndefined();
    expect(check({ flags: 0xf8 })).toBeUndefined(); // unknown flags are ignored
  });
});
