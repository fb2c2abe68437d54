import { messageOf } from '../../../core/diagnostic.js';
import type { BpfRuntime } from '../bpf-runtime.js';
import type { ResidentMap } from '../bpf-map.js';
import type { HelperWorld } from '../helper-world.js';
import { BYTES_PER_INSN, BYTES_WITHIN_CALL } from '../insn-budget.js';
import type { RunState } from '../run-state.js';
import type { WorkCounters } from '../work-counters.js';
import { FRAME_SLOT, frameIntact } from '../xdp-frame.js';

/**
 * Judges an access that a helper makes for a program: undefined, or why the program may not have it. `size` is
 * in bytes; a size of 0 touches nothing and is never a fault.
 */
export type AccessCheck = (address: number, size: number, write: boolean) => string | undefined;

/**
 * Runs a callback of the program, as bpf_loop and bpf_for_each_map_elem do. The arguments are R1 … R5 in the run
 * state and R0 is in the run state afterwards, as with a helper. `functionSlot` is the insn at which the
 * callback starts. Callbacks nest; a fault in one is thrown, and ends the run.
 */
export type CallbackInvoker = (functionSlot: number) => void;

/**
 * Thrown by a helper when a program does what no verified program can: it ends the run with XDP_ABORTED. The
 * executor that made the call catches it and adds the insn. Never leaves an executor.
 */
export class HelperFault extends Error {
  override readonly name = 'HelperFault';
}

/**
 * Takes `insns` off what the run under way may still execute. Throws HelperFault with `insnLimitReason` when that
 * uses it up.
 */
export type InsnCharge = (insns: number) => void;

/**
 * Why a helper did not return: the text for `ProgramFault.reason`. Whatever a helper throws ends the run and nothing
 * else, since a program can bring it about (a full address space, say) and others run beside it.
 */
export function helperFaultReason(error: unknown): string {
  if (error instanceof HelperFault) return error.message;
  // Without checks, an address beyond the memory ends in a RangeError of the view that was asked for it.
  if (error instanceof RangeError) return `a helper was given a bad pointer: ${error.message}`;
  return `a helper failed: ${messageOf(error)}`;
}

/** What the helpers of one executor work on. */
export interface HelperContext {
  readonly runtime: BpfRuntime;
  readonly host: HelperWorld;
  readonly state: RunState;
  readonly check: AccessCheck | undefined;
  readonly invoke: CallbackInvoker | undefined;
  readonly charge: InsnCharge;
  /** Where the bytes that helpers go through are counted, if they are. */
  readonly work: WorkCounters | undefined;
}

/**
 * One helper: reads R1 … R5 from the run state, writes R0 there. Helpers are plain functions over a context, so
 * that which ones exist is known without making a table.
 */
export type HelperImplementation = (context: HelperContext) => void;

/** A group of helpers by the name the kernel gives them. */
export type HelperGroup = Readonly<Record<string, HelperImplementation>>;

/** Without checks, sizes up to this are taken as they come: no helper gets slow or greedy by them. */
const MAX_UNCHECKED_SIZE = 4096;

/**
 * Argument `n` as the address of `size` bytes that the program may read or write. Throws HelperFault otherwise;
 * where checks are left out, only if the size is large and no object has it there.
 */
export function pointerArgument(context: HelperContext, n: number, size: number, write: boolean): number {
  const address = context.state.argLow(n) >>> 0;
  if (size > (context.check === undefined ? MAX_UNCHECKED_SIZE : 0)) {
    if (context.state.argHigh(n) !== 0) {
      throw new HelperFault(`r${n} = 0x${context.state.arg(n).toString(16)} is not an address`);
    }
    const fault =
      context.check === undefined
        ? context.runtime.space.accessFault(address, size, write)
        : context.check(address, size, write);
    if (fault !== undefined) throw new HelperFault(`argument r${n}: ${fault}`);
  }
  return address;
}

/** Counts and charges for work on so many bytes, before it is done. */
export function chargeBytes(context: HelperContext, bytes: number): void {
  context.work?.addBytes(bytes);
  if (bytes > BYTES_WITHIN_CALL) context.charge(Math.ceil(bytes / BYTES_PER_INSN));
}

/** Charges for what an operation of a map did beyond its call. To be called after each. */
export function chargeOwed(context: HelperContext): void {
  if (context.runtime.owedInsns !== 0) context.charge(context.runtime.takeOwedInsns());
}

/**
 * Zeroes memory that a helper is given to write. Verifiers take all of it for written by the call, whatever the call
 * returns; what was there before, an address perhaps, must not be left in what the helper has no data for.
 */
export function clear(context: HelperContext, address: number, size: number): void {
  if (size > 0) context.runtime.space.u8.fill(0, address, address + size);
}

/** Argument `n` as a map. Throws HelperFault when it names none. */
export function mapArgument(context: HelperContext, n: number): ResidentMap {
  const map = context.runtime.maps.get(context.state.argLow(n) >>> 0);
  if (map === undefined || context.state.argHigh(n) !== 0) {
    throw new HelperFault(`r${n} = 0x${context.state.arg(n).toString(16)} is not a map`);
  }
  return map;
}

/** Word index (in `space.i32`) of the frame being processed. Throws HelperFault outside an XDP run. */
export function frameWord(context: HelperContext): number {
  const frame = context.state.context;
  if (frame === 0) throw new HelperFault('the helper needs an XDP frame and there is none');
  return frame >>> 2;
}

/** `frameWord` of a frame whose bounds may be used. Throws HelperFault if they were overwritten. */
export function intactFrameWord(context: HelperContext): number {
  const word = frameWord(context);
  if (!frameIntact(context.runtime.space, 4 * word)) {
    throw new HelperFault('the bounds of the frame were overwritten');
  }
  return word;
}

/** Word offsets of the frame slot's fields, to go with `frameWord`. */
export const FRAME_WORD = {
  data: 0,
  dataEnd: 1,
  dataMeta: 2,
  ingressIfindex: 3,
  hardStart: FRAME_SLOT.hardStart >> 2,
  hardEnd: FRAME_SLOT.hardEnd >> 2,
  redirectKind: FRAME_SLOT.redirectKind >> 2,
  redirectTarget: FRAME_SLOT.redirectTarget >> 2,
  redirectMap: FRAME_SLOT.redirectMap >> 2,
  redirectFlags: FRAME_SLOT.redirectFlags >> 2,
  fragsLength: FRAME_SLOT.fragsLength >> 2,
  frags: FRAME_SLOT.frags >> 2,
} as const;
