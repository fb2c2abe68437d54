/**
 * VLAN tags (IEEE 802.1Q, 9.6). A tag is seen here as it follows an EtherType field that holds a TPID:
 * TCI 2 (priority 3 bits · DEI 1 · VLAN id 12) · EtherType of what follows 2.
 */

import { ETHERTYPE } from './ethernet.js';
import { readU16, writeU16 } from './network-order.js';

export const VLAN_TAG_BYTES = 4;

export interface VlanTag {
  /** 0 to 4095; 0 is a priority tag, 4095 is reserved. */
  readonly id: number;
  /** Priority code point, 0 to 7. */
  readonly priority: number;
  readonly dropEligible: boolean;
  /** EtherType of what follows the tag. */
  readonly etherType: number;
}

/** Whether an EtherType announces a tag: 0x8100 or 0x88a8. */
export function isVlanTpid(etherType: number): boolean {
  return etherType === ETHERTYPE.VLAN || etherType === ETHERTYPE.QINQ;
}

/** The tag at `offset`, just behind its TPID, or undefined when fewer than 4 bytes are left. */
export function readVlanTag(bytes: Uint8Array, offset: number): VlanTag | undefined {
  if (offset + VLAN_TAG_BYTES > bytes.length) return undefined;
  const tci = readU16(bytes, offset);
  return {
    id: tci & 0xfff,
    priority: tci >> 13,
    dropEligible: (tci & 0x1000) !== 0,
    etherType: readU16(bytes, offset + 2),
  };
}

/** Writes 4 bytes at `offset`. */
export function writeVlanTag(bytes: Uint8Array, offset: number, tag: VlanTag): void {
  writeU16(bytes, offset, (tag.priority << 13) | (tag.dropEligible ? 0x1000 : 0) | tag.id);
  writeU16(bytes, offset + 2, tag.etherType);
}
