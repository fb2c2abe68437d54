import { BPF_FUNC, helperName } from '../../src/bpf/helper-ids.js';
import type { Simulation } from './simulation.js';
import { describeKind } from './value-format.js';
import { Kind, type KnownMap, type Value } from './value.js';
import type { HeldLock } from './verifier-state.js';

/**
 * Whether pointers to the map's values need an id although they cannot be NULL: two of the same id are to the same
 * value, and so to the same lock.
 */
export function holdsLock(map: KnownMap): boolean {
  return lockOffset(map) !== undefined;
}

function lockOffset({ special }: KnownMap): number | undefined {
  return special.fields.find((field) => field.type === 'bpf_spin_lock')?.offset;
}

/** The argument of bpf_spin_lock and bpf_spin_unlock: exactly the lock of a value that is there. */
export function checkLockArgument(sim: Simulation, register: number, value: Value, name: string): void {
  const fail = (reason: string, suggestion: string): never =>
    sim.reject('lock-argument', reason, { registers: [register], suggestion });
  const { map } = value;
  if (value.kind !== Kind.MapValue || map === undefined) {
    return fail(
      `R${register} is ${describeKind(value)}, but ${name} takes a pointer to a bpf_spin_lock in a map's value`,
      'keep the lock in the value of a HASH or ARRAY map and pass its address: &value->lock',
    );
  }
  if (!value.scalar.isConst) {
    return fail(
      `R${register} points to a value of map ${map.spec.name} with a variable offset, but a lock is at a fixed one`,
      'look the value up and pass &value->lock; a value has one lock',
    );
  }
  const expected = lockOffset(map);
  if (expected === undefined) {
    if (map.special.problem !== undefined) {
      return fail(
        `map ${map.spec.name} has no lock that counts: ${map.special.problem}`,
        'put exactly one struct bpf_spin_lock, aligned to 4 bytes, into the value of a HASH or ARRAY map',
      );
    }
    return map.spec.btf === undefined
      ? fail(
          `map ${map.spec.name} has no BTF, which would tell where in its value the lock is`,
          "declare the map in .maps with __type(value, struct …) and compile with -g; a map that a guest creates on the device has no BTF, as the device's protocol carries none",
        )
      : fail(
          `the value of map ${map.spec.name} has no bpf_spin_lock`,
          'add a member of type struct bpf_spin_lock (not a typedef of it, not in a union), aligned to 4 bytes',
        );
  }
  const offset = value.off + Number(value.scalar.smin);
  if (offset === expected) return;
  fail(
    `R${register} points to offset ${offset} of a value of map ${map.spec.name}, whose bpf_spin_lock is at ${expected}`,
    'pass the address of the lock itself: &value->lock',
  );
}

export function takeLock(sim: Simulation, { map, id }: Value): void {
  const held = sim.state.lock;
  if (held !== undefined) {
    sim.reject('lock-held', `a second lock is taken, but ${describeLock(held)} is held`, {
      suggestion: 'call bpf_spin_unlock first; a program holds one lock at a time',
    });
  }
  sim.state.lock = { map: map!, id, insn: sim.pc };
}

export function releaseLock(sim: Simulation, { map, id }: Value): void {
  const held = sim.state.lock;
  if (held === undefined) {
    sim.reject('lock-argument', 'bpf_spin_unlock is called, but no lock is held on this path', {
      registers: [1],
      suggestion: 'call bpf_spin_lock on every path that leads here, and unlock once',
    });
  }
  if (held.map !== map || held.id !== id) {
    sim.reject(
      'lock-argument',
      `bpf_spin_unlock is called for another lock than ${describeLock(held)}, which is held`,
      {
        registers: [1],
        suggestion:
          'unlock through the pointer, or a copy of it, that was locked; a second lookup may give another value',
      },
    );
  }
  sim.state.lock = undefined;
}

/** While a lock is held a program may call its own functions, and bpf_spin_unlock. */
export function rejectCallWithLock(sim: Simulation, helper: number): void {
  const held = sim.state.lock;
  // A second lock is told of by name.
  if (held === undefined || helper === BPF_FUNC.spin_unlock || helper === BPF_FUNC.spin_lock) return;
  sim.reject('lock-held', `${helperName(helper)} is called while ${describeLock(held)} is held`, {
    suggestion: `call bpf_spin_unlock before ${helperName(helper)}: no helper may be called under a lock`,
  });
}

/** At the end of the program or of a callback. */
export function rejectEndWithLock(sim: Simulation, event: string): void {
  const held = sim.state.lock;
  if (held === undefined) return;
  sim.reject('lock-held', `${event}, but ${describeLock(held)} is still held on this path`, {
    suggestion: 'call bpf_spin_unlock on every path',
  });
}

function describeLock({ map, insn }: HeldLock): string {
  return `the lock in map ${map.spec.name} that insn ${insn} took`;
}
