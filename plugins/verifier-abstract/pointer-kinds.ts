import { Kind, RELEASED, type Value } from './value.js';

/** Anything whose distance to other such pointers is a property of the packet, and tells no address. */
export function isPacketFamily(value: Value): boolean {
  switch (value.kind) {
    case Kind.Packet:
    case Kind.PacketMeta:
    case Kind.PacketEnd:
    case Kind.PacketLow:
      return true;
    default:
      return value.kind === Kind.Stale && value.size !== RELEASED.size;
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

export function sameMemory(a: Value, b: Value): boolean {
  if (a.maybeNull || b.maybeNull) return false;
  if (isPacketFamily(a)) return isPacketFamily(b);
  if (a.kind !== b.kind) return false;
  switch (a.kind) {
    case Kind.Stack:
      return a.size === b.size;
    case Kind.MapValue:
    case Kind.MapKey:
      return a.map === b.map;
    case Kind.Memory:
      return a.ref === b.ref;
    case Kind.Context:
      return true;
    default:
      return false;
  }
}
