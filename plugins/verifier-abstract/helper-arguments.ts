import { BPF_FUNC, helperName } from '../../src/bpf/helper-ids.js';
import {
  type HelperArgument,
  type HelperPrototype,
  HELPERS_OF_MAP_TYPE,
  type LeftByKernel,
  MAP_TYPES_OF_HELPER,
  type MemoryAccess,
} from '../../src/bpf/helper-prototypes.js';
import { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, mapTypeName } from '../../src/bpf/map-spec.js';
import { isAligned } from './access.js';
import { boundAdvice } from './bound-advice.js';
import { isConstantString } from './map-access.js';
import { checkPrintArgument, type Printing } from './print-arguments.js';
import { checkAccess } from './region-access.js';
import type { Simulation } from './simulation.js';
import { checkLockArgument } from './spin-locks.js';
import {
  checkStackAlignment,
  requireInitialised,
  requireInUse,
  stackRange,
  writeUntracked,
} from './stack-access.js';
import { rejectStale } from './stale-pointers.js';
import { describeKind } from './value-format.js';
import { Kind, type KnownMap, type Value } from './value.js';

/** Largest size of memory that a helper may be given (kernel BPF_MAX_VAR_SIZ). */
const MAX_MEMORY_SIZE = 1 << 29;

/** Helpers that change a map's content. */
const WRITES_MAP: ReadonlySet<number> = new Set([
  BPF_FUNC.map_update_elem,
  BPF_FUNC.map_delete_elem,
  BPF_FUNC.map_push_elem,
  BPF_FUNC.map_pop_elem,
]);

/** Helpers that copy to the program what a map holds. */
const COPIES_OUT: ReadonlySet<number> = new Set([BPF_FUNC.map_pop_elem, BPF_FUNC.map_peek_elem]);

/** What the arguments of one call tell each other. */
export interface Call extends Printing {
  readonly prototype: HelperPrototype;
  readonly name: string;
  map: KnownMap | undefined;
  keyRegister: number | undefined;
  allocation: number;
  released: number;
  /** Stack that the helper fills if it returns 0; otherwise nothing has been stored there. */
  filled: FilledStack | undefined;
}

/** What a helper may fill on the stack: from `min` up to `end`, through a register that holds `base`. */
export interface FilledStack {
  readonly register: number;
  readonly base: Value;
  readonly min: number;
  readonly end: number;
  /** Whether it is all of it. */
  readonly certain: boolean;
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

export function checkArgument(sim: Simulation, call: Call, arg: HelperArgument, register: number): void {
  if (arg.kind === 'print-argument') {
    checkPrintArgument(sim, call, register);
    return;
  }
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
      if (arg.aligned === true) checkAlignment(sim, call, register, value, arg.bytes);
      return;
    case 'memory':
      // Checked with its size, which is the next argument in every prototype.
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
    case 'spin-lock':
      if (value.maybeNull || value.kind === Kind.Stale) rejectArgument(sim, call, register, 'a lock');
      checkLockArgument(sim, register, value, call.name);
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
  if (WRITES_MAP.has(id) && (map.spec.flags & BPF_F_RDONLY_PROG) !== 0) {
    sim.reject('read-only', `map ${map.spec.name} may only be read by programs`, { registers: [register] });
  }
  if (COPIES_OUT.has(id) && (map.spec.flags & BPF_F_WRONLY_PROG) !== 0) {
    sim.reject('write-only', `map ${map.spec.name} may not be read by programs`, { registers: [register] });
  }
}

function checkString(sim: Simulation, call: Call, register: number, value: Value): void {
  if (isConstantString(value)) return;
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
      suggestion: boundAdvice(scalar, `R${register}`, 'a size of the memory, never negative'),
    });
  }
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
      suggestion: boundAdvice(scalar, `R${register}`, `no larger than what R${memoryRegister} points to`),
    });
  }
  const most = Number(scalar.umax);
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

/** A helper that writes a number as one wants it aligned, whatever the CPU takes (kernel check_ptr_alignment, strict). */
function checkAlignment(sim: Simulation, call: Call, register: number, value: Value, size: number): void {
  if (value.kind === Kind.Stack) {
    checkStackAlignment(sim, register, value, 0, size);
    return;
  }
  if (isAligned(value, 0, size)) return;
  sim.reject(
    'helper-alignment',
    `R${register} is ${describeKind(value)} at an offset that may not be a multiple of ${size}, but ${call.name} takes a number of ${size} bytes there`,
    {
      registers: [register],
      suggestion: `place what the helper writes to at a multiple of ${size}, or pass a variable on the stack`,
    },
  );
}

/** Whether NULL will do for no bytes. */
function mayBeNull(call: Call, register: number): boolean {
  const argument = call.prototype.args[register - 1]!;
  return argument.kind === 'memory' && argument.orNull === true;
}

function leftByKernel(call: Call, register: number): LeftByKernel | undefined {
  const argument = call.prototype.args[register - 1]!;
  return argument.kind === 'memory' ? argument.leaves : undefined;
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
      // No bytes, but at one of the stack (kernel check_stack_access_within_bounds).
      const [min, end] = stackRange(sim, register, value, Math.max(size, 1));
      if (size === 0) {
        if (access !== 'write') requireInUse(sim, register, value, min);
        return;
      }
      if (access !== 'write') requireInitialised(sim, register, value, min, end);
      if (access === 'read') return;
      const isAll = certain && value.scalar.isConst;
      const leaves = sim.options.allowPointerLeaks ? undefined : leftByKernel(call, register);
      if (leaves === 'on-failure') call.filled = { register, base: value, min, end, certain: isAll };
      else writeUntracked(sim, register, value, min, end, isAll && leaves === undefined);
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
      if (value.isZero && size === 0 && mayBeNull(call, register)) {
        sim.precise(register);
        return;
      }
      rejectArgument(
        sim,
        call,
        register,
        what,
        'pass a pointer to the stack, to a map value or to packet bytes',
      );
  }
}
