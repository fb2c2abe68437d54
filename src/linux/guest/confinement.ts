import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Accelerator } from './qemu-arguments.js';

/** uid and gid of `nobody`, as the kernel has it (overflowuid). */
export const NOBODY = 65_534;

/**
 * Words to put before those of a process that deals with a guest's frames, and needs nothing but the files that it is
 * given: util-linux's setpriv has it end with the process that started it, and takes its privileges away; root becomes
 * nobody. Then unshare puts it into network and IPC namespaces of its own, where nobody else is: none of the machine's
 * sockets, abstract ones included, can be reached. Without setpriv nothing of it is done, and the process is ended by
 * whoever ends the run; without unshare, it is in the namespaces of whoever started it.
 *
 * @param group what root's group becomes; undefined: root it stays, without capabilities
 */
export function confinement(group: number | undefined = NOBODY, uid = process.getuid?.()): string[] {
  const setpriv = findInPath('setpriv');
  if (setpriv === undefined) return [];
  const words = [setpriv, '--pdeathsig', 'KILL', '--no-new-privs'];
  if (uid !== 0) return [...words, '--'];
  if (group !== undefined) words.push('--reuid', `${NOBODY}`, '--regid', `${group}`, '--clear-groups');
  words.push('--inh-caps=-all', '--bounding-set=-all', '--');
  const unshare = findInPath('unshare');
  return unshare === undefined ? words : [unshare, '--net', '--ipc', '--', ...words];
}

/** The group of a guest's process, which may use KVM where the guest does; undefined where only root may. */
export function guestGroup(accelerator: Accelerator): number | undefined {
  if (accelerator !== 'kvm') return NOBODY;
  const { gid, mode } = statSync('/dev/kvm');
  if ((mode & 0o006) === 0o006) return NOBODY;
  return (mode & 0o060) === 0o060 && gid !== 0 ? gid : undefined;
}

/** Path of a command; undefined when there is none. */
export function findInPath(command: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, command);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not there.
    }
  }
  return undefined;
}
