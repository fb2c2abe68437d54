import { errnoName } from '../../bpf/errno.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { roundUp } from '../../bpf/runtime/address-space.js';
import { isResidentMap, type ResidentMap } from '../../bpf/runtime/bpf-map.js';
import { FRAME_SLOT, FRAME_SLOT_SIZE } from '../../bpf/runtime/xdp-frame.js';
import { openFrames, type FrameRing } from '../../bpf/runtime/frame-ring.js';
import type { Executor, LoadedProgram, ProgramFault } from '../../core/contract/executor.js';
import type { MapBackend } from '../../core/contract/map-backend.js';
import { XdpbedError } from '../../core/diagnostic.js';
import type { GeneratedCase, GeneratedFrame, GeneratedMap } from './generated-case.js';

export interface LoadCaseOptions {
  readonly runtime: BpfRuntime;
  /** Makes maps that lie in the runtime. */
  readonly backend: MapBackend;
  readonly executor: Executor;
  readonly world?: HelperWorld | undefined;
  readonly insnLimit?: number | undefined;
  readonly countWork?: boolean | undefined;
}

/** A generated case that is ready to run. */
export interface LoadedCase {
  readonly program: LoadedProgram;
  readonly maps: ReadonlyMap<number, ResidentMap>;
  /** Runs the program on a frame, in a slot in which nothing of an earlier frame is left. */
  run(
    ring: FrameRing,
    frame: GeneratedFrame,
  ): { readonly verdict: number; readonly fault?: ProgramFault | undefined };
  close(): void;
}

/**
 * Creates a case's maps with their elements and loads its programs. The run state's random numbers start from the
 * case's seed, so that the case runs alike whatever ran before it. Throws `map-invalid` for a map that the
 * backend does not make, and what the executor throws.
 */
export async function loadCase(generated: GeneratedCase, options: LoadCaseOptions): Promise<LoadedCase> {
  const { runtime, backend, executor } = options;
  const maps = new Map<number, ResidentMap>();
  const programs: LoadedProgram[] = [];
  const close = (): void => {
    for (const program of programs) program.close();
    for (const map of maps.values()) map.close();
  };
  try {
    for (const map of generated.maps) maps.set(map.handle, createMap(map, backend, runtime.cpus));
    for (const program of generated.programs) {
      const { world = { trace() {} }, insnLimit, countWork } = options;
      const environment = { maps, world, insnLimit, countWork };
      programs.push(await executor.load(program, environment));
    }
    for (const { handle, programs: entries } of generated.maps) {
      for (const [index, program] of entries ?? [])
        maps.get(handle)!.setProgram!(index, programs[program]!.id);
    }
    for (const { handle, name, innerMaps } of generated.maps) {
      for (const [index, inner] of innerMaps ?? []) {
        const key = Uint8Array.of(index, 0, 0, 0);
        const status = maps.get(handle)!.setInnerMap!(key, maps.get(inner)!);
        if (status !== 0) fail(name, `inner map: ${errnoName(status)}`);
      }
    }
  } catch (error) {
    close();
    throw error;
  }
  runtime.state.seed(BigInt(generated.seed));
  runtime.state.now = BigInt(generated.seed) * 1_000_003n;
  const program = programs[0]!;
  return {
    program,
    maps,
    run(ring, frame) {
      clearSlot(ring, 0);
      ring.load(0, frame.packet, frame.metadata);
      return program.run(ring, 0);
    },
    close,
  };
}

/** A ring for a case's frames, the longest included. */
export function openRing(generated: GeneratedCase, runtime: BpfRuntime, slots: number): FrameRing {
  const longest = Math.max(0, ...generated.frames.map(({ packet }) => packet.length));
  return openFrames(generated.programs[0]!, runtime, slots, longest);
}

/** As the memory of a frame is that a kernel has just allocated: headroom and tailroom hold zeros. */
export function clearSlot(ring: FrameRing, slot: number): void {
  const at = ring.address(slot);
  ring.space.u8.fill(0, at + FRAME_SLOT.buffer, at + FRAME_SLOT_SIZE);
}

function createMap(map: GeneratedMap, backend: MapBackend, cpus: number): ResidentMap {
  const created = backend.create(map.attributes, { name: map.name });
  if (typeof created === 'number') return fail(map.name, errnoName(created));
  if (!isResidentMap(created)) return fail(map.name, `${backend.name} makes maps that lie elsewhere`);
  for (const { key, value } of map.initial) {
    const result = created.update(key, perCpu(created, value, cpus), 0n);
    if (result !== 0) fail(map.name, `update: ${errnoName(result)}`);
  }
  return created;
}

function fail(map: string, reason: string): never {
  throw new XdpbedError('map-invalid', `map ${map} of a generated case: ${reason}`);
}

/** The value for every CPU. */
function perCpu({ syscallValueSize }: ResidentMap, value: Uint8Array, cpus: number): Uint8Array {
  if (syscallValueSize === value.length) return value;
  const all = new Uint8Array(syscallValueSize);
  const stride = roundUp(value.length, 8);
  for (let cpu = 0; cpu < cpus; cpu++) all.set(value, cpu * stride);
  return all;
}
