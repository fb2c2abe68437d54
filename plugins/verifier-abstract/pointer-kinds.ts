import { Kind, PACKET_LOW_MOVED, isInnerMap, type Value } from './value.js';

/** Anything whose distance to other such pointers is a property of the packet, and tells no address. */
export function isPacketFamily(value: Value): boolean {
  switch (value.kind) {
    case Kind.Packet:
    case Kind.PacketMeta:
    case Kind.PacketEnd:
    case Kind.PacketLow:
      return true;
    default:
      return false;
  }
}

/** Pointers that address arithmetic may move. */
export function isMemoryPointer(value: Value): boolean {
  switch (value.kind) {
    case Kind.Packet:
    case Kind.PacketMeta:
    case Kind.Stack:
    case Kind.MapValue:
    case Kind.MapKey:
    case Kind.Memory:
      return true;
    default:
      return false;
  }
}

/**
 * Bytes below every object's address (AddressSpace). Addresses in a program's memory are small numbers: 2^29 bytes,
 * which a pointer may be moved either way, bring it to 0 and beyond. The kernel's are far from there.
 */
const NULL_PAGE_BYTES = 0x1_0000;

/**
 * Bytes that no memory of a program is near the end of the address space. The kernel's addresses are above 2^63, and what
 * lies in the last 8 GiB is its text and tables; in a program's memory here there are 2^32 below 2^64. Enough for any number
 * of 32 bits on top of what a constant may add.
 */
const END_PAGES_BYTES = 0x2_0000_0000;

/** The farthest that a packet reaches, in bytes: no packet lies astride 2^32, or next to none. */
const LONGEST_PACKET = 0x1_0000;

/**
 * Whether the number that a pointer is can be neither 0 nor, by wrapping around at either end, on the other side of other
 * pointers: nothing moved it so far below or above what it points into. Where it may be, telling it from another pointer
 * tells how far from the end the two are.
 */
export function isNeverNull(value: Value): boolean {
  if (!value.isPointer) return false;
  if (value.maybeNull || value.kind === Kind.Stale) return false;
  if (value.kind === Kind.PacketLow) return value.size !== PACKET_LOW_MOVED.size;
  const { scalar, off } = value;
  return (
    scalar.smin + BigInt(off) > BigInt(-NULL_PAGE_BYTES) &&
    scalar.smax + BigInt(off) < BigInt(END_PAGES_BYTES)
  );
}

/** Whether the low 32 bits do not come round to 0 either: the pointer was moved up by no more than a packet is long. */
export function staysLow(value: Value): boolean {
  return value.scalar.smax + BigInt(value.off) <= BigInt(LONGEST_PACKET);
}

/** Whether two pointers are into the same object, so that their order and distance tell no address. */
export function sameMemory(a: Value, b: Value): boolean {
  if (a.maybeNull || b.maybeNull) return false;
  if (isPacketFamily(a)) return isPacketFamily(b);
  if (a.kind !== b.kind) return false;
  switch (a.kind) {
    case Kind.Stack:
      return a.size === b.size;
    case Kind.MapKey:
      // Each callback that is under way has a copy of its own.
      return a.map === b.map && a.ref === b.ref;
    case Kind.MapValue:
      // Two lookups in a map of maps give two maps, of which only the type is the same.
      return a.map === b.map && !isInnerMap(a.map!);
    case Kind.Memory:
      return a.ref === b.ref;
    case Kind.Context:
      return true;
    default:
      return false;
  }
}
