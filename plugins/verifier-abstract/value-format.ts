import { type Scalar, UNKNOWN } from './scalar/scalar.js';
import { Kind, RANGE_AT_END, PAST_ELEMENT, RELEASED, type Value } from './value.js';

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
      if (value.size === PAST_ELEMENT.size) return 'a pointer to the element of a callback that has returned';
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
      if (value.size === PAST_ELEMENT.size) return 'past_elem()';
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
