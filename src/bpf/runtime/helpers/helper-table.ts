import { BPF_FUNC, helperId, helperName, MISSING_FUNCTION } from '../../helper-ids.js';
import type { BpfRuntime } from '../bpf-runtime.js';
import type { HelperWorld } from '../helper-world.js';
import type { RunState } from '../run-state.js';
import type { WorkCounters } from '../work-counters.js';
import { FRAME_SLOT, packetEnd, packetStart } from '../xdp-frame.js';
import {
  HelperFault,
  type AccessCheck,
  type CallbackInvoker,
  type HelperContext,
  type InsnCharge,
  type HelperGroup,
  type HelperImplementation,
} from './helper-context.js';
import { CALLBACK_HELPERS } from './callback-helpers.js';
import { DYNPTR_HELPERS } from './dynptr-helpers.js';
import { MAP_HELPERS } from './map-helpers.js';
import { NETWORK_HELPERS } from './network-helpers.js';
import { OUTPUT_HELPERS } from './output-helpers.js';
import { PACKET_HELPERS } from './packet-helpers.js';
import { REDIRECT_HELPERS } from './redirect-helpers.js';
import { STRING_HELPERS } from './string-helpers.js';
import { TIME_AND_RANDOM_HELPERS } from './time-and-random-helpers.js';

export { FUNCTION_POINTER_HIGH } from './callback-helpers.js';
export { HelperFault, helperFaultReason } from './helper-context.js';
export type { AccessCheck, CallbackInvoker, InsnCharge } from './helper-context.js';

/** bpf_tail_call ends the program that calls it, so it is the executor's own. */
export const TAIL_CALL: number = BPF_FUNC.tail_call;

/** The helpers one executor calls. Made once per loaded program or once per executor and runtime. */
export interface HelperTable {
  /** Numbers that `call` and `find` accept. */
  readonly supported: ReadonlySet<number>;
  /**
   * Calls a helper: it reads R1 … R5 from `RunState`, the frame from `RunState.context`, and writes R0 to
   * `RunState`. Throws HelperFault when the program did what no verified program can or used up its insns, and other
   * errors when the host has not enough for it; the executor ends the run in either case (`helperFaultReason`).
   */
  call(id: number): void;
  /** The helper alone, for an executor that binds call sites once; undefined when it is not supported. */
  find(id: number): (() => void) | undefined;
}

export interface HelperOptions {
  /**
   * How memory arguments are checked. By default against the regions of the address space and, for the packet,
   * against the current frame's bounds. `false` leaves the checks out: an access stays within the address space
   * in any case, but a program that a verifier wrongly let pass may reach another object.
   */
  readonly check?: AccessCheck | false | undefined;
  /** Needed for bpf_loop and bpf_for_each_map_elem, which are unsupported without it. */
  readonly invoke?: CallbackInvoker | undefined;
  /** How the work of helpers is counted towards the insns of the run. Absent: it is not. */
  readonly charge?: InsnCharge | undefined;
  /** Where the bytes that helpers go through are counted. Calls are the executor's to count. */
  readonly work?: WorkCounters | undefined;
  /** Replaces helpers, or adds to them; bpf_conformance asks for a helper 5 of its own. */
  readonly overrides?: ReadonlyMap<number, (state: RunState) => void> | undefined;
}

const GROUPS: readonly HelperGroup[] = [
  MAP_HELPERS,
  TIME_AND_RANDOM_HELPERS,
  REDIRECT_HELPERS,
  PACKET_HELPERS,
  OUTPUT_HELPERS,
  NETWORK_HELPERS,
  STRING_HELPERS,
  DYNPTR_HELPERS,
];

const IMPLEMENTATIONS: ReadonlyMap<number, HelperImplementation> = byNumber(GROUPS);
const CALLBACK_IMPLEMENTATIONS: ReadonlyMap<number, HelperImplementation> = byNumber([CALLBACK_HELPERS]);

/** What every table supports. bpf_tail_call is not in it: see TAIL_CALL. */
export const supportedHelpers: ReadonlySet<number> = new Set(IMPLEMENTATIONS.keys());
/** What a table supports in addition when it is given `invoke`. */
export const callbackHelpers: ReadonlySet<number> = new Set(CALLBACK_IMPLEMENTATIONS.keys());

export function createHelpers(
  runtime: BpfRuntime,
  host: HelperWorld,
  options: HelperOptions = {},
): HelperTable {
  const { state } = runtime;
  const context: HelperContext = {
    runtime,
    host,
    state,
    check: options.check === false ? undefined : (options.check ?? defaultAccessCheck(runtime)),
    invoke: options.invoke,
    charge: options.charge ?? (() => {}),
    work: options.work,
  };
  const functions: (HelperImplementation | undefined)[] = [];
  for (const [id, implementation] of IMPLEMENTATIONS) functions[id] = implementation;
  if (options.invoke !== undefined) {
    for (const [id, implementation] of CALLBACK_IMPLEMENTATIONS) functions[id] = implementation;
  }
  for (const [id, override] of options.overrides ?? []) functions[id] = () => override(state);
  const supported = new Set<number>();
  functions.forEach((implementation, id) => {
    if (implementation !== undefined) supported.add(id);
  });
  const missing = (): never => {
    throw new HelperFault('a function that is not there is called');
  };
  supported.add(MISSING_FUNCTION);
  return {
    supported,
    call(id) {
      const implementation = functions[id];
      if (id === MISSING_FUNCTION) missing();
      if (implementation === undefined) throw new HelperFault(`${helperName(id)} is not supported`);
      implementation(context);
    },
    find(id) {
      if (id === MISSING_FUNCTION) return missing;
      const implementation = functions[id];
      return implementation === undefined ? undefined : () => implementation(context);
    },
  };
}

/**
 * The check for executors that have none of their own: objects by their regions, and of the packet only what
 * lies between data_meta and data_end of the current frame.
 */
export function defaultAccessCheck(runtime: BpfRuntime): AccessCheck {
  const { space, state } = runtime;
  return (address, size, write) => {
    const region = space.regionAt(address);
    if (region?.kind === 'packet') return packetAccessFault(runtime, state.context, address, size, write);
    return space.accessFault(address, size, write);
  };
}

/**
 * Judges an access within a frame ring, as far as the frame at `frame` (0: none) is concerned: its context is
 * readable, its packet and metadata are readable and writable, and nothing else is.
 */
export function packetAccessFault(
  runtime: BpfRuntime,
  frame: number,
  address: number,
  size: number,
  write: boolean,
): string | undefined {
  const verb = write ? 'write' : 'read';
  if (frame === 0) return `${verb} of ${size} bytes in a frame while none is being processed`;
  const { i32 } = runtime.space;
  const dataEnd = packetEnd(i32, frame);
  const dataMeta = packetStart(i32, frame);
  if (address >= dataMeta && address + size <= dataEnd) return undefined;
  if (address >= frame && address < frame + FRAME_SLOT.hardStart) {
    if (address + size > frame + FRAME_SLOT.hardStart) {
      return `${verb} of ${size} bytes at offset ${address - frame} overruns the context (${FRAME_SLOT.hardStart} bytes)`;
    }
    return write ? `write to offset ${address - frame} of the read-only context` : undefined;
  }
  const data = i32[frame >>> 2]! >>> 0;
  const place = address < data ? `${data - address} bytes before` : `at offset ${address - data} of`;
  const meta = data === dataMeta ? '' : ` and ${data - dataMeta} bytes of metadata`;
  return `${verb} of ${size} bytes ${place} the packet, which has ${dataEnd - data} bytes${meta}`;
}

function byNumber(groups: readonly HelperGroup[]): Map<number, HelperImplementation> {
  const implementations = new Map<number, HelperImplementation>();
  for (const group of groups) {
    for (const [name, implementation] of Object.entries(group)) {
      const id = helperId(name);
      if (id === undefined || implementations.has(id)) throw new RangeError(`helper ${name} is misnamed`);
      implementations.set(id, implementation);
    }
  }
  return implementations;
}
