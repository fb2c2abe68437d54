import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { bytes, isAligned, MAX_OFFSET } from './access.js';
import { withIdentity } from './identity.js';
import { rejectLeak } from './leaks.js';
import { ALL_BYTES, type Origin, OriginKind } from './origin.js';
import { arithmetic, signExtend, truncate } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import { Byte, EMPTY_SLOT, overwrittenSlot, type Slot, spilledSlot } from './slot.js';
import { byteIndex, slotIndex } from './stack-state.js';
import { describeKind } from './value-format.js';
import { Kind, NULL_VALUE, scalarValue, type Value } from './value.js';

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

export function checkStackAlignment(
  sim: Simulation,
  register: number,
  base: Value,
  off: number,
  size: number,
): void {
  if (!isAligned(base, off, size)) {
    rejectMisaligned(sim, register, size, base.scalar.isConst ? `fp${base.off + off}` : 'a variable offset');
  }
}

export function loadFromStack(sim: Simulation, insn: Insn, base: Value, size: number, signed: boolean): void {
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
  sim.live(base.size, index, bitsOf(from, size));
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
      sim.reject(
        'spill-size',
        `${size} of the 8 bytes of ${describeKind(value)} that was spilled to fp${min - from} would be read`,
        {
          registers: [insn.src],
          suggestion: 'read a spilled pointer with one 8-byte load from where it was stored',
        },
      );
    }
    let part = value.scalar;
    if (from + size <= slot.spillSize) {
      if (from > 0) part = arithmetic(op.BPF_RSH, part, Scalar.of(8 * from), false);
      part = truncate(part, size);
      if (signed) part = signExtend(part, 8 * size);
      const isSame = part === value.scalar && from === 0 && keepsVerdict(size);
      const kind = isSame ? OriginKind.Copy : OriginKind.Value;
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

export function storeToStack(
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
      sim.reject(
        'spill-size',
        `only ${size} of the 8 bytes of R${source}, ${describeKind(value)}, would be stored`,
        {
          registers: [source!],
          suggestion: 'spill pointers with an 8-byte store',
        },
      );
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
      if (scalar !== value.scalar) spilled = scalarValue(scalar);
      else if (source !== undefined) spilled = withIdentity(sim, source, value);
      // Cutting computes: a return value that comes from here need not be the same number.
      if (scalar !== value.scalar || !keepsVerdict(size)) origin = sim.madeHere(origin);
    }
    const slot = spilledSlot(previous, spilled, size);
    writable.set(index, slot, sim.wroteHere(bitsOf(0, size), origin, previousOrigin));
    return;
  }
  const zero = value.isZero || (value.kind === Kind.Scalar && truncate(value.scalar, size).constant === 0n);
  // That these bytes are zero is remembered, and so has to be what every state here agrees on.
  if (zero && source !== undefined) sim.precise(source);
  const slot = overwrittenSlot(previous, from, size, zero ? Byte.Zero : Byte.Misc);
  writable.set(index, slot, sim.wroteHere(bitsOf(from, size), previousOrigin));
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
    const written = certain ? bitsOf(from, size) : 0;
    const origin = sim.wroteHere(written, written === ALL_BYTES ? undefined : stack.origins[index]);
    sim.state.writableStack(frame).set(index, slot, origin);
    at += size;
  }
}

/**
 * Bytes `min` … `end - 1` are as they were, or have been cleared: what was never written still is not, what was written is not
 * known, and of pointers nothing is left that could be read.
 */
export function leaveUnwritten(sim: Simulation, base: Value, min: number, end: number): void {
  for (let index = slotIndex(end - 1); index <= slotIndex(min); index++) {
    const { stack } = sim.state.frames[base.size]!;
    const previous = stack.slot(index);
    if (previous.types === 0) continue;
    let slot = withoutRest(sim, previous, 1);
    for (let i = 0; i < 8; i++) {
      const at = i - 8 * (index + 1);
      if (at >= min && at < end && slot.byte(i) !== Byte.Invalid)
        slot = overwrittenSlot(slot, i, 1, Byte.Misc);
    }
    const origin = sim.wroteHere(0, stack.origins[index]);
    sim.state.writableStack(base.size).set(index, slot, origin);
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
    sim.live(base.size, index, 1 << from);
  }
}

/**
 * Something has been written at the slot of `min` or below it. Of bytes that nobody reads no more is asked, by the kernel
 * neither: to a program that may not see addresses the stack ends where it was written to (check_stack_slot_within_bounds).
 */
export function requireInUse(sim: Simulation, register: number, base: Value, min: number): void {
  if (sim.options.allowPointerLeaks) return;
  const { stack } = sim.state.frames[base.size]!;
  for (let index = slotIndex(min); index < stack.slots.length; index++) {
    if (stack.slot(index).types === 0) continue;
    sim.live(base.size, index, ALL_BYTES);
    return;
  }
  const name = base.size === 0 ? 'fp' : `fp[${base.size}]`;
  sim.reject(
    'uninitialised-stack',
    `no bytes at ${name}${min} would be read, but nothing was stored there or below on this path`,
    {
      registers: [register],
      suggestion: `pass memory that was written, or NULL to a helper that takes it for no bytes`,
    },
  );
}

export function atomicOnStack(sim: Simulation, insn: Insn, base: Value, size: number): void {
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

/** The number spilled at a constant place on the stack, `off` bytes above `base`, and where it came from. */
export function spilledNumber(
  sim: Simulation,
  base: Value,
  size: number,
  off = 0,
): { scalar: Scalar; origin: Origin | undefined } | undefined {
  if (base.kind !== Kind.Stack || !base.scalar.isConst) return undefined;
  const at = base.off + off + Number(base.scalar.smin);
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

/** One bit for each of `size` bytes of a slot. */
function bitsOf(from: number, size: number): number {
  return ((1 << size) - 1) << from;
}

/** Whether so many bytes of a number hold all of the verdict that it would be: R0's low 32 bits. */
function keepsVerdict(size: number): boolean {
  return size >= 4;
}
