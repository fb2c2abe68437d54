import { EACCES, EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP } from '../../bpf/errno.js';
import { ObjectClosure, type LoadableObject } from '../../bpf/elf/object-closure.js';
import { linkProgram } from '../../bpf/link.js';
import type { MapInitialEntry, MapSpec } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
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
import { BpfOffloadDriver } from './bpf-offload-driver.js';
import type { DeviceMap } from './device-map.js';
import {
  failure,
  KernelGuestMap,
  success,
  SUCCESS,
  type GuestFailure,
  type GuestMap,
  type GuestResult,
} from './guest-map.js';
import { GuestTool } from './guest-tool.js';
import { loadObjectProgram, type ProgramRejection } from './load-program.js';
import { messageOf } from '../diagnostic.js';
import type { OffloadDriver, OffloadedProgram } from './offload-driver.js';
import type { ControlProtocol } from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import { Rfc2019Driver } from './rfc-2019-driver.js';

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
 * of RFC 2019's driver for what may be attached when; those of the network core are in lower case here. What the device
 * is sent depends on what it understands (`OffloadDriver`).
 *
 * Loading and attaching are two steps, as in the kernel: a program to be offloaded is loaded *for* a device, its
 * maps are created there first, and only that device takes it.
 *
 * What the device refuses is a value, like any errno. Nothing that the device answers makes this side throw.
 */
export class OffloadNetdev {
  readonly #options: OffloadNetdevOptions;
  readonly #device: DeviceClient;
  readonly #offload: OffloadDriver;
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
    this.#offload = this.#device.protocol.requests.has('load-program')
      ? new BpfOffloadDriver(this.#device, { unchecked: options.offloadableMapTypes === 'any' })
      : new Rfc2019Driver(this.#device, options);
  }

  /** `guest0.eth0` */
  get label(): string {
    return `${this.#options.guest}.${this.#options.nic}`;
  }

  /** What the guest's user asks the device with. */
  get tool(): GuestTool {
    return new GuestTool(this.#device);
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
    const closure = new ObjectClosure(object, options.initial);
    closure.addProgram(spec);
    // Linked before anything is sent, too: an object that cannot be linked throws here and leaves nothing behind.
    const problem =
      (await this.#offload.check(closure.programs.values(), closure.maps.values())) ??
      (await this.#verify(closure));
    if (problem !== undefined) return problem;
    const offloaded = await this.#offload.load(object, spec, options.initial);
    if (!offloaded.ok) return offloaded;
    const program = new LoadedGuestProgram(spec.name, this, offloaded.value.maps, async () => {
      this.#programs.delete(program);
      return offloaded.value.close();
    });
    program.offloaded = offloaded.value;
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
        const sent = await this.#offload.attach(program.offloaded!);
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
        const sent = await this.#offload.detach();
        if (!sent.ok) return sent;
      } else {
        await attachment!.detach();
      }
      this.#attached = undefined;
      return program.release();
    });
  }

  /** Creates a map on the device (BPF_MAP_CREATE with this netdevice's ifindex). */
  createMap(spec: MapSpec): Promise<GuestResult<DeviceMap>> {
    return this.#offload.createMap(spec);
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

  async #verify(closure: ObjectClosure): Promise<GuestFailure | undefined> {
    const { programs, maps } = closure;
    const specs = [...maps.values()];
    const handles = new Map(specs.map((map, index) => [map.name, index + 1]));
    const byHandle = new Map(
      specs.map((map, index) => {
        // What it was frozen with.
        const last = map.frozen === true ? closure.initialEntries(map).at(-1) : undefined;
        const value = last !== undefined && 'value' in last ? { frozenValue: last.value } : {};
        return [index + 1, { ...map, ...value }];
      }),
    );
    for (const spec of programs.values()) {
      const program = linkProgram(spec, handles);
      if (this.#options.verifyBeforeOffload === false) continue;
      const verification = await this.#options.party.verifier.verify({ program, maps: byHandle });
      if (!verification.accepted) return rejection({ ...verification, programName: program.name });
    }
    return undefined;
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
  offloaded: OffloadedProgram | undefined;
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
