import { bytes, rejectReadOnly } from './access.js';
import type { Simulation } from './simulation.js';
import { describeKind } from './value-format.js';
import { Kind, type Value } from './value.js';

/** What of a socket may be read: as the kernel's `bpf_sock_is_valid_access` has it, and no address among it. */
export function checkSocketAccess(
  sim: Simulation,
  register: number,
  base: Value,
  fixed: number,
  size: number,
  write: boolean,
): void {
  if (write) rejectReadOnly(sim, register, 'a socket');
  if (base.scalar.isConst && fixed % size === 0 && isSocketField(base, fixed, size)) return;
  sim.reject(
    'memory-bounds',
    `${bytes(size)} at offset ${fixed} are no field of ${describeKind(base)} that can be read`,
    {
      registers: [register],
      suggestion: 'read whole fields, by the struct that the helper says it returns',
    },
  );
}

function isSocketField(base: Value, offset: number, size: number): boolean {
  if (base.kind === Kind.XskSocket) return offset === 0 && size === 4;
  switch (base.socket) {
    case 'sock_common':
      // A socket that is no full one has no type, protocol, mark and priority.
      return !(offset >= 8 && offset < 24) && isBpfSockField(offset, size);
    case 'sock':
      return isBpfSockField(offset, size);
    default:
      // The kernel's own structures, which all begin with its `struct sock_common`.
      return KERNEL_SOCK_FIELDS.has(`${offset}:${size}`);
  }
}

/** Fields of `struct bpf_sock`. */
function isBpfSockField(offset: number, size: number): boolean {
  if (offset < 0 || offset + size > 80 || size > 4) return false;
  const isAddress = (offset >= 24 && offset < 44) || (offset >= 52 && offset < 72);
  // The port is 16 bits of network order; reading 32 is what older programs did.
  const isPort = offset === 48 || (offset === 49 && size === 1);
  // Parts of these may be read: family, type, protocol, source port, state, queue.
  return size === 4 || isAddress || isPort || [4, 8, 12, 44, 72, 76].includes(offset);
}

/** `offset:size` of both addresses, hash, both ports, family, state, interface. */
const KERNEL_SOCK_FIELDS: ReadonlySet<string> = new Set([
  '0:4',
  '0:8',
  '4:4',
  '8:4',
  '12:2',
  '12:4',
  '14:2',
  '16:2',
  '18:1',
  '20:4',
]);
