import { BPF_FUNC, helperName, knownHelperName, MISSING_FUNCTION } from '../../src/bpf/helper-ids.js';
import { type HelperPrototype, XDP_HELPER_PROTOTYPES } from '../../src/bpf/helper-prototypes.js';
import type { Insn } from '../../src/bpf/insn.js';
import { touchedField } from '../../src/bpf/special-fields.js';
import { callBack } from './callbacks.js';
import { NO_CONSTANTS } from './fact-collector.js';
import { type Call, checkArgument, type FilledStack } from './helper-arguments.js';
import { invalidatePacketPointers, returnValue } from './helper-results.js';
import { mostWork } from './helper-work.js';
import { leaveCall } from './local-calls.js';
import { type Origin, OriginKind, PRECISE } from './origin.js';
import { checkFormat } from './print-arguments.js';
import { rejectHeldReferences, release } from './references.js';
import { leaveFunction } from './exits.js';
import { rejectCallWithLock, releaseLock, takeLock } from './spin-locks.js';
import { leaveUnwritten, writeUntracked } from './stack-access.js';
import {
  UNKNOWN_NUMBER,
  isInnerMap,
  Kind,
  type KnownMap,
  NULL_VALUE,
  scalarValue,
  type Value,
} from './value.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';

export function callHelper(sim: Simulation, insn: Insn): void {
  rejectCallWithLock(sim, insn.imm);
  const prototype = findPrototype(sim, insn.imm);
  const call: Call = {
    prototype,
    name: helperName(prototype.id),
    map: undefined,
    keyRegister: undefined,
    allocation: 0,
    released: 0,
    format: undefined,
    filled: undefined,
  };
  const { args } = prototype;
  for (let i = 0; i < args.length; i++) checkArgument(sim, call, args[i]!, i + 1);
  if (FORMATS.has(prototype.id)) checkFormat(sim, prototype.id);
  recordCall(sim, call);
  if (prototype.id === BPF_FUNC.spin_lock) takeLock(sim, sim.peek(1));
  if (prototype.id === BPF_FUNC.spin_unlock) releaseLock(sim, sim.peek(1));
  if (args.some((arg) => arg.kind === 'callback')) {
    callBack(sim, prototype, call.map);
    return;
  }
  sim.state.cost += mostWork(sim, call);
  if (prototype.returns.kind === 'tail-call') rejectHeldReferences(sim, 'the tail call replaces the program');
  const returned = returnValue(sim, call);
  if (call.released !== 0) release(sim, call.released);
  if (prototype.changesPacket === true) invalidatePacketPointers(sim);
  const madeOf = prototype.returns.kind === 'redirect-map' ? sim.origin(3) : undefined;
  if (prototype.returns.kind === 'tail-call' && sim.state.depth > 0) {
    tailCallFromFunction(sim, returned);
    return;
  }
  if (call.filled !== undefined) {
    fillOrFail(sim, call.filled);
    return;
  }
  leaveCall(sim, returned, sim.madeHere(madeOf));
  sim.pc++;
}

/** Helpers with a format whose arguments are in memory. */
const FORMATS: ReadonlySet<number> = new Set([BPF_FUNC.trace_vprintk, BPF_FUNC.snprintf]);

/** A helper that fills memory and returns 0, or returns an error and leaves the memory as it was (LeftByKernel). */
function fillOrFail(sim: Simulation, { register, base, min, end, certain }: FilledStack): void {
  const { state } = sim;
  const next = sim.pc + 1;
  const size = sim.origin(register + 1);
  const second = state.fork();
  writeUntracked(sim, register, base, min, end, certain);
  leaveCall(sim, NULL_VALUE, sim.madeHere(size));
  sim.state = second;
  leaveUnwritten(sim, base, min, end);
  leaveCall(sim, SOME_ERROR, sim.madeHere(size));
  sim.state = state;
  if (sim.driver.fork(next, second, next)) sim.state = second;
  sim.pc = next;
}

/** -MAX_ERRNO to -1. */
const SOME_ERROR = scalarValue(Scalar.signed(-4095n, -1n));

/**
 * A tail call in a local function that succeeds: the other program takes the function's place, and what it returns,
 * its caller gets. One that fails goes on behind the call. (In the main program nothing comes after one that succeeds.)
 */
function tailCallFromFunction(sim: Simulation, failed: Value): void {
  const { pc, state } = sim;
  const second = state.fork();
  sim.state = second;
  leaveFunction(sim, UNKNOWN_NUMBER, sim.madeHere());
  const secondPc = sim.pc;
  sim.state = state;
  leaveCall(sim, failed, sim.madeHere());
  if (sim.driver.fork(pc + 1, second, secondPc)) {
    sim.state = second;
    sim.pc = secondPc;
  } else sim.pc = pc + 1;
}

function findPrototype(sim: Simulation, id: number): HelperPrototype {
  if (id === MISSING_FUNCTION) rejectMissingFunction(sim);
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
    const field = fieldOf(sim.peek(1));
    sim.reject(
      'helper-unsupported',
      `${name} cannot be verified here: ${prototype.unsupported}${field === undefined ? '' : ` (R1 points to ${field})`}`,
    );
  }
  return prototype;
}

function rejectMissingFunction(sim: Simulation): never {
  const missing = sim.program.debug?.missing?.find(({ insn }) => insn === sim.pc);
  const name = missing?.name ?? 'a function';
  sim.reject('helper-unknown', `${name} is called, which is weak and not there`, {
    suggestion: `call it only where bpf_ksym_exists(${missing?.name ?? '…'}) is true, which it is not here`,
  });
}

/** The special field of a map's value that a pointer is to, e.g. `expiry of map flows, a bpf_timer`. */
function fieldOf({ kind, map, off, scalar }: Value): string | undefined {
  if (kind !== Kind.MapValue || map === undefined || !scalar.isConst) return undefined;
  const at = off + Number(scalar.smin);
  const field = touchedField(map.special, at, at + 1);
  return field === undefined ? undefined : `${field.name} of map ${map.spec.name}, a ${field.type}`;
}

/** Facts may only name numbers that no other path can replace: see CallFact and origin.ts. */
function recordCall(sim: Simulation, call: Call): void {
  let constants: Map<number, bigint> | undefined;
  for (let register = 1; register <= call.prototype.args.length; register++) {
    const constant = sim.peek(register).constant;
    if (constant === undefined) continue;
    // A number that went through a stored state may stand for others, unless states have to agree on it exactly.
    const origin = sim.origin(register);
    if (origin !== undefined && isExact(sim, origin)) (constants ??= new Map()).set(register, constant);
  }
  if (call.map !== undefined) sim.facts.mapType(call.map.spec.type);
  if (call.map !== undefined && CHANGE_ELEMENTS.has(call.prototype.id))
    noteChangeWhileIterated(sim, call.map);
  sim.facts.call(sim.pc, call.prototype.id, handleOf(call.map), constants ?? NO_CONSTANTS);
}

/** bpf_map_update_elem and bpf_map_delete_elem. */
const CHANGE_ELEMENTS: ReadonlySet<number> = new Set([2, 3]);

/** A callback of bpf_for_each_map_elem that adds elements to what is iterated may be called without end. */
function noteChangeWhileIterated(sim: Simulation, map: KnownMap): void {
  for (const { callback } of sim.state.frames) {
    const iterated = callback?.map;
    if (iterated === undefined) continue;
    if (iterated === map || isInnerMap(iterated) || isInnerMap(map)) sim.changesIteratedMap = true;
  }
}

/** What of a map facts can name: what a lookup in a map of maps gave has no handle. */
function handleOf(map: KnownMap | undefined): number | undefined {
  return map === undefined || isInnerMap(map) ? undefined : map.handle;
}

/** Whether no other path, which ended at a state that this one has passed, may have had another number there. */
function isExact(sim: Simulation, origin: Origin): boolean {
  let at = sim.state.latest;
  while (at !== undefined && !(at.isStored && at.isOpen)) at = at.before;
  if (at !== undefined && at.steps >= origin.step) return at.isPrecise(origin);
  return (origin.marks & PRECISE) !== 0 || isMadeOfConstants(origin);
}

function isMadeOfConstants(origin: Origin): boolean {
  return origin.kind === OriginKind.Value && origin.a === undefined && origin.b === undefined;
}
