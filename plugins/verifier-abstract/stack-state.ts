import type { Origin } from './origin.js';
import { EMPTY_SLOT, type Slot } from './slot.js';

/** The stack of one frame: slot 0 is `fp-8 … fp-1`, slot 1 `fp-16 … fp-9`, and so on. */
export class StackState {
  constructor(
    readonly slots: Slot[] = [],
    readonly origins: (Origin | undefined)[] = [],
  ) {}

  copy(): StackState {
    return new StackState(this.slots.slice(), this.origins.slice());
  }

  slot(index: number): Slot {
    return this.slots[index] ?? EMPTY_SLOT;
  }

  set(index: number, slot: Slot, origin: Origin): void {
    // Dense, so that the arrays stay fast.
    while (this.slots.length < index) {
      this.slots.push(EMPTY_SLOT);
      this.origins.push(undefined);
    }
    this.slots[index] = slot;
    this.origins[index] = origin;
  }
}

/** Slot and byte of a frame offset: -1 is the last byte of slot 0. */
export function slotIndex(offset: number): number {
  return (-offset - 1) >> 3;
}

export function byteIndex(offset: number): number {
  return offset & 7;
}
