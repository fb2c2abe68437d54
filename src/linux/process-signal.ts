import { constants } from 'node:os';
import { EINVAL, ESRCH, errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { closeFd } from './bpf-attr.js';
import { libc } from './libc.js';

/**
 * Sends a signal to a process if it is the one that is meant, which is asked once the process is held (pidfd_open(2)): should
 * it end then, and another get its number, the signal reaches nobody. Nothing where there is no such process.
 */
export function signalProcess(pid: number, isMeant: () => boolean, signal: NodeJS.Signals): void {
  const held = libc().pidfdOpen(pid);
  // EINVAL: that is no process, but another thread of one.
  if (held === -ESRCH || held === -EINVAL) return;
  if (held < 0) throw refused(pid, held);
  try {
    if (!isMeant()) return;
    const sent = libc().pidfdSendSignal(held, constants.signals[signal]);
    if (sent < 0 && sent !== -ESRCH) throw refused(pid, sent);
  } finally {
    closeFd(held);
  }
}

function refused(pid: number, status: number): XdpbedError {
  return new XdpbedError('host-unsupported', `process ${pid} cannot be ended: ${errnoName(status)}`, {
    hint: 'run as root',
  });
}
