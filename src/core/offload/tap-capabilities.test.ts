import { describe, expect, it } from 'vitest';
import {
  capabilityNames,
  capabilityWord,
  formatCapabilities,
  TAP_CAPABILITIES,
  type TapCapability,
} from './tap-capabilities.js';

describe('the capability word of a tap', () => {
  it('has one bit for each name, and keeps those that are documented', () => {
    const names = Object.keys(TAP_CAPABILITIES) as TapCapability[];
    const bits = names.map((name) => TAP_CAPABILITIES[name]);
    expect(new Set(bits).size).toBe(names.length);
    for (const bit of bits) expect(Math.log2(bit) % 1).toBe(0);
    expect(TAP_CAPABILITIES).toMatchObject({
      XDP_OFFLOAD: 0x1,
      MULTI_QUEUE: 0x2,
      POLICED: 0x4,
      INSNS_COUNTED: 0x8,
      RFC_2019: 0x10000,
      BPF_OFFLOAD: 0x20000,
    });
  });

  it('is told as a number and by names', () => {
    expect(formatCapabilities(capabilityWord(['RFC_2019', 'XDP_OFFLOAD', 'POLICED']))).toBe('0x00010005');
    expect(capabilityNames(0x10005)).toEqual(['XDP_OFFLOAD', 'POLICED', 'RFC_2019']);
    expect(capabilityNames(0x80000000)).toEqual([]);
    expect(formatCapabilities(0x80000000 | 0)).toBe('0x80000000');
  });
});
