/**
 * `union bpf_attr` (include/uapi/linux/bpf.h) as command SYSCALL carries it: little-endian, with the kernel's offsets.
 * The tail that a guest's kernel does not know may be left out, as in bpf(2); what is there and not read must be 0.
 */

/** `enum bpf_cmd` */
export const BPF_CMD = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_GET_NEXT_ID: 11,
  MAP_GET_NEXT_ID: 12,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  BTF_LOAD: 18,
  BTF_GET_FD_BY_ID: 19,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_FREEZE: 22,
  BTF_GET_NEXT_ID: 23,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_GET_NEXT_ID: 31,
  LINK_DETACH: 34,
} as const;

/** Bytes of attributes that a device looks at; what Linux 6.18 has, and room. */
export const MAX_ATTR_BYTES = 256;

/** Byte offsets of the fields, by command. Those called `…At` are pointers. */
export const ATTR = {
  mapCreate: {
    mapType: 0,
    keySize: 4,
    valueSize: 8,
    maxEntries: 12,
    mapFlags: 16,
    innerMapFd: 20,
    mapName: 28,
    btfFd: 48,
    btfKeyTypeId: 52,
    btfValueTypeId: 56,
  },
  mapElem: { mapFd: 0, keyAt: 8, valueAt: 16, flags: 24 },
  mapBatch: { inBatchAt: 0, keysAt: 16, valuesAt: 24, count: 32, mapFd: 36, elemFlags: 40 },
  progLoad: {
    progType: 0,
    insnCnt: 4,
    insnsAt: 8,
    licenseAt: 16,
    progFlags: 44,
    progName: 48,
    expectedAttachType: 68,
    progBtfFd: 72,
    funcInfoRecSize: 76,
    funcInfoAt: 80,
    funcInfoCnt: 88,
    lineInfoRecSize: 92,
    lineInfoAt: 96,
    lineInfoCnt: 104,
  },
  obj: { pathnameAt: 0, bpfFd: 8 },
  id: { id: 0 },
  info: { bpfFd: 0 },
  btfLoad: { btfAt: 0, btfSize: 16 },
  fd: { fd: 0 },
  linkCreate: { progFd: 0, attachType: 8 },
  linkUpdate: { linkFd: 0, newProgFd: 4, flags: 8, oldProgFd: 12 },
} as const;

/** In `prog_flags`. */
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;
/** In the flags of BPF_LINK_UPDATE. */
export const BPF_F_REPLACE = 1 << 2;
/** `enum bpf_attach_type` */
export const BPF_XDP = 37;

/** Reads fields, and knows which bytes nobody asked for. */
export class AttrReader {
  readonly #bytes = new Uint8Array(MAX_ATTR_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #read = new Uint8Array(MAX_ATTR_BYTES);

  /** @param attr at most MAX_ATTR_BYTES; what is missing counts as 0 */
  constructor(attr: Uint8Array) {
    this.#bytes.set(attr);
  }

  u32(offset: number): number {
    this.#read.fill(1, offset, offset + 4);
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number): bigint {
    this.#read.fill(1, offset, offset + 8);
    return this.#view.getBigUint64(offset, true);
  }

  bytes(offset: number, length: number): Uint8Array {
    this.#read.fill(1, offset, offset + length);
    return this.#bytes.slice(offset, offset + length);
  }

  /** Offset of the first byte that is not 0 and that nobody has read; undefined: there is none. */
  unread(): number | undefined {
    for (let at = 0; at < MAX_ATTR_BYTES; at++) if (this.#bytes[at] !== 0 && this.#read[at] === 0) return at;
    return undefined;
  }
}
