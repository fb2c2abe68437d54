export { findAccelerator, type AcceleratorVerdict } from './accelerator.js';
export { cacheFolder } from './cache-folder.js';
export { confinement } from './confinement.js';
export { guestImage, type GuestImage, type GuestImageOptions } from './guest-image.js';
export { KERNEL_PACKAGE_VARIABLE } from './guest-kernel.js';
export type { Accelerator } from './qemu-arguments.js';
export {
  startGuest,
  type GuestNic,
  type OpenNicOptions,
  type RunningGuest,
  type StartGuestOptions,
} from './start-guest.js';
export type { ServedCounts } from './agent-messages.js';
export type { RemoteNicDriver } from './remote-nic-driver.js';
