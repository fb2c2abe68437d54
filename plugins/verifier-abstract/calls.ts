import { helperName, knownHelperName } from '../../src/bpf/helper-ids.js';
import {
  HELPERS_OF_MAP_TYPE,
  MAP_TYPES_OF_HELPER,
  XDP_HELPER_PROTOTYPES,
  type HelperArgument,
  type HelperPrototype,
  type MemoryAccess,
} from '../../src/bpf/helper-prototypes.js';
import type { Insn } from '../../src/bpf/insn.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, mapTypeName } from '../../src/bpf/map-spec.js';
import * as op from '../../src/bpf/opcodes.js';
import { XDP_ABORTED, XDP_REDIRECT } from '../../src/bpf/xdp.js';
import { rejectStale } from './alu.js';
import {
  checkAccess,
  requireInitialised,
  spilledNumber,
  stackRange,
  writeUntracked,
} from './memory-access.js';
import { NOWHERE, OriginKind, PRECISE, markLive, markPrecise, markReturned, type Origin } from './origin.js';
import {
  Kind,
  NOT_INIT,
  RELEASED,
  STALE_PACKET,
  UNKNOWN_NUMBER,
  describeKind,
  pointer,
  scalarValue,
  type KnownMap,
  type Value,
} from './register-state.js';
import { arithmetic, join } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import type { CallbackFrame } from './verifier-state.js';

/** Largest size of memory that a helper may be given (kernel BPF_MAX_VAR_SIZ). */
const MAX_MEMORY_SIZE = 1 << 29;
/** bpf_loop runs at most this often (kernel BPF_MAX_LOOPS). */
const MAX_LOOPS = 1 << 23;

/** CALL of a helper or of a local function; calls of kernel functions were rejected before. */
export function stepCall(sim: Simulation, insn: Insn): boolean {
  switch (insn.src) {
    case op.BPF_PSEUDO_CALL:
      callFunction(sim, insn);
      return true;
    default:
      callHelper(sim, insn);
      return true;
  }
}

// Local functions

function callFunction(sim: Simulation, insn: Insn): void {
  const { state } = sim;
  rejectDeepCall(sim);
  const caller = state.top;
  const start = sim.pc + 1 + insn.imm;
  sim.facts.call(sim.pc, -1, undefined, NO_CONSTANTS);
  const frame = state.pushFrame(start, sim.pc);
  for (let register = 1; register <= 5; register++) {
    frame.regs[register] = caller.regs[register]!;
    frame.origins[register] = caller.origins[register];
  }
  sim.pc = start;
}

function rejectDeepCall(sim: Simulation): void {
  if (sim.state.frames.length < op.MAX_CALL_FRAMES) return;
  sim.reject(
    'call-depth',
    `this call would be the ${op.MAX_CALL_FRAMES + 1}th frame; ${op.MAX_CALL_FRAMES} is the limit`,
    {
      suggestion: 'flatten the calls, or inline functions (__always_inline); recursion is not possible',
    },
  );
}

/** EXIT: of the program, of a function, or of a callback. */
export function stepExit(sim: Simulation): boolean {
  const { state } = sim;
  if (state.depth === 0) {
    exitProgram(sim);
    return false;
  }
  const frame = state.top;
  const result = frame.regs[0]!;
  const resultOrigin = frame.origins[0];
  if (frame.callback !== undefined) {
    exitCallback(sim, frame.callback, result, resultOrigin);
    return true;
  }
  if (result.kind === Kind.Stack && result.size === state.depth) {
    sim.reject('return-value', 'the function returns a pointer to its own stack, which is gone then', {
      registers: [0],
      suggestion: 'let the caller pass the memory in',
    });
  }
  state.popFrame();
  const { callsite } = frame;
  leaveCall(sim, result, resultOrigin);
  sim.pc = callsite + 1;
  return true;
}

/** After any call: R0 holds the result, R1 … R5 nothing. */
function leaveCall(sim: Simulation, result: Value, origin: Origin | undefined): void {
  const frame = sim.state.writable();
  for (let register = 1; register <= 5; register++) {
    frame.regs[register] = NOT_INIT;
    frame.origins[register] = undefined;
  }
  frame.regs[0] = result;
  frame.origins[0] = origin;
}

function exitProgram(sim: Simulation): void {
  const result = sim.peek(0);
  if (result.kind === Kind.NotInit) {
    sim.reject('uninitialised-register', 'the program ends, but R0, its verdict, was not set on this path', {
      registers: [0],
      suggestion: 'set R0 to a verdict (XDP_PASS is 2, XDP_DROP is 1) before every exit',
    });
  }
  if (result.isPointer) {
    const leaks = !sim.options.allowPointerLeaks;
    sim.reject(
      leaks ? 'pointer-leak' : 'return-value',
      `the program returns ${describeKind(result)} instead of a verdict`,
      {
        registers: [0],
        suggestion: 'set R0 to a verdict (XDP_PASS is 2, XDP_DROP is 1) before exit',
      },
    );
  }
  rejectHeldReferences(sim, 'the program ends');
  sim.facts.returns(result.scalar);
  markReturned(sim.origin(0));
}

function rejectHeldReferences(sim: Simulation, event: string): void {
  const [held] = sim.state.references;
  if (held === undefined) return;
  sim.reject(
    'reference-leak',
    `${event}, but ${held.what} that insn ${held.insn} acquired is not given back on this path`,
    {
      suggestion: `${held.what.includes('ring buffer') ? 'call bpf_ringbuf_submit or bpf_ringbuf_discard' : 'call bpf_sk_release'} on every path after the check for NULL`,
    },
  );
}

// Callbacks

/**
 * A helper that calls back is simulated as the kernel does: at its call insn the path forks into one that goes on
 * behind the call and one that runs the function once and comes back to the call insn. Pruning ends this when
 * another round changes nothing.
 */
function callBack(sim: Simulation, prototype: HelperPrototype, map: KnownMap | undefined): void {
  const { state } = sim;
  const next = sim.pc + 1;
  const caller = state.top;
  const isLoop = prototype.id === 181;
  const count = caller.regs[1]!;
  const bound =
    isLoop && count.kind === Kind.Scalar ? count.scalar.umax : BigInt(map?.spec.maxEntries ?? MAX_LOOPS);
  const limit = bound < BigInt(MAX_LOOPS) ? Number(bound) : MAX_LOOPS;
  if (isLoop) sim.precise(1);
  const rounds = caller.rounds ?? { invocation: sim.newId(), count: 0, charged: 0 };
  const again = rounds.count < limit;
  if (!again) {
    finishCallbacks(sim);
    sim.pc = next;
    return;
  }
  rejectDeepCall(sim);
  const functionPointer = caller.regs[2]!;
  const second = state.fork();
  // First: no further round.
  finishCallbacks(sim);
  // Second: one more.
  sim.state = second;
  const callsite = sim.pc;
  second.setRounds({ ...rounds, count: rounds.count + 1 });
  const outer = second.top;
  const frame = second.pushFrame(functionPointer.size, callsite, {
    helper: prototype.id,
    map,
    limit,
    enteredAt: second.cost,
  });
  const context = outer.regs[3]!;
  const contextOrigin = outer.origins[3];
  const provide = (register: number, value: Value, origin?: Origin): void => {
    frame.regs[register] = value;
    frame.origins[register] = origin ?? sim.madeHere();
  };
  if (isLoop) {
    provide(1, UNKNOWN_NUMBER);
    provide(2, context, contextOrigin);
  } else {
    provide(1, pointer(Kind.Map, { map }));
    provide(2, pointer(Kind.MapKey, { map }));
    provide(3, pointer(Kind.MapValue, { map }));
    provide(4, context, contextOrigin);
  }
  sim.state = state;
  if (sim.driver.fork(next, second, functionPointer.size)) {
    sim.state = second;
    sim.pc = functionPointer.size;
  } else sim.pc = next;
}

function finishCallbacks(sim: Simulation): void {
  sim.state.setRounds(undefined);
  leaveCall(sim, UNKNOWN_NUMBER, sim.madeHere());
}

function exitCallback(
  sim: Simulation,
  callback: CallbackFrame,
  result: Value,
  origin: Origin | undefined,
): void {
  const ok = result.kind === Kind.Scalar && result.scalar.umax <= 1n;
  if (!ok) {
    sim.reject(
      'callback-invalid',
      `the callback returns ${describeKind(result)}, but has to return 0 (go on) or 1 (stop)`,
      {
        registers: [0],
        suggestion: 'return 0 or 1 from the callback',
      },
    );
  }
  markPrecise(origin);
  const { state } = sim;
  const { callsite } = state.top;
  state.popFrame();
  // The longest run repeats the longest round as often as the helper may call back.
  const round = state.cost - callback.enteredAt;
  const rounds = state.top.rounds!;
  if (round > rounds.charged) {
    state.cost += (round - rounds.charged) * ((callback.limit ?? MAX_LOOPS) - 1);
    state.setRounds({ ...rounds, charged: round });
  }
  // Back to the call insn, which decides whether there is another round; it is not executed again.
  state.cost--;
  sim.pc = callsite;
}

// Helpers

const NO_CONSTANTS: ReadonlyMap<number, bigint> = new Map();

/** What the arguments of one call tell each other. */
interface Call {
  readonly prototype: HelperPrototype;
  readonly name: string;
  map: KnownMap | undefined;
  keyRegister: number | undefined;
  allocation: number;
  released: number;
}

function callHelper(sim: Simulation, insn: Insn): void {
  const prototype = findPrototype(sim, insn.imm);
  const call: Call = {
    prototype,
    name: helperName(prototype.id),
    map: undefined,
    keyRegister: undefined,
    allocation: 0,
    released: 0,
  };
  const { args } = prototype;
  for (let i = 0; i < args.length; i++) checkArgument(sim, call, args[i]!, i + 1, args[i + 1]);
  recordCall(sim, call);
  if (args.some((arg) => arg.kind === 'callback')) {
    callBack(sim, prototype, call.map);
    return;
  }
  if (prototype.returns.kind === 'tail-call') rejectHeldReferences(sim, 'the tail call replaces the program');
  const returned = returnValue(sim, call);
  if (call.released !== 0) release(sim, call.released);
  if (prototype.changesPacket === true) invalidatePacketPointers(sim);
  const madeOf = prototype.returns.kind === 'redirect-map' ? sim.origin(3) : undefined;
  leaveCall(sim, returned, sim.madeHere(madeOf));
  sim.pc++;
}

function findPrototype(sim: Simulation, id: number): HelperPrototype {
  const prototype = XDP_HELPER_PROTOTYPES.get(id);
  const name = helperName(id);
  if (prototype === undefined) {
    const known = knownHelperName(id) !== undefined && id !== 0;
    return sim.reject(
      'helper-unknown',
      known ? `XDP programs may not call ${name}` : `there is no helper ${id}`,
      known ? {} : { suggestion: 'helper numbers are those of enum bpf_func_id in linux/bpf.h' },
    );
  }
  if (prototype.gplOnly === true && !sim.program.gplCompatible) {
    sim.reject('helper-gpl-only', `${name} may only be called by programs with a GPL-compatible license`, {
      suggestion: 'give the program a license section with "GPL" or "Dual MIT/GPL", if that is its license',
    });
  }
  if (prototype.privileged === true && !sim.options.allowPrivilegedHelpers) {
    sim.reject(
      'helper-privileged',
      `${name} reaches beyond the packet and the maps, which a guest's program may not`,
      {
        suggestion: 'allow it with allowPrivilegedHelpers if the programs come from someone trusted',
      },
    );
  }
  if (prototype.unsupported !== undefined) {
    sim.reject('helper-unsupported', `${name} cannot be verified here: ${prototype.unsupported}`);
  }
  return prototype;
}

/** Facts may only name numbers that no other path can replace: see CallFact and origin.ts. */
function recordCall(sim: Simulation, call: Call): void {
  let constants: Map<number, bigint> | undefined;
  for (let register = 1; register <= call.prototype.args.length; register++) {
    const constant = sim.peek(register).constant;
    if (constant === undefined) continue;
    // A number that went through a stored state may stand for others, unless states have to agree on it exactly.
    const origin = sim.origin(register);
    const exact = origin !== undefined && ((origin.marks & PRECISE) !== 0 || isMadeOfConstants(origin));
    if (exact) (constants ??= new Map()).set(register, constant);
  }
  if (call.map !== undefined) sim.facts.mapType(call.map.spec.type);
  sim.facts.call(sim.pc, call.prototype.id, call.map?.handle, constants ?? NO_CONSTANTS);
}

function isMadeOfConstants(origin: Origin): boolean {
  return (
    origin.insn !== NOWHERE &&
    origin.kind === OriginKind.Value &&
    origin.a === undefined &&
    origin.b === undefined
  );
}

function rejectArgument(
  sim: Simulation,
  call: Call,
  register: number,
  expected: string,
  suggestion?: string,
): never {
  const value = sim.peek(register);
  if (value.kind === Kind.Stale) rejectStale(sim, register);
  if (value.maybeNull) {
    sim.reject(
      'null-dereference',
      `R${register} is ${describeKind(value)}, but ${call.name} takes ${expected}`,
      {
        registers: [register],
        suggestion: `compare R${register} with 0 before the call`,
      },
    );
  }
  sim.reject(
    'helper-argument',
    `R${register} is ${describeKind(value)}, but ${call.name} takes ${expected} there`,
    {
      registers: [register],
      suggestion,
    },
  );
}

function checkArgument(
  sim: Simulation,
  call: Call,
  arg: HelperArgument,
  register: number,
  next: HelperArgument | undefined,
): void {
  const value = sim.get(register);
  switch (arg.kind) {
    case 'scalar':
      rejectLeakedArgument(sim, call, register, value);
      return;
    case 'address':
      return;
    case 'context':
      if (value.kind !== Kind.Context) {
        rejectArgument(
          sim,
          call,
          register,
          'the context',
          'keep the R1 of the program start in R6 to R9 and pass that',
        );
      }
      if (value.off !== 0) {
        sim.reject(
          'context-modified',
          `R${register} is the context pointer plus ${value.off}, but ${call.name} takes it unmodified`,
          {
            registers: [register],
          },
        );
      }
      return;
    case 'map':
      if (value.kind !== Kind.Map || value.maybeNull) rejectArgument(sim, call, register, 'a map');
      call.map = value.map!;
      checkMapType(sim, call, register, value.map!);
      return;
    case 'map-key':
      call.keyRegister = register;
      checkMemory(
        sim,
        call,
        register,
        call.map!.spec.keySize,
        'read',
        `a key of ${call.map!.spec.keySize} bytes`,
      );
      return;
    case 'map-value':
      checkMemory(
        sim,
        call,
        register,
        call.map!.spec.valueSize,
        arg.access,
        `a value of ${call.map!.spec.valueSize} bytes`,
      );
      return;
    case 'fixed-memory':
      checkMemory(sim, call, register, arg.bytes, arg.access, `memory of ${arg.bytes} bytes`);
      return;
    case 'memory':
      // Checked with its size, which is the next argument.
      if (arg.orNull === true && value.isZero) {
        sim.precise(register);
        return;
      }
      if (next?.kind !== 'size') rejectArgument(sim, call, register, 'memory');
      return;
    case 'size':
      checkSizedMemory(sim, call, register, value, arg.zero);
      return;
    case 'allocation-size': {
      const size = value.constant;
      if (size === undefined || size > BigInt(MAX_MEMORY_SIZE)) {
        sim.reject(
          'helper-size',
          `R${register} has to be a constant: the size of what ${call.name} returns`,
          {
            registers: [register],
            suggestion:
              'pass sizeof(struct …); for a size that is only known at run time use bpf_ringbuf_output',
          },
        );
      }
      sim.precise(register);
      call.allocation = Number(size);
      return;
    }
    case 'constant-string':
      checkString(sim, call, register, value);
      return;
    case 'ringbuf-record':
    case 'socket':
      checkHeld(sim, call, register, value, arg);
      return;
    case 'callback':
      if (value.kind !== Kind.Function) {
        sim.reject(
          'callback-invalid',
          `R${register} is ${describeKind(value)}, but ${call.name} takes a local function there`,
          {
            registers: [register],
          },
        );
      }
      return;
    case 'callback-context':
      if (value.kind === Kind.Stack || value.isZero) {
        if (value.isZero) sim.precise(register);
        return;
      }
      rejectArgument(
        sim,
        call,
        register,
        'a pointer to the stack or NULL',
        'put what the callback needs in a struct on the stack',
      );
      return;
    case 'unsupported':
      sim.reject('helper-unsupported', `${call.name} cannot be verified here: ${arg.what}`);
  }
}

function rejectLeakedArgument(sim: Simulation, call: Call, register: number, value: Value): void {
  if (!value.isPointer || sim.options.allowPointerLeaks) return;
  sim.reject(
    'pointer-leak',
    `R${register} is ${describeKind(value)}, but ${call.name} takes a number there`,
    {
      registers: [register],
      suggestion: 'pass the data itself; addresses may not leave the program',
    },
  );
}

function checkMapType(sim: Simulation, call: Call, register: number, map: KnownMap): void {
  const { type } = map.spec;
  const { id } = call.prototype;
  const helpers = HELPERS_OF_MAP_TYPE.get(type);
  const types = MAP_TYPES_OF_HELPER.get(id);
  // A type in neither table is a plain one, for lookup, update and delete.
  const ok = types === undefined ? helpers === undefined || helpers.includes(id) : types.includes(type);
  if (!ok) {
    sim.reject(
      'map-helper-mismatch',
      `${call.name} does not work on map ${map.spec.name}, which is a ${mapTypeName(type)}`,
      {
        registers: [register],
        suggestion:
          types !== undefined
            ? `pass a map of type ${types.map(mapTypeName).join(' or ')}`
            : helpers!.length > 0
              ? `a ${mapTypeName(type)} is for ${helpers!.map(helperName).join(', ')}`
              : undefined,
      },
    );
  }
  const writes = id === 2 || id === 3 || id === 87 || id === 88;
  if (writes && (map.spec.flags & BPF_F_RDONLY_PROG) !== 0) {
    sim.reject('read-only', `map ${map.spec.name} may only be read by programs`, { registers: [register] });
  }
}

function checkString(sim: Simulation, call: Call, register: number, value: Value): void {
  const content = value.map?.spec.frozenValue;
  const isReadOnly = value.kind === Kind.MapValue && content !== undefined && !value.maybeNull;
  const at = value.off + Number(value.scalar.constant ?? 0n);
  const terminated =
    isReadOnly && value.scalar.isConst && content.indexOf(0, Math.max(0, at)) >= 0 && at >= 0;
  if (terminated) return;
  rejectArgument(
    sim,
    call,
    register,
    'a constant string with its end in it',
    'declare it as static const char text[] = "…", so that it is in .rodata',
  );
}

function checkHeld(sim: Simulation, call: Call, register: number, value: Value, arg: HelperArgument): void {
  const isRecord = arg.kind === 'ringbuf-record';
  const matches = !value.maybeNull && (isRecord ? value.kind === Kind.Memory : value.kind === Kind.Socket);
  const releases = isRecord || (arg.kind === 'socket' && arg.release === true);
  if (!matches) {
    if (releases && !value.maybeNull && value.kind !== Kind.Stale) {
      sim.reject(
        'reference-release',
        `R${register} is ${describeKind(value)}, but ${call.name} takes what was acquired before`,
        {
          registers: [register],
          suggestion: isRecord
            ? 'pass what bpf_ringbuf_reserve returned, once'
            : 'pass what bpf_sk_lookup_… returned, once',
        },
      );
    }
    rejectArgument(sim, call, register, isRecord ? 'a ring buffer record' : 'a socket');
  }
  if (!releases) return;
  if (value.off !== 0 || !value.scalar.isConst || value.scalar.value !== 0n) {
    sim.reject(
      'reference-release',
      `R${register} has an offset, but ${call.name} takes the pointer as it was returned`,
      {
        registers: [register],
        suggestion: 'keep the pointer that was returned, and use a copy to move through the memory',
      },
    );
  }
  if (!sim.state.references.some((reference) => reference.id === value.ref)) {
    sim.reject(
      'reference-release',
      `R${register} is ${describeKind(value)} that is not held, so ${call.name} cannot give it back`,
      {
        registers: [register],
      },
    );
  }
  call.released = value.ref;
}

/** A memory argument together with the size that follows it. */
function checkSizedMemory(
  sim: Simulation,
  call: Call,
  register: number,
  size: Value,
  mayBeZero: boolean,
): void {
  const memoryRegister = register - 1;
  const memory = call.prototype.args[memoryRegister - 1]!;
  const access: MemoryAccess = memory.kind === 'memory' ? memory.access : 'read';
  if (size.isPointer) rejectArgument(sim, call, register, 'a size');
  const { scalar } = size;
  sim.precise(register);
  const name = scalar.isConst ? String(BigInt.asIntN(64, scalar.value)) : `R${register}`;
  if (scalar.smin < 0n) {
    sim.reject('helper-size', `R${register} is the size of memory for ${call.name}, but may be negative`, {
      registers: [register, memoryRegister],
      suggestion: `make it unsigned and bounded: mask it, or compare it as unsigned before the call`,
    });
  }
  const pointerValue = sim.peek(memoryRegister);
  const isNull = memory.kind === 'memory' && memory.orNull === true && pointerValue.isZero;
  if (scalar.umin === 0n && !mayBeZero) {
    sim.reject(
      'helper-size',
      `R${register} is the size of memory for ${call.name}, and may be 0, which it does not take`,
      {
        registers: [register, memoryRegister],
        suggestion: 'make sure before the call that the size is at least 1',
      },
    );
  }
  if (scalar.umax >= BigInt(MAX_MEMORY_SIZE)) {
    sim.reject('helper-size', `R${register} is the size of memory for ${call.name}, and has no upper bound`, {
      registers: [register, memoryRegister],
      suggestion: `bound R${register} to the size of what R${memoryRegister} points to: mask it, or compare it as unsigned`,
    });
  }
  const most = Number(scalar.umax);
  if (isNull) {
    if (most === 0) return;
    rejectArgument(sim, call, memoryRegister, `memory of ${name} bytes`);
  }
  checkMemory(
    sim,
    call,
    memoryRegister,
    most,
    access,
    `memory of ${scalar.isConst ? name : `up to ${most}`} bytes`,
    scalar.isConst,
  );
}

/** `certain` is false when fewer bytes than `size` may be written. */
function checkMemory(
  sim: Simulation,
  call: Call,
  register: number,
  size: number,
  access: MemoryAccess,
  what: string,
  certain = true,
): void {
  const value = sim.peek(register);
  if (value.maybeNull) rejectArgument(sim, call, register, what);
  switch (value.kind) {
    case Kind.Stack: {
      if (size === 0) return;
      const [min, end] = stackRange(sim, register, value, size);
      if (access !== 'write') requireInitialised(sim, register, value, min, end);
      if (access !== 'read') writeUntracked(sim, register, value, min, end, certain && value.scalar.isConst);
      return;
    }
    case Kind.Packet:
    case Kind.PacketMeta:
      if (call.prototype.packetMemory !== true) {
        sim.reject(
          'packet-memory-argument',
          `R${register} is ${describeKind(value)}, but ${call.name} cannot take packet memory`,
          {
            registers: [register],
            suggestion: 'copy the bytes to the stack first and pass that',
          },
        );
      }
      checkAccess(sim, register, value, 0, size, access === 'read' ? 'read' : 'write', false);
      return;
    case Kind.MapValue:
    case Kind.MapKey:
    case Kind.Memory:
      if (access === 'read-write') checkAccess(sim, register, value, 0, size, 'read', false);
      checkAccess(sim, register, value, 0, size, access === 'read' ? 'read' : 'write', false);
      return;
    default:
      if (value.kind === Kind.Scalar && value.isZero && size === 0) return;
      rejectArgument(
        sim,
        call,
        register,
        what,
        'pass a pointer to the stack, to a map value or to packet bytes',
      );
  }
}

// What a helper leaves behind

function returnValue(sim: Simulation, call: Call): Value {
  const { returns } = call.prototype;
  switch (returns.kind) {
    case 'scalar':
      if (returns.values !== undefined) return scalarValue(joinAll(returns.values));
      if (returns.min === undefined || returns.max === undefined) return UNKNOWN_NUMBER;
      return scalarValue(Scalar.signed(BigInt(returns.min), BigInt(returns.max)));
    case 'redirect-map': {
      // The low two bits of the flags are the verdict when there is nothing to redirect to; bad flags abort.
      const flags = sim.peek(3).scalar;
      const otherwise = arithmetic(op.BPF_AND, flags, Scalar.of(3), false);
      const verdict = join(otherwise, Scalar.of(XDP_REDIRECT));
      return scalarValue(flags.umax <= 3n ? verdict : join(verdict, Scalar.of(XDP_ABORTED)));
    }
    case 'void':
    case 'tail-call':
      // R0 is whatever the helper left there.
      return NOT_INIT;
    case 'map-value-or-null':
      return looked(sim, call);
    case 'ringbuf-record-or-null': {
      const ref = acquire(sim, 'the ring buffer record');
      return pointer(Kind.Memory, { id: ref, ref, size: call.allocation, maybeNull: true });
    }
    case 'socket-or-null': {
      const ref = returns.acquires ? acquire(sim, 'the socket') : heldBy(sim, 1);
      const id = returns.acquires ? ref : sim.newId();
      return pointer(Kind.Socket, { id, ref, maybeNull: true, socket: returns.socket });
    }
  }
}

function joinAll(values: readonly number[]): Scalar {
  return values.map((value) => Scalar.of(value)).reduce(join);
}

function heldBy(sim: Simulation, register: number): number {
  return sim.peek(register).ref;
}

/** The number of a new reference; the pointer that holds it has it as `id` too, one made from that only as `ref`. */
function acquire(sim: Simulation, what: string): number {
  const id = sim.newId();
  sim.state.references = [...sim.state.references, { id, insn: sim.pc, what }];
  return id;
}

/** What a lookup gives depends on what the map holds. */
function looked(sim: Simulation, call: Call): Value {
  const map = call.map!;
  const parts = { id: sim.newId(), maybeNull: true };
  switch (map.spec.type) {
    case BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS:
      return pointer(Kind.Map, { ...parts, map: sim.innerMap(map) });
    case BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP:
      return pointer(Kind.XskSocket, parts);
    case BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH: {
      const ref = acquire(sim, 'the socket');
      return pointer(Kind.Socket, { ...parts, id: ref, ref, socket: 'sock' });
    }
    case BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY:
      if (call.prototype.id === 1 && keyIsInside(sim, call, map)) return pointer(Kind.MapValue, { map });
      return pointer(Kind.MapValue, { ...parts, map });
    default:
      return pointer(Kind.MapValue, { ...parts, map });
  }
}

/** An array has every element up to its size, so a known index below it is always found. */
function keyIsInside(sim: Simulation, call: Call, map: KnownMap): boolean {
  if (call.keyRegister === undefined) return false;
  const key = spilledNumber(sim, sim.peek(call.keyRegister), 4);
  const index = key?.scalar.constant;
  if (index === undefined || index >= BigInt(map.spec.maxEntries)) return false;
  markLive(key!.origin);
  markPrecise(key!.origin);
  return true;
}

/** Everything that came with the reference is void. */
function release(sim: Simulation, ref: number): void {
  sim.state.references = sim.state.references.filter((reference) => reference.id !== ref);
  sim.updateAll((candidate) => (candidate.ref === ref ? RELEASED : undefined), undefined);
}

function invalidatePacketPointers(sim: Simulation): void {
  sim.updateAll((candidate) => {
    switch (candidate.kind) {
      case Kind.Packet:
      case Kind.PacketMeta:
      case Kind.PacketEnd:
        return STALE_PACKET;
      default:
        return undefined;
    }
  }, undefined);
}
