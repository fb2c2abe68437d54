/**
 * What guests ask of the host's BPF, whatever the bytes are that they ask it with. A protocol turns bytes into one of
 * these requests and a reply into bytes; the device behind it knows nothing of either's layout.
 */

/** A request that names an element of a map. `handle` is the device's own name for it. */
interface ElementRequest {
  readonly handle: number;
  readonly key: Uint8Array;
  /** Bytes: what the driver believes a value to have. The device compares. */
  readonly valueSize: number;
}

/** Loads a program and attaches it in place of what is attached. */
export interface SetOffload {
  readonly kind: 'set-offload';
  /** The program: a multiple of 8 bytes, at least one insn. Map handles are in place of map fds. */
  readonly insns: Uint8Array;
  /** The program's licence allows GPL-only helpers. */
  readonly gplCompatible: boolean;
}

export interface UnsetOffload {
  readonly kind: 'unset-offload';
}

export interface CreateMap {
  readonly kind: 'create-map';
  /** BPF_MAP_TYPE_* */
  readonly mapType: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* of map creation. */
  readonly mapFlags: number;
}

export interface FreeMap {
  readonly kind: 'free-map';
  readonly handle: number;
}

export interface UpdateElem {
  readonly kind: 'update-elem';
  readonly handle: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** BPF_ANY 0, BPF_NOEXIST 1 or BPF_EXIST 2. */
  readonly flags: bigint;
}

export interface LookupElem extends ElementRequest {
  readonly kind: 'lookup-elem';
}

export interface DeleteElem extends ElementRequest {
  readonly kind: 'delete-elem';
}

export interface GetFirst {
  readonly kind: 'get-first';
  readonly handle: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
}

export interface GetNext extends ElementRequest {
  readonly kind: 'get-next';
}

export type MapRequest = CreateMap | FreeMap | UpdateElem | LookupElem | DeleteElem | GetFirst | GetNext;

export type BpfRequest = SetOffload | UnsetOffload | MapRequest;

/** What came of a request. */
export type BpfReply =
  /** set-offload, unset-offload, free-map, update-elem, delete-elem */
  | { readonly kind: 'done' }
  /** create-map */
  | { readonly kind: 'handle'; readonly handle: number }
  /** lookup-elem: as many bytes as the request says */
  | { readonly kind: 'value'; readonly value: Uint8Array }
  /** get-first, get-next: as many bytes as the request says */
  | { readonly kind: 'key'; readonly key: Uint8Array }
  /** `errno` is positive, 1 to 4095, as in Linux: 2 is ENOENT. Not every reply has room for it. */
  | { readonly kind: 'error'; readonly errno?: number };

/** The kind of reply that a request ends in when all is well. */
export function expectedReply(request: BpfRequest): Exclude<BpfReply['kind'], 'error'> {
  switch (request.kind) {
    case 'create-map':
      return 'handle';
    case 'lookup-elem':
      return 'value';
    case 'get-first':
    case 'get-next':
      return 'key';
    default:
      return 'done';
  }
}

/** Bytes of the key that a request is about. */
export function keySizeOf(request: Exclude<MapRequest, FreeMap>): number {
  return 'key' in request ? request.key.length : request.keySize;
}

/** What a device takes at most. */
export interface RequestLimits {
  /** Insns of a program. */
  readonly maxInsns: number;
  /** Bytes of a key. */
  readonly maxKeyBytes: number;
  /** Bytes of a value. */
  readonly maxValueBytes: number;
}

export const DEFAULT_REQUEST_LIMITS: RequestLimits = {
  // What the RFC's QEMU loads at most.
  maxInsns: 4096,
  // A key has to fit on the BPF stack.
  maxKeyBytes: 512,
  maxValueBytes: 65536,
};

export type DecodedRequest =
  | { readonly ok: true; readonly request: BpfRequest }
  /** A stable name for the reason, and the numbers. */
  | { readonly ok: false; readonly reason: string; readonly detail: string };

export type DecodedReply =
  | { readonly ok: true; readonly reply: BpfReply }
  | { readonly ok: false; readonly reason: string; readonly detail: string };

/**
 * Bytes ↔ requests, both sides of it. A request is decoded once, and the reply is encoded from the request that was
 * kept. Decoding is total: any bytes give a request or a reason, every field is checked against every other.
 */
export interface ControlProtocol {
  readonly name: string;
  /** The feature bit that has to be negotiated before a device serves it. */
  readonly feature: number;
  /** Class of its commands on the control queue. */
  readonly controlClass: number;
  /**
   * The device's side.
   * @param readable the device-readable bytes, class and command included, copied from the guest
   * @param room device-writable bytes of the chain
   */
  decodeRequest(readable: Uint8Array, room: number, limits: RequestLimits): DecodedRequest;
  /**
   * The device-writable bytes, `replyBytes` of them.
   * @throws XdpbedError `virtio-violation` when the reply does not belong to the request or has a wrong size
   */
  encodeReply(request: BpfRequest, reply: BpfReply): Uint8Array;
  /**
   * The device-writable bytes for a command that was refused without being decoded, `room` of them, where the answer to it
   * has a place for an errno; undefined where it has none.
   */
  encodeRefusal?(readable: Uint8Array, room: number, errno: number): Uint8Array | undefined;
  /**
   * The driver's side: the device-readable bytes.
   * @throws XdpbedError `virtio-violation` for a request that a strict device would refuse whatever its limits
   */
  encodeRequest(request: BpfRequest): Uint8Array;
  /** Device-writable bytes that the reply takes, the ack included. */
  replyBytes(request: BpfRequest): number;
  /**
   * As distrustful as the device: a reply that does not repeat the request is none.
   * @param sent what `encodeRequest` made of the request
   * @param written the device-writable bytes that the device wrote (`used.len` of them)
   */
  decodeReply(request: BpfRequest, sent: Uint8Array, written: Uint8Array): DecodedReply;
  /** What results call a request. */
  requestName(request: BpfRequest): string;
}
