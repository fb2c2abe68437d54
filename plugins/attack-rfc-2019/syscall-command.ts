import { VIRTIO_NET_CTRL_BPF } from '../../src/virtio/index.js';

/** Number of command SYSCALL, docs/spec/bpf-offload.md. */
const SYSCALL = 27;
/** `struct virtio_net_bpf_syscall`, in bytes. */
const HEADER_BYTES = 16;

/** bpf(2) commands, `enum bpf_cmd`. */
export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
export const BPF_MAP_UPDATE_ELEM = 2;

/** What a SYSCALL says; nothing of it needs to go together. */
export interface SyscallFields {
  readonly cmd: number;
  /** Bytes of attributes that are there. */
  readonly attrBytes: number;
  /** Integers of 32 bits, by their offset in the attributes. */
  readonly attr: Readonly<Record<number, number>>;
  readonly areas?: Uint8Array;
  readonly outLength?: number;
  /** What the header says instead of how long they are. */
  readonly attrSize?: number;
  readonly areasLength?: number;
}

/** Where the first area lies, as an attribute has it. */
export function areasAt(attrBytes: number): number {
  return HEADER_BYTES + attrBytes;
}

/** SYSCALL, class and command included. */
export function syscallCommand(fields: SyscallFields): Uint8Array {
  const { cmd, attrBytes, attr, areas = new Uint8Array(), outLength = 0 } = fields;
  const bytes = new Uint8Array(2 + HEADER_BYTES + attrBytes + areas.length);
  bytes.set([VIRTIO_NET_CTRL_BPF, SYSCALL]);
  const view = new DataView(bytes.buffer, 2);
  const header = [cmd, fields.attrSize ?? attrBytes, fields.areasLength ?? areas.length, outLength];
  header.forEach((value, index) => view.setUint32(4 * index, value, true));
  for (const [offset, value] of Object.entries(attr)) {
    view.setUint32(HEADER_BYTES + Number(offset), value, true);
  }
  bytes.set(areas, 2 + HEADER_BYTES + attrBytes);
  return bytes;
}

/** BPF_MAP_UPDATE_ELEM as an honest driver would send it. */
export function syscallUpdate(handle: number, key: Uint8Array, value: Uint8Array): Uint8Array {
  const attrBytes = 32;
  const at = areasAt(attrBytes);
  return syscallCommand({
    cmd: BPF_MAP_UPDATE_ELEM,
    attrBytes,
    attr: { 0: handle, 8: at, 16: at + key.length },
    areas: Uint8Array.of(...key, ...value),
  });
}
