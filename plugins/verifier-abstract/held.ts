import type { Renaming } from './renaming.js';
import type { HeldLock, VerifierState } from './verifier-state.js';

/** Whether both are in the same functions, with as many rounds of callbacks left, or fewer in the current one. */
export function coversCalls(old: VerifierState, current: VerifierState, isSame: boolean): boolean {
  const depth = old.frames.length;
  if (depth !== current.frames.length || old.references.length !== current.references.length) return false;
  for (let i = 0; i < depth; i++) {
    const a = old.frames[i]!;
    const b = current.frames[i]!;
    if (a.callsite !== b.callsite || a.start !== b.start || a.callback?.map !== b.callback?.map) return false;
    // How often a helper may still call back is a number like any other.
    const done = a.rounds?.count ?? 0;
    const doneNow = b.rounds?.count ?? 0;
    if (isSame ? done !== doneNow : done > doneNow) return false;
    // Later rounds cost no more than was found after the old state only if as much is paid for already.
    if ((a.rounds?.charged ?? 0) > (b.rounds?.charged ?? 0)) return false;
  }
  return true;
}

/** Whether both hold the same lock and references, and were called for elements that stand for each other. */
export function coversHeld(renaming: Renaming, old: VerifierState, current: VerifierState): boolean {
  if (!coversLock(renaming, old.lock, current.lock)) return false;
  for (let i = 0; i < old.references.length; i++) {
    if (!renaming.matches(old.references[i]!.id, current.references[i]!.id)) return false;
  }
  for (let i = 0; i < old.frames.length; i++) {
    const element = old.frames[i]!.callback?.element ?? 0;
    if (!renaming.matches(element, current.frames[i]!.callback?.element ?? 0)) return false;
  }
  return true;
}

/** What is held has to be given back: a path that holds a lock does not go on as one that holds none. */
function coversLock(renaming: Renaming, old: HeldLock | undefined, current: HeldLock | undefined): boolean {
  if (old === undefined || current === undefined) return old === current;
  return old.map === current.map && renaming.matches(old.id, current.id);
}
