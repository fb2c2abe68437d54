import { access, constants, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../core/diagnostic.js';
import { cacheFolder } from './cache-folder.js';
import type { GuestImage } from './guest-image.js';
import type { Accelerator } from './qemu-arguments.js';
import { startGuest } from './start-guest.js';

/** Milliseconds for a guest to come up with KVM: one that KVM runs takes one second. */
const KVM_READY_WITHIN = 6000;

export interface AcceleratorVerdict {
  readonly accelerator: Accelerator;
  /** Why it is not KVM; undefined when it is. */
  readonly reason: string | undefined;
}

/** The file `accelerator.json` of the cache. */
interface Kept extends AcceleratorVerdict {
  /** The boot of the machine that it was found out in. */
  readonly bootId: string;
  readonly kernelPackage: string;
}

/**
 * What guests are run by here: KVM if a guest comes up with it, else QEMU's own emulation. That `/dev/kvm` is there says
 * little: in a virtual machine it may emulate the guest's kernel insn by insn, and give up on one of them. So a guest is
 * booted once after each start of the machine, and the verdict kept in the cache.
 */
export async function findAccelerator(image: GuestImage, cache = cacheFolder()): Promise<AcceleratorVerdict> {
  const path = join(cache, 'guest', 'accelerator.json');
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const { kernelPackage } = image;
  const kept = await readKept(path);
  if (kept?.bootId === bootId && kept.kernelPackage === kernelPackage) {
    return { accelerator: kept.accelerator, reason: kept.reason };
  }
  const reason = await whyNotKvm(image);
  const verdict: AcceleratorVerdict = { accelerator: reason === undefined ? 'kvm' : 'tcg', reason };
  await mkdir(join(cache, 'guest'), { recursive: true });
  await writeFile(path, JSON.stringify({ ...verdict, bootId, kernelPackage } satisfies Kept));
  return verdict;
}

async function whyNotKvm(image: GuestImage): Promise<string | undefined> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch (error) {
    return `/dev/kvm cannot be used: ${messageOf(error)}`;
  }
  try {
    const guest = await startGuest({
      name: 'kvm-probe',
      cpus: 1,
      memoryMiB: 512,
      nics: [],
      image,
      accelerator: 'kvm',
      readyWithin: KVM_READY_WITHIN,
    });
    await guest.close();
    return undefined;
  } catch (error) {
    return messageOf(error).split('\n', 1)[0]!;
  }
}

/** What an earlier run has written; undefined when that is not there, or not to be understood. */
async function readKept(path: string): Promise<Kept | undefined> {
  try {
    const kept = JSON.parse(await readFile(path, 'utf8')) as Partial<Kept>;
    if (kept.accelerator !== 'kvm' && kept.accelerator !== 'tcg') return undefined;
    return typeof kept.bootId === 'string' ? (kept as Kept) : undefined;
  } catch {
    return undefined;
  }
}
