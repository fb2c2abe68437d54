import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatIpv4Address,
  formatIpv6Address,
  formatMac,
  isGroupMac,
  macNumber,
  MAC_BROADCAST,
  parseIpv4Address,
  parseIpv6Address,
  parseMac,
} from './index.js';

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe('MAC addresses', () => {
  it('are numbers whose hexadecimal digits are the text', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 6, maxLength: 12 }), fc.nat(6), (bytes, at) => {
        const offset = Math.min(at, bytes.length - 6);
        const digits = macNumber(bytes, offset).toString(16).padStart(12, '0');
        expect(digits).toBe(formatMac(bytes, offset).replaceAll(':', ''));
      }),
    );
  });

  it('reads both separators and either case, writes lower case with colons', () => {
    expect([...parseMac('02:00:5E:10:00:ff')]).toEqual([0x02, 0, 0x5e, 0x10, 0, 0xff]);
    expect(formatMac(parseMac('02-00-5E-10-00-FF'))).toBe('02:00:5e:10:00:ff');
  });

  it.each([
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:01:02',
    '02:00-00:00:00:01',
    '2:0:0:0:0:1',
    '02:00:00:00:00:0g',
  ])('refuses "%s"', (text) => {
    expect(() => parseMac(text)).toThrow(expect.objectContaining({ code: 'packet-invalid' }));
  });

  it('tells group from individual addresses', () => {
    expect(isGroupMac(parseMac(MAC_BROADCAST))).toBe(true);
    expect(isGroupMac(parseMac('01:00:5e:00:00:01'))).toBe(true);
    expect(isGroupMac(parseMac('02:00:00:00:00:01'))).toBe(false);
  });

  it('round-trips', () => {
    fc.assert(
      fc.property(bytesOf(6), (bytes) => {
        expect(parseMac(formatMac(bytes))).toEqual(bytes);
      }),
    );
  });
});

describe('IPv4 addresses', () => {
  it.each(['', '1.2.3', '1.2.3.4.5', '1.2.3.256', '01.2.3.4', '1.2.3.-4', '1.2.3.4 ', '0x1.2.3.4', '1..3.4'])(
    'refuses "%s"',
    (text) => {
      expect(() => parseIpv4Address(text)).toThrow(`"${text}" is not an IPv4 address`);
    },
  );

  it('round-trips', () => {
    fc.assert(
      fc.property(bytesOf(4), (bytes) => {
        expect(parseIpv4Address(formatIpv4Address(bytes))).toEqual(bytes);
      }),
    );
  });
});

describe('IPv6 addresses', () => {
  // The examples of RFC 4291 section 2.2 and RFC 5952 section 4.
  it.each([
    ['2001:0DB8:0:0:8:800:200C:417A', '2001:db8::8:800:200c:417a'],
    ['FF01:0:0:0:0:0:0:101', 'ff01::101'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:FFFF:129.144.52.38', '::ffff:129.144.52.38'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['fe80::', 'fe80::'],
  ])('writes %s as %s', (text, canonical) => {
    expect(formatIpv6Address(parseIpv6Address(text))).toBe(canonical);
  });

  it.each([
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    ':1::',
    'fe80::1%eth0',
    '1.2.3.4::',
    '::1.2.3',
  ])('refuses "%s"', (text) => {
    expect(() => parseIpv6Address(text)).toThrow(expect.objectContaining({ code: 'packet-invalid' }));
  });

  it('round-trips', () => {
    // Bytes with many zeros, so that "::" is exercised.
    const sparse = fc.array(fc.oneof(fc.constant(0), fc.nat(255)), { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(sparse, (bytes) => {
        expect([...parseIpv6Address(formatIpv6Address(Uint8Array.from(bytes)))]).toEqual(bytes);
      }),
    );
  });
});
