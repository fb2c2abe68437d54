import { E2BIG, EBADF, EPERM } from '../../src/bpf/errno.js';
import { SlotMap } from './slot-map.js';

/** PROG_ARRAY: program ids, for tail calls. */
export class ProgramArray extends SlotMap {
  lookupElem(): number {
    return 0;
  }

  programAt(index: number): number {
    return this.slot(index);
  }

  setProgram(index: number, programId: number): number {
    if (!this.mayWrite) return -EPERM;
    if (index >= this.attributes.maxEntries) return -E2BIG;
    if (programId === 0) return -EBADF;
    this.exchange(index, programId);
    return 0;
  }
}
