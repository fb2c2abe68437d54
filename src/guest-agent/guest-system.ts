import { closeSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { libc } from '../linux/libc.js';

/** File systems that the agent, Node and the kernel's drivers are reached by. */
const FILE_SYSTEMS = [
  ['proc', '/proc'],
  ['sysfs', '/sys'],
  ['devtmpfs', '/dev'],
] as const;

export function mountFileSystems(): void {
  for (const [type, target] of FILE_SYSTEMS) {
    const result = libc().mount('none', target, type, 0);
    if (result < 0)
      throw new XdpbedError('guest-failed', `${target} cannot be mounted: ${errnoName(result)}`);
  }
}

/** Loads the kernel modules of a folder in the order of their names. */
export function loadModules(folder: string): void {
  for (const name of readdirSync(folder).sort()) {
    const fd = openSync(`${folder}/${name}`, 'r');
    try {
      const result = libc().finitModule(fd);
      if (result < 0)
        throw new XdpbedError('guest-failed', `module ${name} cannot be loaded: ${errnoName(result)}`);
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * What a guest's stack would send by itself is left out: without IPv6 there is no router solicitation and no multicast
 * report among the frames that a run counts. Without an address there is no ARP either.
 */
export function silenceStack(): void {
  for (const scope of ['all', 'default']) {
    try {
      writeFileSync(`/proc/sys/net/ipv6/conf/${scope}/disable_ipv6`, '1');
    } catch {
      // A kernel without IPv6 sends none.
    }
  }
}
