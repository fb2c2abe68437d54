import type { Socket } from 'node:net';
import { XdpbedError } from '../core/diagnostic.js';
import { libc } from './libc.js';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** Bytes of a `struct ucred`: pid, uid, gid. */
const UCRED_BYTES = 12;

/** Who connected to a unix socket, as the kernel noted it then (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who is at the other end of a connection that was accepted on a unix socket; undefined where that cannot be said: Node
 * shows no descriptor, or the connection is of another kind.
 * @throws XdpbedError `host-unsupported` without koffi, or on another system than Linux
 */
export function peerCredentials(socket: Socket): PeerCredentials | undefined {
  const calls = libc();
  // Node has no other way to the descriptor of a socket; the property has been there since its streams have handles.
  const fd = (socket as { _handle?: { fd?: unknown } | null })._handle?.fd;
  if (typeof fd !== 'number' || fd < 0) return undefined;
  const ucred = new Uint8Array(UCRED_BYTES);
  if (calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred) !== 0) return undefined;
  const view = new DataView(ucred.buffer);
  const pid = view.getInt32(0, true);
  // A socket that is no unix socket, or has no peer, has credentials of nobody.
  if (pid === 0) return undefined;
  return { pid, uid: view.getUint32(4, true), gid: view.getUint32(8, true) };
}

/** Whether {@link peerCredentials} can be asked here; why not, otherwise. */
export function peerCredentialsUnsupported(): string | undefined {
  try {
    libc();
    return undefined;
  } catch (error) {
    if (error instanceof XdpbedError) return error.message;
    throw error;
  }
}
