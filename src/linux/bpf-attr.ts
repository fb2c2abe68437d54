import { closeSync } from 'node:fs';
import { BPF_ATTR, BPF_CMD, BPF_OBJ_NAME_LEN } from './bpf-layout.js';
import { libc } from './libc.js';

/**
 * Bytes of the attributes that every call passes: more than any field of {@link BPF_ATTR} needs. A kernel that knows
 * less takes it, as long as what it does not know is 0.
 */
const ATTR_SIZE = 144;

/**
 * A `union bpf_attr` under construction. It holds on to the memory that the kernel is told about until it is dropped
 * itself, so a caller keeps it for as long as a call of it is under way.
 */
export class BpfAttr {
  readonly bytes = new Uint8Array(ATTR_SIZE);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #referenced: Uint8Array[] = [];
  /** See {@link call}. */
  protected alive = 0;

  u32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  u64(at: number, value: bigint): this {
    this.#view.setBigUint64(at, value, true);
    return this;
  }

  /** A pointer to `bytes`; null when there are none. */
  pointer(at: number, bytes: Uint8Array | null): this {
    if (bytes === null || bytes.length === 0) return this;
    this.#referenced.push(bytes);
    return this.u64(at, libc().address(bytes));
  }

  /** Cut to 15 characters; what the kernel does not allow in names becomes `_`. */
  name(at: number, name: string): this {
    const ascii = name.slice(0, BPF_OBJ_NAME_LEN - 1).replaceAll(/[^A-Za-z0-9_.]/g, '_');
    this.bytes.set(new TextEncoder().encode(ascii), at);
    return this;
  }

  /** bpf(2): what the kernel returned, or `-errno`. May be called again: the kernel overwrites only its answers. */
  call(command: number): number {
    const result = libc().bpf(command, this.bytes);
    // The kernel has read and written through bare addresses: who is asked for its length now, has lived until now.
    this.alive = this.#referenced.length;
    return result;
  }

  read32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  read64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }
}

/**
 * BPF_OBJ_GET_INFO_BY_FD into a struct of `size` bytes, or `-errno`. A kernel that knows less leaves the end 0.
 *
 * @param ask fills in what the kernel is to be told in the struct
 */
export function infoByFd(fd: number, size: number, ask?: (info: DataView) => void): DataView | number {
  const info = new Uint8Array(size);
  ask?.(new DataView(info.buffer));
  const { bpf_fd, info_len, info: pointer } = BPF_ATTR.info;
  const attr = new BpfAttr().u32(bpf_fd, fd).u32(info_len, size).pointer(pointer, info);
  const result = attr.call(BPF_CMD.BPF_OBJ_GET_INFO_BY_FD);
  return result < 0 ? result : new DataView(info.buffer);
}

/** Up to the first NUL. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Closes a file descriptor that one of the functions of this folder made. */
export function closeFd(fd: number): void {
  closeSync(fd);
}
