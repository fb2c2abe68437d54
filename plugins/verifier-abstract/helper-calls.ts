import { helperName, knownHelperName } from '../../src/bpf/helper-ids.js';
import { type HelperPrototype, XDP_HELPER_PROTOTYPES } from '../../src/bpf/helper-prototypes.js';
import type { Insn } from '../../src/bpf/insn.js';
import { callBack } from './callbacks.js';
import { NO_CONSTANTS } from './fact-collector.js';
import { type Call, checkArgument } from './helper-arguments.js';
import { invalidatePacketPointers, returnValue } from './helper-results.js';
import { leaveCall } from './local-calls.js';
import { NOWHERE, type Origin, OriginKind, PRECISE } from './origin.js';
import { rejectHeldReferences, release } from './references.js';
import type { Simulation } from './simulation.js';

export function callHelper(sim: Simulation, insn: Insn): void {
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
