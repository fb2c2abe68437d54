import type { SocketKind } from '../../src/bpf/helper-prototypes.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import { UNKNOWN, Scalar, ZERO } from './scalar/scalar.js';

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
    /** Id of the reference that has to be given back; 0 for none. */
    readonly ref: number,
    readonly map: KnownMap | undefined,
    /** Memory: bytes. Stack: frame. Function: slot of its first insn. */
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

  equals(other: Value): boolean {
    return (
      this === other ||
      (this.kind === other.kind &&
        this.id === other.id &&
        this.off === other.off &&
        this.range === other.range &&
        this.maybeNull === other.maybeNull &&
        this.ref === other.ref &&
        this.map === other.map &&
        this.size === other.size &&
        this.socket === other.socket &&
        this.scalar.equals(other.scalar))
    );
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
/** A packet pointer of before a helper moved the packet. */
export const STALE_PACKET = pointer(Kind.Stale);
/** A pointer that was given back to a helper. */
export const RELEASED = pointer(Kind.Stale, { size: 1 });
export const NULL_VALUE = scalarValue(ZERO);

/** The frame pointer of each frame. */
export const FRAME_POINTERS: readonly Value[] = Array.from({ length: 8 }, (_, frame) =>
  pointer(Kind.Stack, { size: frame }),
);

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

/** What people call it, for messages: "a packet pointer". */
export function describeKind(value: Value): string {
  const orNull = value.maybeNull ? ' that may be NULL' : '';
  switch (value.kind) {
    case Kind.NotInit:
      return 'nothing (it is not initialised)';
    case Kind.Scalar:
      return value.scalar.isConst ? `the number ${formatConstant(value.scalar)}` : 'a number';
    case Kind.Context:
      return 'the context pointer';
    case Kind.Packet:
      return 'a packet pointer';
    case Kind.PacketMeta:
      return 'a packet metadata pointer';
    case Kind.PacketEnd:
      return 'data_end';
    case Kind.Stack:
      return 'a stack pointer';
    case Kind.Map:
      return `map ${value.map?.spec.name ?? '?'}${orNull}`;
    case Kind.MapValue:
      return `a pointer to a value of map ${value.map?.spec.name ?? '?'}${orNull}`;
    case Kind.MapKey:
      return `a pointer to a key of map ${value.map?.spec.name ?? '?'}`;
    case Kind.Memory:
      return `a pointer to a ring buffer record${orNull}`;
    case Kind.Socket:
    case Kind.XskSocket:
      return `a socket pointer${orNull}`;
    case Kind.Function:
      return 'a function';
    case Kind.PacketLow:
      return 'the low half of a packet pointer';
    case Kind.Stale:
      return value.size === RELEASED.size
        ? 'a pointer to something that was given back'
        : 'a packet pointer from before the packet was moved';
  }
}

export function formatConstant(scalar: Scalar): string {
  const signed = BigInt.asIntN(64, scalar.value);
  return signed > 0xffff_ffffn || signed < -0x8000_0000n ? `0x${scalar.value.toString(16)}` : String(signed);
}

/** The kernel's notation: `scalar(smin=0,smax=255,var_off=(0x0; 0xff))`, `pkt(id=1,off=14,r=34)`, `fp-8`. */
export function formatValue(value: Value): string {
  const orNull = value.maybeNull ? '_or_null' : '';
  const map = (): string[] => [
    `map=${value.map?.spec.name ?? '?'}`,
    `ks=${value.map?.spec.keySize ?? 0}`,
    `vs=${value.map?.spec.valueSize ?? 0}`,
  ];
  switch (value.kind) {
    case Kind.NotInit:
      return '?';
    case Kind.Scalar: {
      const id = value.id === 0 ? [] : [`id=${value.id}${value.off === 0 ? '' : signedText(value.off)}`];
      if (value.scalar.isConst) return formatConstant(value.scalar);
      return `scalar(${[...id, ...formatRange(value.scalar)].join(',')})`;
    }
    case Kind.Context:
      return `ctx(${offsetParts(value).join(',')})`;
    case Kind.Packet:
    case Kind.PacketMeta: {
      const range = value.range < 0 ? (value.range === RANGE_AT_END ? 'end' : 'past') : String(value.range);
      const name = value.kind === Kind.Packet ? 'pkt' : 'pkt_meta';
      const parts = [
        ...(value.id === 0 ? [] : [`id=${value.id}`]),
        ...offsetParts(value, false),
        `r=${range}`,
      ];
      return `${name}(${[...parts, ...variablePart(value)].join(',')})`;
    }
    case Kind.PacketEnd:
      return 'pkt_end()';
    case Kind.Stack: {
      const frame = value.size === 0 ? 'fp' : `fp[${value.size}]`;
      const variable = variablePart(value);
      if (variable.length > 0) return `${frame}(${[`off=${value.off}`, ...variable].join(',')})`;
      return `${frame}${value.off === 0 ? '0' : signedText(value.off)}`;
    }
    case Kind.Map:
      return `map_ptr${orNull}(${map().join(',')})`;
    case Kind.MapValue:
    case Kind.MapKey: {
      const id = value.id === 0 ? [] : [`id=${value.id}`];
      const name = value.kind === Kind.MapValue ? 'map_value' : 'map_key';
      return `${name}${orNull}(${[...id, ...map(), ...offsetParts(value)].join(',')})`;
    }
    case Kind.Memory:
      return `ringbuf_mem${orNull}(${[`ref_obj_id=${value.ref}`, ...offsetParts(value), `sz=${value.size}`].join(',')})`;
    case Kind.Socket:
      return `${value.socket ?? 'sock'}${orNull}(${value.ref === 0 ? '' : `ref_obj_id=${value.ref}`})`;
    case Kind.XskSocket:
      return `xdp_sock${orNull}()`;
    case Kind.Function:
      return `func(insn=${value.size})`;
    case Kind.PacketLow:
      return 'pkt_low()';
    case Kind.Stale:
      return value.size === RELEASED.size ? 'released()' : 'stale_pkt()';
  }
}

function signedText(value: number): string {
  return value < 0 ? String(value) : `+${value}`;
}

function offsetParts(value: Value, variable = true): string[] {
  const parts = value.off === 0 ? [] : [`off=${value.off}`];
  return variable ? [...parts, ...variablePart(value)] : parts;
}

function variablePart(value: Value): string[] {
  if (value.scalar.isConst) return value.scalar.value === 0n ? [] : [`imm=${formatConstant(value.scalar)}`];
  return formatRange(value.scalar);
}

/** Bounds that say something, equal ones together: `smin=smin32=0,smax=umax=smax32=umax32=255`. */
export function formatRange(scalar: Scalar): string[] {
  const bounds: [string, bigint][] = [];
  const add = (name: string, bound: bigint, least: bigint): void => {
    if (bound !== least) bounds.push([name, bound]);
  };
  add('smin', scalar.smin, UNKNOWN.smin);
  add('smax', scalar.smax, UNKNOWN.smax);
  add('umin', scalar.umin, UNKNOWN.umin);
  add('umax', scalar.umax, UNKNOWN.umax);
  add('smin32', BigInt(scalar.s32min), BigInt(UNKNOWN.s32min));
  add('smax32', BigInt(scalar.s32max), BigInt(UNKNOWN.s32max));
  add('umin32', BigInt(scalar.u32min), BigInt(UNKNOWN.u32min));
  add('umax32', BigInt(scalar.u32max), BigInt(UNKNOWN.u32max));
  const parts: string[] = [];
  const seen = new Set<string>();
  for (const [name, bound] of bounds) {
    if (seen.has(name)) continue;
    const equal = bounds.filter(([other, its]) => !seen.has(other) && its === bound).map(([other]) => other);
    for (const other of equal) seen.add(other);
    const text =
      bound > 0xffff_ffffn || bound < -0x8000_0000n
        ? `${bound < 0n ? '-' : ''}0x${(bound < 0n ? -bound : bound).toString(16)}`
        : String(bound);
    parts.push(`${equal.join('=')}=${text}`);
  }
  if (scalar.mask !== UNKNOWN.mask) {
    parts.push(`var_off=(0x${scalar.value.toString(16)}; 0x${scalar.mask.toString(16)})`);
  }
  return parts;
}
