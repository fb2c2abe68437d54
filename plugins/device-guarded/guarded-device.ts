import type {
  Device,
  DeviceMove,
  MoveRefusal,
  DeviceInspection,
  HeldObjects,
  NicDevice,
  NicDeviceOptions,
} from '../../src/core/contract/device.js';
import { ControlEndpoint } from '../../src/core/offload/control-endpoint.js';

/** The device that a host would use: a {@link ControlEndpoint} for each nic. */
export class GuardedDevice implements Device {
  readonly name = 'guarded';

  open(options: NicDeviceOptions): NicDevice {
    return new GuardedNicDevice(options);
  }
}

class GuardedNicDevice implements NicDevice {
  readonly #endpoint: ControlEndpoint;
  /** Of commands that are under way: what was copied of them, and their answers. */
  #commandBytes = 0;
  #peakCommandBytes = 0;

  constructor(options: NicDeviceOptions) {
    this.#endpoint = new ControlEndpoint(options);
  }

  /** What the guest still has in its memory is not looked at: there is no third parameter. */
  handle(request: Uint8Array, room: number): Uint8Array | Promise<Uint8Array> {
    const bytes = request.length + room;
    this.#commandBytes += bytes;
    if (this.#commandBytes > this.#peakCommandBytes) this.#peakCommandBytes = this.#commandBytes;
    const answer = this.#endpoint.handle(request, room);
    if (answer instanceof Promise) void answer.then(() => (this.#commandBytes -= bytes));
    else this.#commandBytes -= bytes;
    return answer;
  }

  get configuration(): Uint8Array | undefined {
    return this.#endpoint.configuration;
  }

  prepareMove(
    to: Pick<NicDeviceOptions, 'party' | 'policies' | 'accounts'>,
  ): Promise<DeviceMove | MoveRefusal> {
    return this.#endpoint.prepareMove(to);
  }

  get held(): HeldObjects {
    return this.#endpoint.held;
  }

  reset(): Promise<void> {
    return this.#endpoint.reset();
  }

  unplug(): Promise<void> {
    return this.#endpoint.unplug();
  }

  idle(): Promise<void> {
    return this.#endpoint.idle();
  }

  transportBroken(reason: string): void {
    this.#endpoint.transportBroken(reason);
  }

  inspect(): DeviceInspection {
    const { maps, programs, mapMemory, btfMemory } = this.#endpoint.usage;
    return {
      held: { maps, programs, mapMemory, btfMemory, names: this.#endpoint.nameCount },
      peakCommandBytes: this.#peakCommandBytes,
      // A handle is looked up in the guest's own table: nothing of the host's has a name that a guest could send. And a
      // command is bytes of its own, whose bounds the language checks.
      belongings: new Map(),
      // What it refuses it tells the host (`events.audit`), which keeps no more than it wants to.
      logBytes: 0,
      strayAccesses: [],
    };
  }
}
