import type { SocketKind } from '../../src/bpf/helper-prototypes.js';
import { specialFields, type SpecialFields } from '../../src/bpf/special-fields.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import { Scalar, UNKNOWN, ZERO } from './scalar/scalar.js';

/** What a register holds. */
export enum Kind {
  NotInit = 0,
  Scalar = 1,
  Context = 2,
  Packet = 3,
  PacketMeta = 4,
  PacketEnd = 5,
  Stack = 6,
  /** A map itself, as `lddw` or an inner lookup gives it. */
  Map = 7,
  /** Inside a map's value. */
  MapValue = 8,
  /** A key, as a callback of bpf_for_each_map_elem gets it: readable. */
  MapKey = 9,
  /** Memory of known size that a helper handed out, e.g. a ring buffer record. */
  Memory = 10,
  Socket = 11,
  /** An entry of an XSKMAP. */
  XskSocket = 12,
  Function = 13,
  /** A pointer to what is gone (see STALE_PACKET and RELEASED): may be copied, and nothing else. */
  Stale = 14,
  /** The low 32 bits of a packet pointer or data_end: good for a distance in 32 bits, and nothing else. */
  PacketLow = 15,
}

/** A map as the verifier knows it: `handle` is what the program's `lddw` carries, negative for inner maps. */
export interface KnownMap {
  readonly handle: number;
  readonly spec: VerifierMap;
  /** What of its values is not plain data. */
  readonly special: SpecialFields;
}

export function knownMap(handle: number, spec: VerifierMap): KnownMap {
  return { handle, spec, special: specialFields(spec) };
}

/** Whether all that is known of the map is what the map of maps may hold. */
export function isInnerMap(map: KnownMap): boolean {
  return map.handle < 0;
}

/** Packet pointers that a comparison found to be past the end carry these in place of a range. */
export const RANGE_BEYOND_END = -2;

export const RANGE_AT_END = -1;

export interface ValueParts {
  readonly scalar?: Scalar;
  readonly id?: number;
  readonly off?: number;
  readonly range?: number;
  readonly maybeNull?: boolean;
  readonly ref?: number;
  readonly map?: KnownMap | undefined;
  readonly size?: number;
  readonly socket?: SocketKind | undefined;
}

/**
 * The abstract value of a register or of a spilled one. Immutable and shared between states, so that two states
 * that hold the same object hold the same value.
 */
export class Value {
  constructor(
    readonly kind: Kind,
    /** A scalar's value; a pointer's variable offset, on top of `off`. */
    readonly scalar: Scalar,
    /**
     * Scalars with the same id are the same number plus their `off`; packet pointers with the same id have the same
     * variable offset; what may be NULL is NULL together with everything of the same id. 0 for none.
     */
    readonly id: number,
    /** Constant offset of a pointer; of a scalar with an id, what was added since it got the id. */
    readonly off: number,
    /** Bytes from the pointer's base (with its variable offset) that are inside the packet. */
    readonly range: number,
    readonly maybeNull: boolean,
    /** Id of what the pointer ends with: a reference that has to be given back, or a callback's element; 0 for none. */
    readonly ref: number,
    readonly map: KnownMap | undefined,
    /** Memory: bytes. Stack: frame. Function: slot of its first insn. PacketLow and Stale: which of their constants. */
    readonly size: number,
    readonly socket: SocketKind | undefined,
  ) {}

  with(parts: ValueParts): Value {
    return new Value(
      this.kind,
      parts.scalar ?? this.scalar,
      parts.id ?? this.id,
      parts.off ?? this.off,
      parts.range ?? this.range,
      parts.maybeNull ?? this.maybeNull,
      parts.ref ?? this.ref,
      parts.map ?? this.map,
      parts.size ?? this.size,
      parts.socket ?? this.socket,
    );
  }

  get isScalar(): boolean {
    return this.kind === Kind.Scalar;
  }

  get isPointer(): boolean {
    return this.kind > Kind.Scalar;
  }

  /** The number, when it is known. */
  get constant(): bigint | undefined {
    return this.kind === Kind.Scalar ? this.scalar.constant : undefined;
  }

  get isZero(): boolean {
    return this.kind === Kind.Scalar && this.scalar === ZERO;
  }
}

export function pointer(kind: Kind, parts: ValueParts = {}): Value {
  return new Value(
    kind,
    parts.scalar ?? ZERO,
    parts.id ?? 0,
    parts.off ?? 0,
    parts.range ?? 0,
    parts.maybeNull ?? false,
    parts.ref ?? 0,
    parts.map,
    parts.size ?? 0,
    parts.socket,
  );
}

/** A number without an id. The same scalar gives the same object. */
export function scalarValue(scalar: Scalar): Value {
  return (scalar.asValue ??= pointer(Kind.Scalar, { scalar })) as Value;
}

export function constantValue(value: bigint | number): Value {
  return scalarValue(Scalar.constant(BigInt(value)));
}

export const NOT_INIT = pointer(Kind.NotInit, { scalar: UNKNOWN });

export const UNKNOWN_NUMBER = scalarValue(UNKNOWN);

export const CONTEXT = pointer(Kind.Context);

export const PACKET = pointer(Kind.Packet);

export const PACKET_META = pointer(Kind.PacketMeta);

export const PACKET_END = pointer(Kind.PacketEnd);

export const PACKET_LOW = pointer(Kind.PacketLow);
/** The same after arithmetic: may be any number, 0 among them. */
export const PACKET_LOW_MOVED = pointer(Kind.PacketLow, { size: 1 });

/** A packet pointer of before a helper moved the packet. */
export const STALE_PACKET = pointer(Kind.Stale);

/** A pointer that was given back to a helper. */
export const RELEASED = pointer(Kind.Stale, { size: 1 });

/** A pointer to the element that a callback was called for, after it has returned. */
export const PAST_ELEMENT = pointer(Kind.Stale, { size: 2 });
export const NULL_VALUE = scalarValue(ZERO);

/** The frame pointer of each frame. */
export const FRAME_POINTERS: readonly Value[] = Array.from({ length: 8 }, (_, frame) =>
  pointer(Kind.Stack, { size: frame }),
);
