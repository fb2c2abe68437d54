import type { LoadableObject } from '../../bpf/elf/object-closure.js';
import type { MapInitialEntry, MapSpec } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { DeviceMap } from './device-map.js';
import type { GuestFailure, GuestResult } from './guest-map.js';

/** How a netdevice of the guest's has its programs run on the host: as much of it as depends on what the device understands. */
export interface OffloadDriver {
  /** What it refuses before it sends anything of the program. */
  check(programs: Iterable<ProgramSpec>, maps: Iterable<MapSpec>): Promise<GuestFailure | undefined>;
  createMap(spec: MapSpec): Promise<GuestResult<DeviceMap>>;
  /** Creates and fills a program's maps on the device, and has it there as far as it can be without being attached. */
  load(
    object: LoadableObject,
    spec: ProgramSpec,
    initial: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined,
  ): Promise<GuestResult<OffloadedProgram>>;
  /** In place of what is attached, in one step. */
  attach(program: OffloadedProgram): Promise<GuestResult<void>>;
  detach(): Promise<GuestResult<void>>;
}

/** A program on the device, or ready to be sent there. */
export interface OffloadedProgram {
  /** By their names in the object. */
  readonly maps: ReadonlyMap<string, DeviceMap>;
  /** Gives back what it has on the device. */
  close(): Promise<GuestResult<void>>;
}
