import { closeSync, mkdirSync, openSync, unlinkSync } from 'node:fs';
import { EINVAL, ENOENT, errnoName } from '../bpf/errno.js';
import { XdpbedError, messageOf } from '../core/diagnostic.js';
import { libc } from './libc.js';

/** Where `ip netns` keeps namespaces by their names: each an empty file with the namespace mounted on it (ip-netns(8)). */
export const NETNS_FOLDER = '/run/netns';

/** include/uapi/linux/sched.h */
export const CLONE_NEWNET = 0x4000_0000;
/** include/uapi/linux/mount.h */
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x10_0000;
/** include/linux/fs.h */
const MNT_DETACH = 2;
/** include/uapi/asm-generic/fcntl.h */
const LOCK_EX = 2;

/** What shows the namespace of the calling thread. */
export const OWN_NAMESPACE = '/proc/thread-self/ns/net';

/**
 * Makes a network namespace under a name that `ip netns` knows. In this process and not by ip(8): a process that is
 * killed meanwhile leaves no other behind that would go on to make one when nobody knows of it any more. Throws
 * `host-unsupported` without the right to, or when the name is taken.
 */
export function makeNamespace(name: string): void {
  const file = `${NETNS_FOLDER}/${name}`;
  const home = openSync(OWN_NAMESPACE, 'r');
  try {
    shareFolder();
    closeSync(attempt(name, () => openSync(file, 'wx', 0o444)));
    try {
      require(name, libc().unshare(CLONE_NEWNET));
      try {
        require(name, libc().mount(OWN_NAMESPACE, file, 'none', MS_BIND));
      } finally {
        enterNamespace(home, 'of this process');
      }
    } catch (error) {
      unlinkSync(file);
      throw error;
    }
  } finally {
    closeSync(home);
  }
}

/** Removes a namespace's name, and with it the namespace, unless somebody is in there. Nothing where there is none. */
export function removeNamespace(name: string): void {
  const file = `${NETNS_FOLDER}/${name}`;
  const status = libc().umount(file, MNT_DETACH);
  // EINVAL: who made the name was killed before there was a namespace.
  if (status < 0 && status !== -EINVAL && status !== -ENOENT) {
    throw new XdpbedError(
      'host-unsupported',
      `network namespace ${name} cannot be removed: ${errnoName(status)}`,
      { hint: NEEDED },
    );
  }
  try {
    unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** The calling thread enters a namespace. */
export function enterNamespace(fd: number, name: string): void {
  const result = libc().setns(fd, CLONE_NEWNET);
  if (result < 0) {
    throw new XdpbedError(
      'host-unsupported',
      `network namespace ${name} cannot be entered: ${errnoName(result)}`,
      { hint: NEEDED },
    );
  }
}

const NEEDED = 'run as root, or with CAP_SYS_ADMIN';

/**
 * The folder is mounted on itself and shared, as ip(8) makes it: what is unmounted in one mount namespace is so in all.
 * Under the folder's lock, which ip(8) takes as well: a second mount would hide what is there.
 */
function shareFolder(): void {
  attempt(NETNS_FOLDER, () => mkdirSync(NETNS_FOLDER, { recursive: true, mode: 0o755 }));
  const folder = attempt(NETNS_FOLDER, () => openSync(NETNS_FOLDER, 'r'));
  try {
    require(NETNS_FOLDER, libc().flock(folder, LOCK_EX));
    const share = (): number => libc().mount('', NETNS_FOLDER, 'none', MS_SHARED | MS_REC);
    if (share() !== -EINVAL) return;
    // It is no mount yet.
    require(NETNS_FOLDER, libc().mount(NETNS_FOLDER, NETNS_FOLDER, 'none', MS_BIND | MS_REC));
    require(NETNS_FOLDER, share());
  } finally {
    closeSync(folder);
  }
}

function require(name: string, status: number): void {
  if (status < 0) throw refused(name, errnoName(status), undefined);
}

function attempt<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw refused(name, (cause as NodeJS.ErrnoException).code ?? messageOf(cause), cause);
  }
}

function refused(name: string, reason: string, cause: unknown): XdpbedError {
  return new XdpbedError('host-unsupported', `network namespace ${name} cannot be made: ${reason}`, {
    cause,
    hint: NEEDED,
  });
}
