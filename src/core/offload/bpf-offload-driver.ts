import { E2BIG, EFAULT, EINVAL } from '../../bpf/errno.js';
import { encodeProgramBtf } from '../../bpf/btf/program-btf.js';
import { ObjectClosure, type LoadableObject } from '../../bpf/elf/object-closure.js';
import { helperCalls } from '../../bpf/helper-calls.js';
import { helperName } from '../../bpf/helper-ids.js';
import { encodeInsns } from '../../bpf/insn.js';
import { linkProgram } from '../../bpf/link.js';
import { BPF_F_MMAPABLE, mapTypeName, type MapInitialEntry, type MapSpec } from '../../bpf/map-spec.js';
import { syscallValue, syscallValueSize } from '../../bpf/per-cpu-value.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { DeviceClient } from './device-client.js';
import { DeviceMap } from './device-map.js';
import { failure, success, SUCCESS, type GuestFailure, type GuestResult } from './guest-map.js';
import type { OffloadDriver, OffloadedProgram } from './offload-driver.js';
import { readCapabilities } from './protocol/bpf-offload/config-space.js';
import { objectName } from './protocol/bpf-offload/wire.js';
import { PROGRAM_FEATURE, type DeviceCapabilities } from './protocol/capabilities.js';
import type { BpfRequest, BtfReference, ProgramDebug } from './protocol/control-protocol.js';
import { HOOK_POINT } from './protocol/object-info.js';

/** Elements that are set one by one before it pays to send them together. */
const FEW = 4;
/** Bytes of elements in one command. */
const BATCH_BYTES = 256 * 1024;

export interface BpfOffloadDriverOptions {
  /** Sends whatever it is given, whatever the device says it is able to do. */
  readonly unchecked: boolean;
}

/**
 * A driver for class VIRTIO_NET_CTRL_BPF (docs/spec/bpf-offload.md): what an object consists of is brought up on the device as
 * libbpf does in a kernel, maps of maps, tail-called programs and BTF included. It asks the device what that is able to
 * do, and refuses itself what it is not.
 */
export class BpfOffloadDriver implements OffloadDriver {
  readonly #device: DeviceClient;
  readonly #options: BpfOffloadDriverOptions;
  #capabilities: DeviceCapabilities | undefined;
  #attached: { readonly link: number; readonly program: LoadedOnDevice } | undefined;

  constructor(device: DeviceClient, options: BpfOffloadDriverOptions) {
    this.#device = device;
    this.#options = options;
  }

  /** Asked for once: what a device is able to do does not change. */
  async capabilities(): Promise<GuestResult<DeviceCapabilities>> {
    if (this.#capabilities !== undefined) return success(this.#capabilities);
    // Configuration space costs no command; where there is none, or nothing that makes sense, there is the command.
    this.#capabilities = readCapabilities(this.#device.control);
    if (this.#capabilities !== undefined) return success(this.#capabilities);
    const sent = await this.#device.request({ kind: 'get-capabilities' });
    if (!sent.ok) return sent;
    if (sent.value.kind !== 'capabilities') return NO_ANSWER;
    this.#capabilities = sent.value.capabilities;
    return success(this.#capabilities);
  }

  async check(programs: Iterable<ProgramSpec>, maps: Iterable<MapSpec>): Promise<GuestFailure | undefined> {
    if (this.#options.unchecked) return undefined;
    const asked = await this.capabilities();
    if (!asked.ok) return asked;
    const device = asked.value;
    for (const { name, frags, insns } of programs) {
      if (insns.length > device.maxInsns) {
        return failure(
          EINVAL,
          `program ${name} has ${insns.length} insns, the device takes ${device.maxInsns}`,
        );
      }
      if (frags && !has(device.programFeatures, PROGRAM_FEATURE.FRAGS)) {
        return failure(
          EINVAL,
          `program ${name} is for frames in several buffers (xdp.frags), which the device has none of`,
        );
      }
      for (const { insn, helper } of helperCalls(insns)) {
        if (!has(device.helpers, helper)) {
          return failure(EINVAL, `insn ${insn}: the device does not offer helper ${helperName(helper)}`);
        }
      }
    }
    for (const map of maps) {
      if (!has(device.mapTypes, map.type)) {
        return failure(EINVAL, `map ${map.name}: the device does not offer ${mapTypeName(map.type)}`);
      }
    }
    return undefined;
  }

  async createMap(spec: MapSpec): Promise<GuestResult<DeviceMap>> {
    const asked = await this.capabilities();
    if (!asked.ok) return asked;
    const { cpus, maxBatch } = asked.value;
    const valueBytes = syscallValueSize(spec, cpus);
    const { maxValueBytes } = this.#device.protocol.limits;
    // How many CPUs there are only the device says: no room is made for as many as it likes.
    if (valueBytes > spec.valueSize && valueBytes > maxValueBytes) {
      const most = `a command carries ${maxValueBytes} at most`;
      return failure(E2BIG, `map ${spec.name}: a value of ${cpus} CPUs takes ${valueBytes} bytes, ${most}`);
    }
    const held: number[] = [];
    try {
      let inner: DeviceMap | undefined;
      if (spec.inner !== undefined) {
        const template = await this.createMap(spec.inner);
        if (!template.ok) return template;
        inner = template.value;
        held.push(inner.handle);
      }
      const btf = await this.#loadMapBtf(spec);
      if (btf !== undefined) held.push(btf.handle);
      const created = await this.#handleOf({
        kind: 'create-map',
        mapType: spec.type,
        keySize: spec.keySize,
        valueSize: spec.valueSize,
        maxEntries: spec.maxEntries,
        // The guest cannot map the host's memory, and the object file asks for it only on behalf of a loader.
        mapFlags: spec.flags & ~BPF_F_MMAPABLE,
        name: objectName(spec.name),
        inner: inner?.handle,
        btf,
      });
      if (!created.ok) return { ...created, message: `map ${spec.name}: ${created.message}` };
      return success(new DeviceMap(spec, created.value, this.#device, cpus, maxBatch));
    } finally {
      // The map keeps what it needs of them.
      for (const handle of held) await this.#close(handle);
    }
  }

  async load(
    object: LoadableObject,
    spec: ProgramSpec,
    initial: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined,
  ): Promise<GuestResult<OffloadedProgram>> {
    const closure = new ObjectClosure(object, initial);
    closure.addProgram(spec);
    const maps = new Map<string, DeviceMap>();
    const programs = new Map<string, number>();
    const undo = async (cause: GuestFailure): Promise<GuestFailure> => {
      await this.#release([...programs.values(), ...handlesOf(maps)]);
      return cause;
    };
    for (const [name, mapSpec] of closure.maps) {
      const created = await this.createMap(mapSpec);
      if (!created.ok) return undo(created);
      maps.set(name, created.value);
      const filled = await this.#fill(created.value, closure.initialEntries(mapSpec), maps);
      if (!filled.ok) return undo(filled);
      const frozen = mapSpec.frozen === true ? await created.value.freeze() : SUCCESS;
      if (!frozen.ok) return undo(frozen);
    }
    const handles = new Map([...maps].map(([name, map]) => [name, map.handle]));
    for (const [name, programSpec] of closure.programs) {
      const loaded = await this.#loadProgram(programSpec, handles);
      if (!loaded.ok) return undo(loaded);
      programs.set(name, loaded.value);
    }
    for (const [name, mapSpec] of closure.maps) {
      for (const entry of closure.initialEntries(mapSpec)) {
        if (!('programName' in entry)) continue;
        const set = await this.#setElement(maps.get(name)!, entry.key, programs.get(entry.programName)!);
        if (!set.ok) return undo(set);
      }
    }
    const rest = [...programs].filter(([name]) => name !== spec.name).map(([, handle]) => handle);
    return success(
      new LoadedOnDevice(programs.get(spec.name)!, maps, (program) =>
        // Its tail-called programs go with the map that they are in.
        this.#release([program.handle, ...rest, ...handlesOf(maps)]),
      ),
    );
  }

  async attach(program: OffloadedProgram): Promise<GuestResult<void>> {
    const loaded = program as LoadedOnDevice;
    const current = this.#attached;
    if (current === undefined) {
      const created = await this.#handleOf({
        kind: 'create-link',
        program: loaded.handle,
        hook: HOOK_POINT.RX,
      });
      if (!created.ok) return created;
      this.#attached = { link: created.value, program: loaded };
      return SUCCESS;
    }
    const { link } = current;
    const expected = current.program.handle;
    const updated = await this.#device.request({
      kind: 'update-link',
      link,
      program: loaded.handle,
      expected,
    });
    if (!updated.ok) return updated;
    this.#attached = { link, program: loaded };
    return SUCCESS;
  }

  async detach(): Promise<GuestResult<void>> {
    const current = this.#attached;
    if (current === undefined) return SUCCESS;
    const detached = await this.#device.request({ kind: 'detach-link', link: current.link });
    if (!detached.ok) return detached;
    this.#attached = undefined;
    return this.#close(current.link);
  }

  async #loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, number>): Promise<GuestResult<number>> {
    const { insns, gplCompatible, frags, debug } = linkProgram(spec, maps);
    let records: ProgramDebug | undefined;
    if (debug !== undefined) {
      const btf = encodeProgramBtf(insns, debug);
      const loaded = await this.#loadBtf(btf.bytes);
      if (loaded !== undefined) records = { btf: loaded, functions: btf.functions, lines: btf.lines };
    }
    const loaded = await this.#handleOf({
      kind: 'load-program',
      name: objectName(spec.name),
      insns: encodeInsns(insns),
      gplCompatible,
      frags: frags === true,
      debug: records,
    });
    if (records !== undefined) await this.#close(records.btf);
    return loaded.ok ? loaded : { ...loaded, message: `program ${spec.name}: ${loaded.message}` };
  }

  async #fill(
    map: DeviceMap,
    entries: readonly MapInitialEntry[],
    maps: ReadonlyMap<string, DeviceMap>,
  ): Promise<GuestResult<void>> {
    const problem = (failed: GuestFailure): GuestFailure => ({
      ...failed,
      message: `initial element of map ${map.spec.name}: ${failed.message}`,
    });
    const values: { readonly key: Uint8Array; readonly value: Uint8Array }[] = [];
    for (const entry of entries) {
      if ('programName' in entry) continue;
      if ('mapName' in entry) {
        const set = await this.#setElement(map, entry.key, maps.get(entry.mapName)!.handle);
        if (!set.ok) return set;
        continue;
      }
      const value = syscallValue(map.spec, entry, map.valueSize);
      if (typeof value === 'string') return problem(failure(EINVAL, value));
      values.push({ key: entry.key, value });
    }
    if (values.length <= FEW) {
      for (const { key, value } of values) {
        const updated = await map.update(key, value, 0n);
        if (!updated.ok) return problem(updated);
      }
      return SUCCESS;
    }
    const { keySize } = map.spec;
    const { valueSize } = map;
    let atOnce = Math.min(
      this.#capabilities!.maxBatch,
      Math.max(1, Math.floor(BATCH_BYTES / (keySize + valueSize))),
    );
    for (let first = 0; first < values.length;) {
      const batch = values.slice(first, first + atOnce);
      const keys = new Uint8Array(batch.length * keySize);
      const bytes = new Uint8Array(batch.length * valueSize);
      for (const [index, { key, value }] of batch.entries()) {
        if (key.length !== keySize || value.length !== valueSize) {
          return problem(failure(EINVAL, `a key of ${key.length} and a value of ${value.length} bytes`));
        }
        keys.set(key, index * keySize);
        bytes.set(value, index * valueSize);
      }
      const { handle } = map;
      const count = batch.length;
      const sent = await this.#device.request({
        kind: 'update-batch',
        handle,
        keySize,
        valueSize,
        count,
        keys,
        values: bytes,
        flags: 0n,
      });
      if (sent.ok) first += count;
      // The map is full, or the device takes fewer of elements that are so much work: it tells neither ahead.
      else if (sent.errno === E2BIG && count > 1) atOnce = Math.ceil(count / 2);
      else return problem(sent);
    }
    return SUCCESS;
  }

  async #setElement(map: DeviceMap, key: Uint8Array, handle: number): Promise<GuestResult<void>> {
    const value = new Uint8Array(4);
    new DataView(value.buffer).setUint32(0, handle, true);
    const sent = await this.#device.request({
      kind: 'update-elem',
      handle: map.handle,
      key,
      value,
      flags: 0n,
    });
    return sent.ok ? SUCCESS : { ...sent, message: `element of map ${map.spec.name}: ${sent.message}` };
  }

  async #loadMapBtf({ btf }: MapSpec): Promise<BtfReference | undefined> {
    if (btf === undefined) return undefined;
    const handle = await this.#loadBtf(btf.bytes);
    return handle === undefined ? undefined : { handle, keyType: btf.keyType, valueType: btf.valueType };
  }

  /** What is only for people to read, programs can do without: undefined when the device does not take it. */
  async #loadBtf(bytes: Uint8Array): Promise<number | undefined> {
    const device = this.#capabilities;
    if (
      device !== undefined &&
      (!has(device.programFeatures, PROGRAM_FEATURE.BTF) || bytes.length > device.maxBtfBytes)
    ) {
      return undefined;
    }
    const loaded = await this.#handleOf({ kind: 'load-btf', bytes });
    return loaded.ok ? loaded.value : undefined;
  }

  async #handleOf(request: BpfRequest): Promise<GuestResult<number>> {
    const sent = await this.#device.request(request);
    if (!sent.ok) return sent;
    return sent.value.kind === 'handle' ? success(sent.value.handle) : NO_ANSWER;
  }

  async #close(handle: number): Promise<GuestResult<void>> {
    const sent = await this.#device.request({ kind: 'close', handle });
    return sent.ok ? SUCCESS : sent;
  }

  async #release(handles: Iterable<number>): Promise<GuestResult<void>> {
    let result: GuestResult<void> = SUCCESS;
    for (const handle of handles) {
      const closed = await this.#close(handle);
      if (!closed.ok) result = closed;
    }
    return result;
  }
}

/** A program on the device with the maps and programs that it needs, by handles of this driver's. */
class LoadedOnDevice implements OffloadedProgram {
  constructor(
    readonly handle: number,
    readonly maps: ReadonlyMap<string, DeviceMap>,
    private readonly release: (program: LoadedOnDevice) => Promise<GuestResult<void>>,
  ) {}

  close(): Promise<GuestResult<void>> {
    return this.release(this);
  }
}

const NO_ANSWER = failure(EFAULT, 'the device answered without what was asked for');

function has(set: bigint, bit: number): boolean {
  return ((set >> BigInt(bit)) & 1n) === 1n;
}

function handlesOf(maps: ReadonlyMap<string, DeviceMap>): number[] {
  return [...maps.values()].map((map) => map.handle).reverse();
}
