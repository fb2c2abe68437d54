import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Accelerator } from './qemu-arguments.js';

/** uid and gid of `nobody`, as the kernel has it (overflowuid). */
const NOBODY = 65_534;

/**
 * Words to put before QEMU's: util-linux's setpriv has it end with the process that started it, and takes its
 * privileges away. Root becomes nobody; with KVM, in the group that may use it. Nothing where there is no setpriv; QEMU
 * is then ended by whoever ends the run, and by the guest's agent, which switches off when its host is gone.
 */
export function confinement(accelerator: Accelerator, uid = process.getuid?.()): string[] {
  const setpriv = findInPath('setpriv');
  if (setpriv === undefined) return [];
  const words = [setpriv, '--pdeathsig', 'KILL', '--no-new-privs'];
  if (uid === 0) {
    const group = accelerator === 'kvm' ? kvmGroup() : NOBODY;
    if (group !== undefined) words.push('--reuid', `${NOBODY}`, '--regid', `${group}`, '--clear-groups');
    words.push('--inh-caps=-all', '--bounding-set=-all');
  }
  return [...words, '--'];
}

/** The group that may use KVM: nobody's where everybody may; undefined where only root may. */
function kvmGroup(): number | undefined {
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
