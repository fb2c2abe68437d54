import { EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, EOPNOTSUPP, EACCES } from '../../bpf/errno.js';
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
import type { Program, ProgramSpec } from '../../bpf/program.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import {
  encodeVqPairsSet,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
} from '../../virtio/index.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { ControlCounts } from '../contract/guest-driver.js';
import type { Attachment, HookPlace } from '../contract/hook-place.js';
import type { Party } from '../contract/party.js';
import type { ControlClient } from '../contract/transport.js';
import { DeviceClient } from './device-client.js';
import { DeviceMap } from './device-map.js';
import {
  failure,
  KernelGuestMap,
  success,
  SUCCESS,
  type GuestFailure,
  type GuestMap,
  type GuestResult,
} from './guest-map.js';
import { loadObjectProgram, type ProgramRejection } from './load-program.js';
import { messageOf } from '../diagnostic.js';
import { OFFLOADABLE_HELPER_IDS } from './offloadable-helpers.js';
import type { ControlProtocol } from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';

/** Flags of an attach or detach request (include/uapi/linux/if_link.h). */
export const XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0;
export const XDP_FLAGS_SKB_MODE = 1 << 1;
export const XDP_FLAGS_DRV_MODE = 1 << 2;
export const XDP_FLAGS_HW_MODE = 1 << 3;
export const XDP_FLAGS_REPLACE = 1 << 4;
const XDP_FLAGS_MODES = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE;
const XDP_FLAGS_MASK = XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_MODES | XDP_FLAGS_REPLACE;

export type AttachMode = 'driver' | 'offload';

export interface OffloadNetdevOptions {
  readonly guest: string;
  readonly nic: string;
  /** The driver's end of the control channel. */
  readonly control: ControlClient;
  /** What the device understands; default RFC 2019's. */
  readonly protocol?: ControlProtocol | undefined;
  /** The guest's own kernel. */
  readonly party: Party;
  /** What helpers see in the guest. */
  readonly world: HelperWorld;
  /** Where a program of the guest's own kernel is put: native XDP in the receive path of every queue. */
  readonly hook: HookPlace;
  /**
   * Helpers that the driver lets an offloaded program call; default OFFLOADABLE_HELPERS. The host does not
   * rely on it: it has policies of its own.
   */
  readonly offloadableHelpers?: ReadonlySet<number> | undefined;
  /** Map types that the driver asks the device to create; default those of RFC 2019, ARRAY and HASH. */
  readonly offloadableMapTypes?: 'any' | undefined;
  /**
   * The guest's kernel verifies what it is about to offload, as bpf(2) does for every program. Off, only the
   * host's verifier is asked, and all the guest learns of a rejection is an error ack.
   */
  readonly verifyBeforeOffload?: boolean | undefined;
}

export interface LoadGuestProgramOptions {
  /** Elements to place in maps after those of the object, by map name. */
  readonly initial?: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
}

/** A program in the guest: loaded, perhaps attached. It lives until it is closed and attached nowhere. */
export interface GuestProgram {
  readonly name: string;
  /** The netdevice that it was loaded for; undefined when it runs in the guest's kernel. */
  readonly boundTo: OffloadNetdev | undefined;
  readonly maps: ReadonlyMap<string, GuestMap>;
  /** Gives up the holder's reference; the program and its maps go when it is attached nowhere. */
  close(): Promise<GuestResult<void>>;
}

export interface AttachOptions {
  /** XDP_FLAGS_*; without a mode flag a bound program is attached in offload mode, any other in driver mode. */
  readonly flags?: number | undefined;
  /** For XDP_FLAGS_REPLACE: what must be attached now; undefined for nothing. */
  readonly expected?: GuestProgram | undefined;
}

/**
 * The guest's side of one nic, as far as XDP goes: a virtio-net netdevice that can run a program in its own
 * receive path (driver mode) or hand it to the host over the control virtqueue (offload mode), with the rules
 * of RFC 2019's driver. See the RFC's facts for the messages; those of the network core are in lower case here.
 *
 * Loading and attaching are two steps, as in the kernel: a program to be offloaded is loaded *for* a device, its
 * maps are created there first, and only that device takes it.
 *
 * What the device refuses is a value, like any errno. Nothing that the device answers makes this side throw.
 */
export class OffloadNetdev {
  readonly #options: OffloadNetdevOptions;
  readonly #device: DeviceClient;
  readonly #programs = new Set<LoadedGuestProgram>();
  #attached:
    | {
        readonly program: LoadedGuestProgram;
        readonly mode: AttachMode;
        /** In driver mode. */
        readonly attachment?: Attachment | undefined;
      }
    | undefined;
  /** Attach and detach requests one after the other, as the kernel does under its rtnl lock. */
  #rtnl: Promise<unknown> = Promise.resolve();

  constructor(options: OffloadNetdevOptions) {
    this.#options = options;
    this.#device = new DeviceClient(options.control, options.protocol ?? RFC_2019);
  }

  /** `guest0.eth0` */
  get label(): string {
    return `${this.#options.guest}.${this.#options.nic}`;
  }

  /** Commands sent and acks received so far. */
  get controlCounts(): ControlCounts {
    return this.#device.counts;
  }

  /** What is attached, and how (XDP_QUERY). */
  query(): { readonly program: GuestProgram; readonly mode: AttachMode } | undefined {
    return this.#attached;
  }

  /** Loads a program into the guest's own kernel; it can be attached in driver mode. */
  async loadDriver(
    object: LoadableObject,
    spec: ProgramSpec,
    options: LoadGuestProgramOptions = {},
  ): Promise<GuestResult<GuestProgram>> {
    const { party, world } = this.#options;
    const result = await loadObjectProgram(party, object, spec, { world, initial: options.initial });
    if (!result.accepted) return rejection(result);
    const maps = new Map<string, GuestMap>();
    for (const [name, map] of result.maps) {
      maps.set(
        name,
        new KernelGuestMap(
          object.maps.find((candidate) => candidate.name === name)!,
          map,
        ),
      );
    }
    const program = new LoadedGuestProgram(spec.name, undefined, maps, async () => {
      this.#programs.delete(program);
      result.close();
      return SUCCESS;
    });
    program.loaded = result.loaded;
    this.#programs.add(program);
    return success(program);
  }

  /**
   * Loads a program for this device: checks it, creates its maps on the device and fills them. What was created
   * is freed when something on the way fails.
   */
  async loadOffload(
    object: LoadableObject,
    spec: ProgramSpec,
    options: LoadGuestProgramOptions = {},
  ): Promise<GuestResult<GuestProgram>> {
    const specs = requiredMaps(object, spec, options.initial);
    // Linked before anything is sent, too: an object that cannot be linked throws here and leaves nothing behind.
    const local = linkProgram(spec, new Map(specs.map((map, index) => [map.name, index + 1])));
    const problem = this.#checkOffloadable(spec, specs) ?? (await this.#verify(local, specs));
    if (problem !== undefined) return problem;

    const maps = new Map<string, DeviceMap>();
    const undo = async (cause: GuestFailure): Promise<GuestFailure> => {
      for (const map of maps.values()) await map.free();
      return cause;
    };
    for (const mapSpec of specs) {
      const created = await this.createMap(mapSpec);
      if (!created.ok) return undo(created);
      maps.set(mapSpec.name, created.value);
      for (const entry of [...mapSpec.initial, ...(options.initial?.get(mapSpec.name) ?? [])]) {
        if (!('value' in entry)) continue;
        const updated = await created.value.update(entry.key, entry.value, 0n);
        if (!updated.ok) {
          return undo({ ...updated, message: `initial element of map ${mapSpec.name}: ${updated.message}` });
        }
      }
    }
    const handles = new Map([...maps].map(([name, map]) => [name, map.handle]));
    const program = new LoadedGuestProgram(spec.name, this, maps, async () => {
      this.#programs.delete(program);
      let result: GuestResult<void> = SUCCESS;
      for (const map of maps.values()) {
        const freed = await map.free();
        if (!freed.ok) result = freed;
      }
      return result;
    });
    // The copy of the program in which the device's handles stand for the guest's maps.
    program.translated = linkProgram(spec, handles);
    this.#programs.add(program);
    return success(program);
  }

  /** Loads and attaches; the reference is the netdevice's alone, so detaching removes all of it. */
  async install(
    object: LoadableObject,
    spec: ProgramSpec,
    mode: AttachMode,
    options: LoadGuestProgramOptions & AttachOptions = {},
  ): Promise<GuestResult<GuestProgram>> {
    const loaded = await (mode === 'driver'
      ? this.loadDriver(object, spec, options)
      : this.loadOffload(object, spec, options));
    if (!loaded.ok) return loaded;
    const modeFlag = mode === 'driver' ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_HW_MODE;
    const attached = await this.attach(loaded.value, { ...options, flags: (options.flags ?? 0) | modeFlag });
    const closed = await loaded.value.close();
    if (!attached.ok) return attached;
    return closed.ok ? loaded : closed;
  }

  /** XDP_SETUP_PROG or XDP_SETUP_PROG_HW. A failure leaves what was attached where it is. */
  attach(program: GuestProgram, options: AttachOptions = {}): Promise<GuestResult<void>> {
    return this.#serialize(async () => {
      const flags = options.flags ?? 0;
      const mode = modeOf(flags, program);
      if (typeof mode !== 'string') return mode;
      if (!(program instanceof LoadedGuestProgram) || program.gone) {
        return failure(EINVAL, 'the program is not loaded');
      }
      const refused = this.#checkAttach(program, mode, flags, options.expected);
      if (refused !== undefined) return refused;

      let attachment: Attachment | undefined;
      if (mode === 'offload') {
        const { insns, gplCompatible } = program.translated!;
        const request = { kind: 'set-offload', insns: encodeInsns(insns), gplCompatible } as const;
        const sent = await this.#device.request(request);
        if (!sent.ok) return sent;
      } else {
        try {
          attachment = this.#attached?.attachment;
          if (attachment === undefined) attachment = await this.#options.hook.attach(program.loaded!);
          else await attachment.replace(program.loaded!);
        } catch (error) {
          return failure(EBUSY, messageOf(error));
        }
      }
      const previous = this.#attached?.program;
      this.#attached = { program, mode, attachment };
      program.acquire();
      if (previous !== undefined) await previous.release();
      return SUCCESS;
    });
  }

  /** Removes what is attached; success when nothing is. */
  detach(options: { readonly flags?: number | undefined } = {}): Promise<GuestResult<void>> {
    return this.#serialize(async () => {
      if (this.#attached === undefined) return SUCCESS;
      const { program, mode, attachment } = this.#attached;
      const wanted = modeOf(options.flags ?? 0, program);
      if (typeof wanted !== 'string') return wanted;
      if (wanted !== mode) return failure(ENOENT, `no program is attached in ${wanted} mode`);
      if (mode === 'offload') {
        const sent = await this.#device.request({ kind: 'unset-offload' });
        if (!sent.ok) return sent;
      } else {
        await attachment!.detach();
      }
      this.#attached = undefined;
      return program.release();
    });
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
    return success(new DeviceMap(spec, sent.value.handle, (request) => this.#device.request(request)));
  }

  /** VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET */
  setQueuePairs(pairs: number): Promise<GuestResult<void>> {
    return this.#device.standard(
      VIRTIO_NET_CTRL_MQ,
      VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
      encodeVqPairsSet(pairs),
    );
  }

  /** VIRTIO_NET_CTRL_MAC_ADDR_SET; 6 bytes. */
  setMacAddress(mac: Uint8Array): Promise<GuestResult<void>> {
    return this.#device.standard(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac);
  }

  /** Detaches and unloads everything, as when the netdevice is unregistered. The first failure is returned. */
  async close(): Promise<GuestResult<void>> {
    let result = await this.detach();
    for (const program of [...this.#programs]) {
      const destroyed = await program.destroy();
      if (result.ok) result = destroyed;
    }
    return result;
  }

  #checkAttach(
    program: LoadedGuestProgram,
    mode: AttachMode,
    flags: number,
    expected: GuestProgram | undefined,
  ): GuestFailure | undefined {
    if (mode === 'offload') {
      if (program.boundTo === undefined) return failure(EINVAL, 'xdpoffload of non-bound program');
      if (program.boundTo !== this) return failure(EINVAL, 'program bound to different dev');
    } else if (program.boundTo !== undefined) {
      return failure(EINVAL, 'using offloaded program without HW_MODE flag is not supported');
    }
    const current = this.#attached;
    if (current !== undefined && current.mode !== mode) {
      return failure(EBUSY, `program already attached in ${current.mode} mode`);
    }
    if ((flags & XDP_FLAGS_REPLACE) !== 0 && current?.program !== expected) {
      return failure(EEXIST, 'active program does not match expected');
    }
    if ((flags & XDP_FLAGS_UPDATE_IF_NOEXIST) !== 0 && current !== undefined) {
      return failure(EBUSY, 'XDP program already attached');
    }
    return undefined;
  }

  /** The checks that RFC 2019's driver makes before it sends anything. */
  #checkOffloadable(spec: ProgramSpec, maps: readonly MapSpec[]): GuestFailure | undefined {
    // kernel/bpf/offload.c bpf_prog_dev_bound_init; the RFC's commands have no field for it either.
    if (spec.frags)
      return failure(EINVAL, 'a program for frames in several buffers (xdp.frags) cannot be offloaded');
    const allowed = this.#options.offloadableHelpers ?? OFFLOADABLE_HELPER_IDS;
    for (const { insn, helper } of helperCalls(spec.insns)) {
      if (!allowed.has(helper)) {
        return failure(EINVAL, `insn ${insn}: helper ${helperName(helper)} cannot be offloaded`);
      }
    }
    for (const map of maps) {
      const problem = this.#checkMap(map);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #checkMap(spec: MapSpec): GuestFailure | undefined {
    return this.#options.offloadableMapTypes === 'any' ? undefined : checkMap(spec);
  }

  async #verify(program: Program, maps: readonly MapSpec[]): Promise<GuestFailure | undefined> {
    if (this.#options.verifyBeforeOffload === false) return undefined;
    const verification = await this.#options.party.verifier.verify({
      program,
      maps: new Map(maps.map((map, index) => [index + 1, map])),
    });
    if (verification.accepted) return undefined;
    return rejection({ ...verification, programName: program.name });
  }

  #serialize<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#rtnl.then(work);
    this.#rtnl = run.catch(() => {});
    return run;
  }
}

/** One reference for its holder, one for being attached. */
class LoadedGuestProgram implements GuestProgram {
  /** For driver mode. */
  loaded: LoadedProgram | undefined;
  /** For offload mode. */
  translated: Program | undefined;
  gone = false;
  #references = 1;
  #held = true;

  constructor(
    readonly name: string,
    readonly boundTo: OffloadNetdev | undefined,
    readonly maps: ReadonlyMap<string, GuestMap>,
    private readonly unload: () => Promise<GuestResult<void>>,
  ) {}

  acquire(): void {
    this.#references++;
  }

  async release(): Promise<GuestResult<void>> {
    return --this.#references > 0 ? SUCCESS : this.destroy();
  }

  async close(): Promise<GuestResult<void>> {
    if (!this.#held) return SUCCESS;
    this.#held = false;
    return this.release();
  }

  async destroy(): Promise<GuestResult<void>> {
    if (this.gone) return SUCCESS;
    this.gone = true;
    return this.unload();
  }
}

function rejection(reason: ProgramRejection): GuestFailure {
  const at = reason.insn === undefined ? '' : ` (insn ${reason.insn})`;
  const message = `program ${reason.programName} was rejected by verifier ${reason.verifier}: ${reason.reason}${at}`;
  return { ...failure(EACCES, message), rejection: reason };
}

/** The mode that flags ask for, or why they make no sense. */
function modeOf(flags: number, program: GuestProgram): AttachMode | GuestFailure {
  if ((flags & ~XDP_FLAGS_MASK) !== 0) {
    return failure(EINVAL, `unknown XDP flags 0x${(flags & ~XDP_FLAGS_MASK).toString(16)}`);
  }
  const modes = flags & XDP_FLAGS_MODES;
  if ((modes & (modes - 1)) !== 0) return failure(EINVAL, 'only one XDP mode flag can be set');
  if (modes === XDP_FLAGS_SKB_MODE) return failure(EOPNOTSUPP, 'generic XDP is not modelled');
  if (modes === XDP_FLAGS_HW_MODE) return 'offload';
  if (modes === XDP_FLAGS_DRV_MODE) return 'driver';
  return program.boundTo === undefined ? 'driver' : 'offload';
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
