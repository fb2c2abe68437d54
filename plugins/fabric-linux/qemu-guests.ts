import { join } from 'node:path';
import type { GuestPlan } from '../../src/core/contract/plan.js';
import type { ControlChannel } from '../../src/core/contract/transport.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  findAccelerator,
  guestImage,
  processStart,
  startGuest,
  type Accelerator,
  type GuestImage,
  type Ledger,
  type RunningGuest,
  type TapDevice,
} from '../../src/linux/index.js';

/** MiB of a guest's memory. */
const MEMORY_MIB = 512;
/** QEMU takes no fewer entries of a receive queue. */
const MIN_QUEUE_SIZE = 256;

/**
 * Queue pairs that a nic needs: its own, and one for each CPU by which the guest's driver sends what XDP transmits; with
 * fewer it would lock them (drivers/net/virtio_net.c, virtnet_xdp_set).
 */
export function queuePairs(guest: GuestPlan, queues: number): number {
  return queues + guest.cpus;
}

export interface QemuGuestOptions {
  readonly plan: GuestPlan;
  /** In the order of the plan's nics. */
  readonly nics: readonly { readonly tap: TapDevice; readonly channel: ControlChannel }[];
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
}

/** What all guests of a run boot from, and by what they are run here. */
export interface GuestMachine {
  readonly image: GuestImage;
  readonly accelerator: Accelerator;
}

/** Throws `host-unsupported` where there can be no guest, with what would help. */
export async function guestMachine(): Promise<GuestMachine> {
  const image = await guestImage();
  const { accelerator } = await findAccelerator(image);
  return { image, accelerator };
}

/** A guest that runs, with all that it has on the machine. */
export interface BootedGuest {
  readonly running: RunningGuest;
  /** Ends it, and strikes it from the ledger. May be called more than once. */
  close(): Promise<void>;
}

/** Boots one guest. Its process, and the folder with the file of its console, are in the ledger. */
export async function bootGuest(
  { image, accelerator }: GuestMachine,
  { plan, nics, ledger, signal }: QemuGuestOptions,
): Promise<BootedGuest> {
  const folder = ledger.ownFolder();
  let process: string | undefined;
  const strike = (): void => {
    if (process !== undefined) ledger.strike('process', process);
  };
  try {
    const running = await startGuest({
      name: plan.name,
      cpus: plan.cpus,
      memoryMiB: MEMORY_MIB,
      image,
      accelerator,
      consoleLog: join(folder, `${plan.name}.console.log`),
      signal,
      nics: plan.nics.map((nic, index) => {
        const { tap, channel } = nics[index]!;
        return {
          mac: nic.mac,
          tapFds: tap.fds,
          queueSize: Math.max(MIN_QUEUE_SIZE, nic.queueSize),
          control: socketOf(channel, `${plan.name}.${nic.name}`),
        };
      }),
      onResource: (_, pid) => {
        process = `${pid} ${processStart(pid)}`;
        ledger.add('process', process);
      },
    });
    return { running, close: () => running.close().then(strike) };
  } catch (error) {
    // A guest that did not come up is gone by now.
    strike();
    throw error;
  }
}

function socketOf({ address }: ControlChannel, label: string): string {
  if (typeof address === 'string') return address;
  throw new XdpbedError('host-unsupported', `${label}: the transport has no socket that QEMU could connect`, {
    hint: 'transport virtio-serial has one',
  });
}
