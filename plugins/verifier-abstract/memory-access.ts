import type { Insn } from '../../src/bpf/insn.js';
import { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import * as op from '../../src/bpf/opcodes.js';
import { XDP_MD, XDP_MD_SIZE } from '../../src/bpf/xdp.js';
import { rejectStale, withIdentity } from './alu.js';
import { OriginKind, markLive, type Origin } from './origin.js';
import {
  Kind,
  NULL_VALUE,
  PACKET,
  PACKET_END,
  PACKET_META,
  constantValue,
  describeKind,
  scalarValue,
  type Value,
} from './register-state.js';
import { arithmetic, signExtend, truncate } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import {
  Byte,
  EMPTY_SLOT,
  byteIndex,
  overwrittenSlot,
  slotIndex,
  spilledSlot,
  type Slot,
} from './stack-state.js';

const BYTES: Readonly<Record<number, number>> = {
  [op.BPF_B]: 1,
  [op.BPF_H]: 2,
  [op.BPF_W]: 4,
  [op.BPF_DW]: 8,
};

/** Beyond this an offset counts as unbounded (kernel BPF_MAX_VAR_OFF). */
const MAX_OFFSET = 1 << 29;

export type Access = 'read' | 'write' | 'atomic';

function bytes(count: number): string {
  return count === 1 ? '1 byte' : `${count} bytes`;
}

export function sizeOf(insn: Insn): number {
  return BYTES[insn.opcode & op.BPF_SIZE_MASK]!;
}

/** `dst = *(size *)(src + off)`. */
export function stepLoad(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const signed = (insn.opcode & op.BPF_MODE_MASK) === op.BPF_MEMSX;
  const base = sim.get(insn.src);
  if (base.kind === Kind.Stack && !base.maybeNull) {
    loadFromStack(sim, insn, base, size, signed);
    return;
  }
  if (base.kind === Kind.Context) {
    loadFromContext(sim, insn, base, size, signed);
    return;
  }
  checkAccess(sim, insn.src, base, insn.off, size, 'read');
  const constant = frozenContent(base, insn.off, size);
  const loaded = constant === undefined ? Scalar.ofBytes(size) : Scalar.constant(constant);
  sim.set(insn.dst, scalarValue(signed ? signExtend(loaded, 8 * size) : loaded));
}

/** `*(size *)(dst + off) = src` or `= imm`. */
export function stepStore(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const base = sim.get(insn.dst);
  const fromRegister = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_STX;
  const value = fromRegister ? sim.get(insn.src) : constantValue(insn.imm);
  if (base.kind === Kind.Stack && !base.maybeNull) {
    storeToStack(sim, insn, base, size, value, fromRegister ? insn.src : undefined);
    return;
  }
  if (base.kind === Kind.Context) {
    sim.reject('context-write', 'the context of an XDP program is read-only', {
      registers: [insn.dst],
      suggestion: 'move the ends of the packet with bpf_xdp_adjust_head, _tail and _meta',
    });
  }
  checkAccess(sim, insn.dst, base, insn.off, size, 'write');
  if (value.isPointer) rejectLeak(sim, insn.src, value, base);
}

/** Atomic operations (RFC 9669 section 5.3): read and write at once, and R0 or the source register for FETCH. */
export function stepAtomic(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const base = sim.get(insn.dst);
  const value = sim.get(insn.src);
  if (value.isPointer) rejectLeak(sim, insn.src, value, base);
  const compares = insn.imm === op.BPF_CMPXCHG;
  if (compares) {
    const expected = sim.get(0);
    if (expected.isPointer) rejectLeak(sim, 0, expected, base);
  }
  const allowed = base.kind === Kind.Stack || base.kind === Kind.MapValue || base.kind === Kind.Memory;
  if (base.isPointer && !allowed && !base.maybeNull && base.kind !== Kind.Stale) {
    sim.reject(
      'atomic-target',
      `R${insn.dst} is ${describeKind(base)}, where atomic operations are not allowed`,
      {
        registers: [insn.dst],
        suggestion:
          'atomic operations work on map values, ring buffer records and the stack; use plain loads and stores here',
      },
    );
  }
  if (base.kind === Kind.Stack) {
    atomicOnStack(sim, insn, base, size);
  } else {
    checkAccess(sim, insn.dst, base, insn.off, size, 'atomic');
    checkAtomicAlignment(sim, insn, base, size);
  }
  const fetched = scalarValue(Scalar.ofBytes(size));
  if (compares) sim.set(0, fetched);
  else if ((insn.imm & op.BPF_FETCH) !== 0) sim.set(insn.src, fetched);
}

function checkAtomicAlignment(sim: Simulation, insn: Insn, base: Value, size: number): void {
  const offset = arithmetic(op.BPF_ADD, base.scalar, Scalar.of(base.off + insn.off), false);
  const low = BigInt(size - 1);
  if (((offset.value | offset.mask) & low) === 0n) return;
  sim.reject(
    'atomic-alignment',
    `an atomic operation on ${size} bytes at an offset that may not be a multiple of ${size}`,
    {
      registers: [insn.dst],
      suggestion: `place what is changed atomically at a multiple of ${size}`,
    },
  );
}

function rejectLeak(sim: Simulation, register: number, value: Value, into: Value): void {
  if (sim.options.allowPointerLeaks) return;
  sim.reject(
    'pointer-leak',
    `R${register} is ${describeKind(value)}, and its address would be stored in ${whereTo(into)}`,
    {
      registers: [register],
      suggestion: 'keep pointers in registers and on the stack; store offsets or copies of the data instead',
    },
  );
}

function whereTo(value: Value): string {
  switch (value.kind) {
    case Kind.MapValue:
      return `map ${value.map?.spec.name ?? '?'}, where user space can read it`;
    case Kind.Packet:
    case Kind.PacketMeta:
      return 'the packet';
    default:
      return 'memory that leaves the program';
  }
}

// The context

function loadFromContext(sim: Simulation, insn: Insn, base: Value, size: number, signed: boolean): void {
  if (base.off !== 0) {
    sim.reject(
      'context-modified',
      `R${insn.src} is the context pointer plus ${base.off}, which may not be dereferenced`,
      {
        registers: [insn.src],
        suggestion: 'access the fields of xdp_md at constant offsets from R1 itself',
      },
    );
  }
  const { off } = insn;
  const field = Object.entries(XDP_MD).find(([, offset]) => offset === off)?.[0];
  if (off < 0 || off >= XDP_MD_SIZE || field === undefined || size !== 4) {
    sim.reject(
      'context-access',
      field === undefined
        ? `offset ${off} is no field of xdp_md, which has ${XDP_MD_SIZE} bytes in fields of 4`
        : `${field} of xdp_md is read as ${size} bytes, but is a __u32`,
      {
        registers: [insn.src],
        suggestion:
          'read data, data_end, data_meta, ingress_ifindex, rx_queue_index as __u32 at offsets 0, 4, 8, 12, 16',
      },
    );
  }
  if (off === XDP_MD.egress_ifindex && sim.program.attachType !== 'BPF_XDP_DEVMAP') {
    sim.reject('context-access', 'egress_ifindex is only there for programs in a device map', {
      registers: [insn.src],
      suggestion: 'put the program in section xdp/devmap',
    });
  }
  const pointers: Readonly<Record<number, Value>> = {
    [XDP_MD.data]: PACKET,
    [XDP_MD.data_end]: PACKET_END,
    [XDP_MD.data_meta]: PACKET_META,
  };
  const loaded = pointers[off];
  if (loaded !== undefined && signed) {
    sim.reject('context-access', `${field} of xdp_md is a pointer and cannot be sign-extended`, {
      registers: [insn.src],
    });
  }
  sim.facts.access(sim.pc, 'context', false, 4, off, off);
  const number = Scalar.ofBytes(4);
  sim.set(insn.dst, loaded ?? scalarValue(signed ? signExtend(number, 32) : number));
}

// Everything but the stack and the context

/**
 * Checks that `size` bytes at register + off are inside what the register points to and may be accessed so.
 * Offsets count from the object's start; a variable part has to be bounded on both sides.
 */
export function checkAccess(
  sim: Simulation,
  register: number,
  base: Value,
  off: number,
  size: number,
  access: Access,
  record = true,
): void {
  const write = access !== 'read';
  rejectNotAccessible(sim, register, base, write);
  const fixed = base.off + off;
  const variable = base.scalar;
  const min = Number(variable.smin) + fixed;
  // `smin` of a pointer is never far below zero (movedPointer sees to it); `umax` may be anything.
  const umax = variable.umax > BigInt(MAX_OFFSET) ? Infinity : Number(variable.umax);
  const max = umax + fixed;
  switch (base.kind) {
    case Kind.Packet:
    case Kind.PacketMeta:
      checkPacketAccess(sim, register, base, fixed, size, write);
      if (record) {
        const region = base.kind === Kind.Packet ? 'packet' : 'packet-meta';
        sim.facts.access(sim.pc, region, write, size, min, max);
      } else if (write) sim.facts.writesPacket = true;
      return;
    case Kind.MapValue: {
      const map = base.map!;
      if (write && (map.spec.flags & BPF_F_RDONLY_PROG) !== 0)
        rejectReadOnly(sim, register, `map ${map.spec.name}`);
      // The values of device maps belong to the kernel.
      const isDeviceMap =
        map.spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP ||
        map.spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH;
      if (write && isDeviceMap) rejectReadOnly(sim, register, `the value of device map ${map.spec.name}`);
      if (access !== 'write' && (map.spec.flags & BPF_F_WRONLY_PROG) !== 0) {
        sim.reject('write-only', `map ${map.spec.name} may not be read by programs`, {
          registers: [register],
        });
      }
      checkBounds(
        sim,
        register,
        base,
        min,
        max,
        size,
        map.spec.valueSize,
        'map-value-bounds',
        `a value of map ${map.spec.name}`,
      );
      if (record) sim.facts.access(sim.pc, 'map-value', write, size, min, max, map.handle);
      return;
    }
    case Kind.MapKey:
      if (write) rejectReadOnly(sim, register, 'the key of a map');
      checkBounds(sim, register, base, min, max, size, base.map!.spec.keySize, 'memory-bounds', 'the key');
      if (record) sim.facts.access(sim.pc, 'memory', write, size, min, max);
      return;
    case Kind.Memory:
      checkBounds(sim, register, base, min, max, size, base.size, 'memory-bounds', 'the ring buffer record');
      if (record) sim.facts.access(sim.pc, 'memory', write, size, min, max);
      return;
    case Kind.Socket:
    case Kind.XskSocket:
      checkSocketAccess(sim, register, base, fixed, size, write);
      if (record) sim.facts.accessElsewhere(sim.pc);
      return;
    default:
      sim.reject(
        'not-a-pointer',
        `R${register} is ${describeKind(base)}, which is not memory that a program may access`,
        {
          registers: [register],
        },
      );
  }
}

function rejectNotAccessible(sim: Simulation, register: number, base: Value, write: boolean): void {
  const verb = write ? 'written' : 'read';
  if (base.maybeNull) {
    sim.reject(
      'null-dereference',
      `R${register} is ${describeKind(base)}, and memory would be ${verb} through it`,
      {
        registers: [register],
        suggestion: `compare R${register} with 0 first, and do not come here if it is: if (!ptr) return XDP_PASS;`,
      },
    );
  }
  if (base.kind === Kind.Stale) rejectStale(sim, register);
  if (base.kind !== Kind.Scalar) return;
  if (base.isZero) {
    sim.reject(
      'null-dereference',
      `R${register} is NULL on this path, and memory would be ${verb} through it`,
      {
        registers: [register],
        suggestion: 'leave the path on which the pointer was found to be 0 before this access',
      },
    );
  }
  sim.reject(
    'not-a-pointer',
    `R${register} is ${describeKind(base)}, and memory would be ${verb} through it`,
    {
      registers: [register],
      suggestion:
        'memory is reached through pointers that the verifier knows: from the context, the stack, a map lookup or a helper; arithmetic other than + and - turns a pointer into a number',
    },
  );
}

function rejectReadOnly(sim: Simulation, register: number, what: string): never {
  sim.reject('read-only', `${what} may only be read`, { registers: [register] });
}

function checkPacketAccess(
  sim: Simulation,
  register: number,
  base: Value,
  fixed: number,
  size: number,
  write: boolean,
): void {
  const { range, scalar } = base;
  if (scalar.smin >= 0n && fixed >= 0 && range >= 0 && fixed + size <= range) return;
  const start = base.kind === Kind.Packet ? 'data' : 'data_meta';
  const end = base.kind === Kind.Packet ? 'data_end' : 'data';
  const variable = scalar.isConst ? '' : ' + the variable offset';
  const verb = write ? 'written' : 'read';
  if (scalar.smin < 0n) {
    sim.reject('packet-bounds', `R${register} may point ${-scalar.smin} bytes before ${start}`, {
      registers: [register],
      suggestion: 'make the number that was added unsigned and bounded: mask it with & before the addition',
    });
  }
  if (fixed < 0) {
    sim.reject(
      'packet-bounds',
      `${bytes(size)} at ${start} - ${-fixed} would be ${verb}, before the start of the packet`,
      {
        registers: [register],
        suggestion:
          base.kind === Kind.Packet
            ? 'use data_meta for what is in front of the packet, or bpf_xdp_adjust_head to make room'
            : undefined,
      },
    );
  }
  const proved = range <= 0 ? 'no byte' : `only ${bytes(range)}`;
  const far = scalar.umax > 0xffffn && !scalar.isConst;
  const clue = packetClue(sim, base);
  sim.reject(
    'packet-bounds',
    `${bytes(size)} at ${start}${variable} + ${fixed} would be ${verb}, but this path proved ${proved}`,
    {
      registers: [register],
      suggestion: far
        ? `the variable offset may be as large as ${scalar.umax}, and a comparison with ${end} proves nothing beyond 65535: mask it (offset &= 0x7fff) before adding it, then compare pointer + ${fixed + size} with ${end}`
        : `${clue}compare ${start}${variable} + ${fixed + size} against ${end} before this access${range > 0 ? ` (this path proved only ${bytes(range)})` : ''}, and leave if it is beyond: if (ptr + ${fixed + size} > ${end}) return XDP_DROP;`,
    },
  );
}

/** What the other packet pointers of the state tell of how the comparison may have gone wrong. */
function packetClue(sim: Simulation, base: Value): string {
  const { regs } = sim.state.top;
  for (let other = 0; other < 10; other++) {
    const value = regs[other]!;
    if (value.kind !== base.kind) continue;
    if (value.range < 0 && value.id === base.id) {
      return `this is the branch on which R${other} was found to lie past the end: are the branches of the comparison swapped? `;
    }
    if (value.range > 0 && value.id !== base.id && base.id !== 0) {
      return `the bytes that were proved belong to R${other}, which has another variable offset: access the pointer that was compared, or `;
    }
  }
  return '';
}

function checkBounds(
  sim: Simulation,
  register: number,
  base: Value,
  min: number,
  max: number,
  size: number,
  limit: number,
  code: 'map-value-bounds' | 'memory-bounds',
  what: string,
): void {
  if (min >= 0 && max + size <= limit) return;
  const variable = !base.scalar.isConst;
  if (min < 0) {
    sim.reject(
      code,
      `${bytes(size)} ${variable ? `as low as ${-min} bytes` : `${-min} bytes`} before the start of ${what} would be accessed`,
      {
        registers: [register],
        suggestion: variable
          ? 'make sure that the index is not negative: use an unsigned type, or mask it'
          : `use offsets from 0 to ${limit - size}`,
      },
    );
  }
  if (max === Infinity) {
    sim.reject(code, `the offset into ${what} of ${limit} bytes has no upper bound`, {
      registers: [register],
      suggestion: `bound the index before it is added: mask it, or compare it as unsigned; the last offset that fits is ${limit - size}`,
    });
  }
  sim.reject(
    code,
    `${bytes(size)} at offset ${variable ? `up to ${max}` : max} would be accessed, but ${what} has ${limit} bytes`,
    {
      registers: [register],
      suggestion: variable
        ? `bound the index so that the offset is at most ${limit - size}${isMaskOffByOne(base, max, limit) ? ': a power of two minus one as mask, not the size itself' : ''}`
        : `use offsets from 0 to ${Math.max(0, limit - size)}`,
    },
  );
}

function isMaskOffByOne(base: Value, max: number, limit: number): boolean {
  return max === limit && !base.scalar.isConst;
}

/** What of a socket may be read: as the kernel's `bpf_sock_is_valid_access` has it, and no address among it. */
function checkSocketAccess(
  sim: Simulation,
  register: number,
  base: Value,
  fixed: number,
  size: number,
  write: boolean,
): void {
  if (write) rejectReadOnly(sim, register, 'a socket');
  if (base.scalar.isConst && fixed % size === 0 && isSocketField(base, fixed, size)) return;
  sim.reject(
    'memory-bounds',
    `${bytes(size)} at offset ${fixed} are no field of ${describeKind(base)} that can be read`,
    {
      registers: [register],
      suggestion: 'read whole fields, by the struct that the helper says it returns',
    },
  );
}

function isSocketField(base: Value, offset: number, size: number): boolean {
  if (base.kind === Kind.XskSocket) return offset === 0 && size === 4;
  switch (base.socket) {
    case 'sock_common':
      // A socket that is no full one has no type, protocol, mark and priority.
      return !(offset >= 8 && offset < 24) && isBpfSockField(offset, size);
    case 'sock':
      return isBpfSockField(offset, size);
    default:
      // The kernel's own structures, which all begin with its `struct sock_common`.
      return KERNEL_SOCK_FIELDS.has(`${offset}:${size}`);
  }
}

/** Fields of `struct bpf_sock`. */
function isBpfSockField(offset: number, size: number): boolean {
  if (offset < 0 || offset + size > 80 || size > 4) return false;
  const isAddress = (offset >= 24 && offset < 44) || (offset >= 52 && offset < 72);
  // The port is 16 bits of network order; reading 32 is what older programs did.
  const isPort = offset === 48 || (offset === 49 && size === 1);
  // Parts of these may be read: family, type, protocol, source port, state, queue.
  return size === 4 || isAddress || isPort || [4, 8, 12, 44, 72, 76].includes(offset);
}

/** `offset:size` of both addresses, hash, both ports, family, state, interface. */
const KERNEL_SOCK_FIELDS: ReadonlySet<string> = new Set([
  '0:4',
  '0:8',
  '4:4',
  '8:4',
  '12:2',
  '12:4',
  '14:2',
  '16:2',
  '18:1',
  '20:4',
]);

/** The bytes of a frozen map at a constant offset. */
function frozenContent(base: Value, off: number, size: number): bigint | undefined {
  if (base.kind !== Kind.MapValue) return undefined;
  const content = base.map!.spec.frozenValue;
  if (content === undefined || (base.map!.spec.flags & BPF_F_RDONLY_PROG) === 0 || !base.scalar.isConst)
    return undefined;
  const at = base.off + off + Number(base.scalar.smin);
  if (at < 0 || at + size > content.length) return undefined;
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(content[at + i]!);
  return value;
}

// The stack

/** Facts speak of the running function's own frame; an access to a caller's has no place in them. */
function recordStackAccess(
  sim: Simulation,
  base: Value,
  write: boolean,
  size: number,
  min: number,
  max: number,
): void {
  if (base.size === sim.state.depth) sim.facts.access(sim.pc, 'stack', write, size, min, max);
  else sim.facts.accessElsewhere(sim.pc);
}

function checkStackRange(
  sim: Simulation,
  register: number,
  base: Value,
  off: number,
  size: number,
): [min: number, max: number] {
  const fixed = base.off + off;
  const { scalar } = base;
  const unbounded = scalar.smax > BigInt(MAX_OFFSET) || scalar.smin < BigInt(-MAX_OFFSET);
  const min = unbounded ? -Infinity : fixed + Number(scalar.smin);
  const max = unbounded ? Infinity : fixed + Number(scalar.smax);
  if (min < -op.MAX_BPF_STACK || max + size > 0) {
    const where = scalar.isConst
      ? `fp${min < 0 ? min : `+${min}`}`
      : unbounded
        ? 'an unbounded offset'
        : `fp${min} to fp${max}`;
    sim.reject(
      'stack-bounds',
      `${bytes(size)} at ${where} are not inside the stack of ${op.MAX_BPF_STACK} bytes below R10`,
      {
        registers: [register],
        suggestion:
          max + size > 0 && !unbounded
            ? `the stack grows down: offsets run from -${op.MAX_BPF_STACK} to -1, and ${size} bytes start at -${size} at the latest`
            : `use less stack: at most ${op.MAX_BPF_STACK} bytes; keep large buffers in a per-CPU array map`,
      },
    );
  }
  return [min, max];
}

function rejectMisaligned(sim: Simulation, register: number, size: number, where: string): never {
  sim.reject('stack-alignment', `${bytes(size)} at ${where} are not aligned to ${size}`, {
    registers: [register],
    suggestion: `the stack is tracked in aligned pieces: use an offset that is a multiple of ${size}`,
  });
}

/** A variable offset has to keep the alignment by its bits. */
function checkStackAlignment(
  sim: Simulation,
  register: number,
  base: Value,
  off: number,
  size: number,
): void {
  if (size === 1) return;
  const low = BigInt(size - 1);
  const possible = arithmetic(op.BPF_ADD, base.scalar, Scalar.of(base.off + off), false);
  if (((possible.value | possible.mask) & low) !== 0n) {
    rejectMisaligned(sim, register, size, base.scalar.isConst ? `fp${base.off + off}` : 'a variable offset');
  }
}

function loadFromStack(sim: Simulation, insn: Insn, base: Value, size: number, signed: boolean): void {
  const [min, max] = checkStackRange(sim, insn.src, base, insn.off, size);
  checkStackAlignment(sim, insn.src, base, insn.off, size);
  sim.useStack(base.size, min);
  recordStackAccess(sim, base, false, size, min, max);
  if (min !== max) {
    requireInitialised(sim, insn.src, base, min, max + size);
    const loaded = Scalar.ofBytes(size);
    sim.set(insn.dst, scalarValue(signed ? signExtend(loaded, 8 * size) : loaded));
    return;
  }
  const { stack } = sim.state.frames[base.size]!;
  const index = slotIndex(min);
  const slot = stack.slot(index);
  const from = byteIndex(min);
  const origin = stack.origins[index];
  let allZero = true;
  for (let i = from; i < from + size; i++) {
    const byte = slot.byte(i);
    if (byte === Byte.Invalid) rejectUninitialised(sim, insn.src, base.size, min + (i - from), min, size);
    if (byte !== Byte.Zero) allZero = false;
  }
  markLive(origin);
  const { value } = slot;
  if (value !== undefined && from < slot.spillSize) {
    if (from === 0 && size === slot.spillSize && !(signed && size < 8)) {
      const identified = value.kind === Kind.Scalar && value.id === 0 && !value.scalar.isConst;
      if (!identified) {
        sim.set(insn.dst, value, origin, undefined, OriginKind.Copy);
        return;
      }
      // The slot and the register are the same number from now on.
      const named = value.with({ id: sim.newId() });
      const writable = sim.state.writableStack(base.size);
      writable.set(index, slot.withValue(named), origin!);
      sim.set(insn.dst, named, origin, undefined, OriginKind.Copy);
      return;
    }
    if (value.isPointer) {
      if (!sim.options.allowPointerLeaks) {
        sim.reject(
          'spill-size',
          `${size} of the 8 bytes of ${describeKind(value)} that was spilled to fp${min - from} would be read`,
          {
            registers: [insn.src],
            suggestion: 'read a spilled pointer with one 8-byte load from where it was stored',
          },
        );
      }
      sim.set(insn.dst, scalarValue(Scalar.ofBytes(size)));
      return;
    }
    let part = value.scalar;
    if (from + size <= slot.spillSize) {
      if (from > 0) part = arithmetic(op.BPF_RSH, part, Scalar.of(8 * from), false);
      part = truncate(part, size);
      if (signed) part = signExtend(part, 8 * size);
      const kind = part === value.scalar ? OriginKind.Copy : OriginKind.Value;
      sim.set(insn.dst, scalarValue(part), origin, undefined, kind);
      return;
    }
  }
  if (allZero) {
    sim.set(insn.dst, NULL_VALUE);
    return;
  }
  const loaded = Scalar.ofBytes(size);
  sim.set(insn.dst, scalarValue(signed ? signExtend(loaded, 8 * size) : loaded));
}

function rejectUninitialised(
  sim: Simulation,
  register: number,
  frame: number,
  at: number,
  start: number,
  size: number,
): never {
  const name = frame === 0 ? 'fp' : `fp[${frame}]`;
  const part = size === 1 ? '' : `, one of the ${size} bytes at ${name}${start}`;
  sim.reject(
    'uninitialised-stack',
    `the stack byte at ${name}${at}${part} is read, but nothing was stored there on this path`,
    {
      registers: [register],
      suggestion: `store to fp${at} first; a struct that is passed to a helper has padding that has to be cleared as well: zero it as a whole (__builtin_memset or = {})`,
    },
  );
}

function storeToStack(
  sim: Simulation,
  insn: Insn,
  base: Value,
  size: number,
  value: Value,
  source: number | undefined,
): void {
  const [min, max] = checkStackRange(sim, insn.dst, base, insn.off, size);
  checkStackAlignment(sim, insn.dst, base, insn.off, size);
  sim.useStack(base.size, min);
  recordStackAccess(sim, base, true, size, min, max);
  if (min !== max) {
    if (value.isPointer) rejectLeak(sim, source!, value, base);
    writeUntracked(sim, insn.dst, base, min, max + size, false);
    return;
  }
  const index = slotIndex(min);
  const from = byteIndex(min);
  if (value.isPointer) {
    if (size !== 8) {
      if (!sim.options.allowPointerLeaks) {
        sim.reject(
          'spill-size',
          `only ${size} of the 8 bytes of R${source}, ${describeKind(value)}, would be stored`,
          {
            registers: [source!],
            suggestion: 'spill pointers with an 8-byte store',
          },
        );
      }
      writeUntracked(sim, insn.dst, base, min, min + size, true);
      return;
    }
    if (value.kind === Kind.Stack && value.size > base.size) {
      sim.reject(
        'pointer-leak',
        `a pointer to the stack of a function would be stored in the stack of its caller, and outlive it`,
        {
          registers: [source!],
          suggestion: 'pass data out through memory that the caller provides',
        },
      );
    }
  }
  const stack = sim.state.frames[base.size]!.stack;
  const previous = withoutRest(sim, stack.slot(index), size);
  const previousOrigin = size === 8 ? undefined : stack.origins[index];
  const writable = sim.state.writableStack(base.size);
  if (from === 0) {
    let spilled = value;
    let origin = source === undefined ? undefined : sim.origin(source);
    if (value.kind === Kind.Scalar) {
      const scalar = truncate(value.scalar, size);
      if (scalar === value.scalar) spilled = source === undefined ? value : withIdentity(sim, source, value);
      else {
        spilled = scalarValue(scalar);
        // Cutting computes: a return value that comes from here is not the same number.
        origin = sim.madeHere(origin);
      }
    }
    writable.set(
      index,
      spilledSlot(previous, spilled, size),
      sim.madeHere(origin, previousOrigin, OriginKind.Slot),
    );
    return;
  }
  const zero = value.isZero || (value.kind === Kind.Scalar && truncate(value.scalar, size).constant === 0n);
  // That these bytes are zero is remembered, and so has to be what every state here agrees on.
  if (zero && source !== undefined) sim.precise(source);
  const slot = overwrittenSlot(previous, from, size, zero ? Byte.Zero : Byte.Misc);
  writable.set(index, slot, sim.madeHere(previousOrigin, undefined, OriginKind.Slot));
}

/**
 * What a store of `size` bytes finds in a slot. Compilers use the place of a pointer that is no longer needed for
 * smaller values; what is left of the address then counts as never written, so that nothing can read it.
 */
function withoutRest(sim: Simulation, slot: Slot, size: number): Slot {
  const isCut = slot.value?.isPointer === true && size < 8 && !sim.options.allowPointerLeaks;
  return isCut ? EMPTY_SLOT : slot;
}

/**
 * Bytes `min` … `end - 1` are written with something that is not tracked. `certain` if all of them are; otherwise
 * only some are, somewhere in between, and what was never written is still not initialised.
 */
export function writeUntracked(
  sim: Simulation,
  register: number,
  base: Value,
  min: number,
  end: number,
  certain: boolean,
): void {
  const frame = base.size;
  for (let at = min; at < end;) {
    const index = slotIndex(at);
    const from = byteIndex(at);
    const size = Math.min(8 - from, end - at);
    const stack = sim.state.frames[frame]!.stack;
    const previous = stack.slot(index);
    if (!certain && previous.value?.isPointer === true && !sim.options.allowPointerLeaks) {
      rejectCorruptedSpill(sim, register, previous.value, at - from);
    }
    let slot = previous;
    if (certain) slot = overwrittenSlot(withoutRest(sim, previous, size), from, size, Byte.Misc);
    else {
      for (let i = from; i < from + size; i++) {
        if (slot.byte(i) !== Byte.Invalid) slot = overwrittenSlot(slot, i, 1, Byte.Misc);
      }
    }
    const whole = certain && size === 8;
    const origin = sim.madeHere(whole ? undefined : stack.origins[index], undefined, OriginKind.Slot);
    sim.state.writableStack(frame).set(index, slot, origin);
    at += size;
  }
}

/** Where a store hits is not known, so neither is what it leaves of the pointer. */
function rejectCorruptedSpill(sim: Simulation, register: number, value: Value, at: number): never {
  sim.reject(
    'spill-size',
    `some of the 8 bytes of ${describeKind(value)} that was spilled to fp${at} may be overwritten`,
    {
      registers: [register],
      suggestion: 'keep the pointer at another place on the stack than what is written at a variable offset',
    },
  );
}

/** Every byte of `min` … `end - 1` has been written, and none is part of a pointer. */
export function requireInitialised(
  sim: Simulation,
  register: number,
  base: Value,
  min: number,
  end: number,
): void {
  const { stack } = sim.state.frames[base.size]!;
  for (let at = min; at < end; at++) {
    const index = slotIndex(at);
    const slot = stack.slot(index);
    const from = byteIndex(at);
    if (slot.byte(from) === Byte.Invalid) rejectUninitialised(sim, register, base.size, at, min, end - min);
    if (slot.value?.isPointer === true && from < slot.spillSize && !sim.options.allowPointerLeaks) {
      sim.reject(
        'pointer-leak',
        `the bytes at fp${at - from} are ${describeKind(slot.value)} that was spilled there, and would be read as data`,
        {
          registers: [register],
          suggestion:
            'keep spilled pointers out of what is passed to helpers; clear the place, or use another one',
        },
      );
    }
    markLive(stack.origins[index]);
  }
}

function atomicOnStack(sim: Simulation, insn: Insn, base: Value, size: number): void {
  const [min, max] = checkStackRange(sim, insn.dst, base, insn.off, size);
  checkStackAlignment(sim, insn.dst, base, insn.off, size);
  sim.useStack(base.size, min);
  recordStackAccess(sim, base, true, size, min, max);
  requireInitialised(sim, insn.dst, base, min, max + size);
  writeUntracked(sim, insn.dst, base, min, max + size, min === max);
}

/** The range of stack offsets that `base + off … + size` covers; throws when it leaves the stack. */
export function stackRange(
  sim: Simulation,
  register: number,
  base: Value,
  size: number,
): [min: number, end: number] {
  const [min, max] = checkStackRange(sim, register, base, 0, size);
  sim.useStack(base.size, min);
  return [min, max + size];
}

/** The number spilled at a constant place on the stack, and where it came from. */
export function spilledNumber(
  sim: Simulation,
  base: Value,
  size: number,
): { scalar: Scalar; origin: Origin | undefined } | undefined {
  if (base.kind !== Kind.Stack || !base.scalar.isConst) return undefined;
  const at = base.off + Number(base.scalar.smin);
  const { stack } = sim.state.frames[base.size]!;
  const slot = stack.slot(slotIndex(at));
  const from = byteIndex(at);
  const origin = stack.origins[slotIndex(at)];
  if (slot.value?.kind === Kind.Scalar && from + size <= slot.spillSize) {
    const shiftedDown = arithmetic(op.BPF_RSH, slot.value.scalar, Scalar.of(8 * from), false);
    return { scalar: truncate(shiftedDown, size), origin };
  }
  for (let i = from; i < from + size; i++) if (slot.byte(i) !== Byte.Zero) return undefined;
  return { scalar: NULL_VALUE.scalar, origin };
}
