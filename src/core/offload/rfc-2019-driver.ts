import { EFAULT, EINVAL } from '../../bpf/errno.js';
import { requiredMaps, type LoadableObject } from '../../bpf/elf/object-closure.js';
import { helperCalls } from '../../bpf/helper-calls.js';
import { helperName } from '../../bpf/helper-ids.js';
import { encodeInsns } from '../../bpf/insn.js';
import { linkProgram } from '../../bpf/link.js';
import {
  BPF_F_MMAPABLE,
  BPF_MAP_TYPE,
  mapTypeName,
  type MapInitialEntry,
  type MapSpec,
} from '../../bpf/map-spec.js';
import { syscallValue } from '../../bpf/per-cpu-value.js';
import type { Program, ProgramSpec } from '../../bpf/program.js';
import type { DeviceClient } from './device-client.js';
import { DeviceMap } from './device-map.js';
import { failure, success, SUCCESS, type GuestFailure, type GuestResult } from './guest-map.js';
import type { OffloadDriver, OffloadedProgram } from './offload-driver.js';
import { OFFLOADABLE_HELPER_IDS } from './offloadable-helpers.js';

export interface Rfc2019DriverOptions {
  /** Helpers that an offloaded program may call; default OFFLOADABLE_HELPERS. */
  readonly offloadableHelpers?: ReadonlySet<number> | undefined;
  /** Map types that the device is asked for; default those of RFC 2019, ARRAY and HASH. */
  readonly offloadableMapTypes?: 'any' | undefined;
}

/**
 * With the rules of RFC 2019's driver: maps are created first; a copy of the program, in which the device's handles stand
 * for them, is sent when it is attached. See the RFC's facts for the messages.
 */
export class Rfc2019Driver implements OffloadDriver {
  readonly #device: DeviceClient;
  readonly #options: Rfc2019DriverOptions;

  constructor(device: DeviceClient, options: Rfc2019DriverOptions) {
    this.#device = device;
    this.#options = options;
  }

  /** The checks that RFC 2019's driver makes before it sends anything. */
  async check(programs: Iterable<ProgramSpec>, maps: Iterable<MapSpec>): Promise<GuestFailure | undefined> {
    const allowed = this.#options.offloadableHelpers ?? OFFLOADABLE_HELPER_IDS;
    for (const spec of programs) {
      // kernel/bpf/offload.c bpf_prog_dev_bound_init; the RFC's commands have no field for it either.
      if (spec.frags)
        return failure(EINVAL, 'a program for frames in several buffers (xdp.frags) cannot be offloaded');
      for (const { insn, helper } of helperCalls(spec.insns)) {
        if (!allowed.has(helper)) {
          return failure(
            EINVAL,
            `insn ${insn}: helper ${helperName(helper)} cannot be offloaded: the guest's driver refused it, and did not ask the host (driver-helpers)`,
          );
        }
      }
    }
    for (const map of maps) {
      const problem = this.#checkMap(map);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  /** Creates a map on the device (BPF_MAP_CREATE with this netdevice's ifindex). */
  async createMap(spec: MapSpec): Promise<GuestResult<DeviceMap>> {
    const unsupported = this.#checkMap(spec);
    if (unsupported !== undefined) return unsupported;
    const sent = await this.#device.request({
      kind: 'create-map',
      mapType: spec.type,
      keySize: spec.keySize,
      valueSize: spec.valueSize,
      maxEntries: spec.maxEntries,
      // The guest cannot map the host's memory, and the object file asks for it only on behalf of a loader.
      mapFlags: spec.flags & ~BPF_F_MMAPABLE,
    });
    if (!sent.ok) return { ...sent, message: `map ${spec.name}: ${sent.message}` };
    if (sent.value.kind !== 'handle') return failure(EFAULT, 'the device answered without a handle');
    return success(new DeviceMap(spec, sent.value.handle, this.#device));
  }

  async load(
    object: LoadableObject,
    spec: ProgramSpec,
    initial: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined,
  ): Promise<GuestResult<OffloadedProgram>> {
    const maps = new Map<string, DeviceMap>();
    const undo = async (cause: GuestFailure): Promise<GuestFailure> => {
      await freeAll(maps.values());
      return cause;
    };
    for (const mapSpec of requiredMaps(object, spec, initial)) {
      const created = await this.createMap(mapSpec);
      if (!created.ok) return undo(created);
      maps.set(mapSpec.name, created.value);
      for (const entry of [...mapSpec.initial, ...(initial?.get(mapSpec.name) ?? [])]) {
        if ('mapName' in entry || 'programName' in entry) continue;
        const value = syscallValue(mapSpec, entry, created.value.valueSize);
        const updated =
          typeof value === 'string'
            ? failure(EINVAL, value)
            : await created.value.update(entry.key, value, 0n);
        if (!updated.ok) {
          return undo({ ...updated, message: `initial element of map ${mapSpec.name}: ${updated.message}` });
        }
      }
    }
    const handles = new Map([...maps].map(([name, map]) => [name, map.handle]));
    return success(new TranslatedProgram(linkProgram(spec, handles), maps));
  }

  async attach(program: OffloadedProgram): Promise<GuestResult<void>> {
    const { insns, gplCompatible } = (program as TranslatedProgram).program;
    const request = { kind: 'set-offload', insns: encodeInsns(insns), gplCompatible } as const;
    const sent = await this.#device.request(request);
    return sent.ok ? SUCCESS : sent;
  }

  async detach(): Promise<GuestResult<void>> {
    const sent = await this.#device.request({ kind: 'unset-offload' });
    return sent.ok ? SUCCESS : sent;
  }

  #checkMap(spec: MapSpec): GuestFailure | undefined {
    return this.#options.offloadableMapTypes === 'any' ? undefined : checkMap(spec);
  }
}

/** The copy of a program in which the device's handles stand for the guest's maps. */
class TranslatedProgram implements OffloadedProgram {
  constructor(
    readonly program: Program,
    readonly maps: ReadonlyMap<string, DeviceMap>,
  ) {}

  close(): Promise<GuestResult<void>> {
    return freeAll(this.maps.values());
  }
}

async function freeAll(maps: Iterable<DeviceMap>): Promise<GuestResult<void>> {
  let result: GuestResult<void> = SUCCESS;
  for (const map of maps) {
    const freed = await map.free();
    if (!freed.ok) result = freed;
  }
  return result;
}

function checkMap(spec: MapSpec): GuestFailure | undefined {
  if (spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_HASH) {
    return undefined;
  }
  return failure(
    EINVAL,
    `map ${spec.name}: ${mapTypeName(spec.type)} cannot be offloaded: only BPF_MAP_TYPE_ARRAY and BPF_MAP_TYPE_HASH can`,
  );
}
