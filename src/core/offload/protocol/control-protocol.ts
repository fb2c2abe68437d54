import type { MapRecord } from '../../../bpf/runtime/bpf-map.js';
import type { DeviceCapabilities } from './capabilities.js';
import type { DeviceReport, ObjectInfo, ObjectKind } from './object-info.js';

/**
 * What guests ask of the host's BPF, whatever the bytes are that they ask it with. A protocol turns bytes into one of
 * these requests and a reply into bytes; the device behind it knows nothing of either's layout.
 *
 * Not every protocol has every request: RFC 2019's has set-offload, unset-offload, free-map and the first of the
 * requests on maps.
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
  /** For people: what listings call it. Need not be unique. */
  readonly name?: string | undefined;
  /** Handle of the map whose like an ARRAY_OF_MAPS or HASH_OF_MAPS holds. */
  readonly inner?: number | undefined;
  readonly btf?: BtfReference | undefined;
}

/** Types of a map's key and value. */
export interface BtfReference {
  /** Handle of the BTF object. */
  readonly handle: number;
  /** Ids in it; 0 for void. */
  readonly keyType: number;
  readonly valueType: number;
}

/** Takes away the guest's name for a map; as `close`, but for maps only. */
export interface FreeMap {
  readonly kind: 'free-map';
  readonly handle: number;
}

export interface UpdateElem {
  readonly kind: 'update-elem';
  readonly handle: number;
  readonly key: Uint8Array;
  /** In a map of maps or programs: the handle of one, a u32 in little-endian. */
  readonly value: Uint8Array;
  /** BPF_ANY 0, BPF_NOEXIST 1 or BPF_EXIST 2. */
  readonly flags: bigint;
}

export interface LookupElem extends ElementRequest {
  readonly kind: 'lookup-elem';
}

/** As a look-up, and the element is gone; of a queue or stack with a key of 0 bytes. */
export interface LookupAndDeleteElem extends ElementRequest {
  readonly kind: 'lookup-and-delete-elem';
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

/** Several elements at once, from a cursor on. */
export interface LookupBatch {
  readonly kind: 'lookup-batch';
  readonly handle: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  /** Elements at most. */
  readonly count: number;
  /** Where the batch before ended; undefined: the start. */
  readonly cursor: Uint8Array | undefined;
  /** Elements that are returned are deleted. */
  readonly remove: boolean;
}

/** Updates one element after the other; ends at the first that fails. */
export interface UpdateBatch {
  readonly kind: 'update-batch';
  readonly handle: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  readonly count: number;
  /** `count` keys, one behind the other. */
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  /** As in update-elem, of each. */
  readonly flags: bigint;
}

/** Deletes one element after the other; ends at the first that fails. */
export interface DeleteBatch {
  readonly kind: 'delete-batch';
  readonly handle: number;
  /** Bytes. */
  readonly keySize: number;
  readonly count: number;
  readonly keys: Uint8Array;
}

/** No more updates from the guest's side (BPF_MAP_FREEZE). */
export interface FreezeMap {
  readonly kind: 'freeze-map';
  readonly handle: number;
}

/** What programs wrote into a ring buffer or an array of perf events, oldest first; each is returned once. */
export interface ReadRecords {
  readonly kind: 'read-records';
  readonly handle: number;
  /** Bytes of answer at most. What does not fit stays for the next. */
  readonly bytes: number;
}

export interface LoadBtf {
  readonly kind: 'load-btf';
  /** A `.BTF` section. */
  readonly bytes: Uint8Array;
}

export interface ReadBtf {
  readonly kind: 'read-btf';
  readonly handle: number;
  /** Bytes. */
  readonly offset: number;
  /** Bytes at most. */
  readonly length: number;
}

/** Judges a program and holds it, attached nowhere. */
export interface LoadProgram {
  readonly kind: 'load-program';
  /** For people. */
  readonly name: string;
  /** As in set-offload. */
  readonly insns: Uint8Array;
  readonly gplCompatible: boolean;
  /** BPF_F_XDP_HAS_FRAGS. */
  readonly frags: boolean;
  /** Names of functions and source lines, for messages. */
  readonly debug?: ProgramDebug | undefined;
}

export interface ProgramDebug {
  /** Handle of the BTF object that the records refer to. */
  readonly btf: number;
  /** `struct bpf_func_info` after `struct bpf_func_info`: insn_off in slots, type_id. */
  readonly functions: Uint8Array;
  /** `struct bpf_line_info` after `struct bpf_line_info`: insn_off in slots, file_name_off, line_off, line_col. */
  readonly lines: Uint8Array;
}

/** Attaches a program where none is. */
export interface CreateLink {
  readonly kind: 'create-link';
  /** Handle. */
  readonly program: number;
  /** Number of a hook point ({@link HOOK_POINT}). */
  readonly hook: number;
}

/** Puts a program in the place of a link's in one step: no packet meets neither or both. */
export interface UpdateLink {
  readonly kind: 'update-link';
  /** Handle. */
  readonly link: number;
  /** Handle. */
  readonly program: number;
  /** Handle of the program that must be there now (BPF_F_REPLACE). */
  readonly expected?: number | undefined;
}

/** The link stays, as an object without a place, until it is closed. */
export interface DetachLink {
  readonly kind: 'detach-link';
  /** Handle. */
  readonly link: number;
}

/** Keeps an object under a name in the guest's own name space on this device. */
export interface Pin {
  readonly kind: 'pin';
  readonly handle: number;
  readonly name: string;
}

export interface Unpin {
  readonly kind: 'unpin';
  readonly name: string;
}

export interface OpenPinned {
  readonly kind: 'open-pinned';
  readonly name: string;
}

/** The name after a name, in the order of their bytes; the first after ''. */
export interface NextPinned {
  readonly kind: 'next-pinned';
  readonly after: string;
}

/** A handle of one's own for an object that is there. */
export interface OpenById {
  readonly kind: 'open-by-id';
  readonly object: ObjectKind;
  readonly id: number;
}

/** The id after an id, of objects of a kind; the first after 0. */
export interface NextId {
  readonly kind: 'next-id';
  readonly object: ObjectKind;
  readonly after: number;
}

export interface GetInfo {
  readonly kind: 'get-info';
  readonly handle: number;
}

/** Takes the handle away. The object goes when nothing else keeps it: another handle, a pin, a link, a program. */
export interface Close {
  readonly kind: 'close';
  readonly handle: number;
}

export interface GetCapabilities {
  readonly kind: 'get-capabilities';
}

/** What the device did for the guest, and what it holds for it. */
export interface GetReport {
  readonly kind: 'get-report';
}

/** Requests on elements of one map; the policies are asked about each. */
export type ElementsRequest =
  | UpdateElem
  | LookupElem
  | LookupAndDeleteElem
  | DeleteElem
  | GetFirst
  | GetNext
  | LookupBatch
  | UpdateBatch
  | DeleteBatch;

/** The requests that RFC 2019 has on maps. */
export type MapRequest = CreateMap | FreeMap | UpdateElem | LookupElem | DeleteElem | GetFirst | GetNext;

/** The requests that RFC 2019 has. */
export type Rfc2019Request = SetOffload | UnsetOffload | MapRequest;

export type BpfRequest =
  | Rfc2019Request
  | ElementsRequest
  | FreezeMap
  | ReadRecords
  | LoadBtf
  | ReadBtf
  | LoadProgram
  | CreateLink
  | UpdateLink
  | DetachLink
  | Pin
  | Unpin
  | OpenPinned
  | NextPinned
  | OpenById
  | NextId
  | GetInfo
  | Close
  | GetCapabilities
  | GetReport;

/** What came of a request. */
export type BpfReply =
  | { readonly kind: 'done' }
  /** create-map, load-btf, load-program, create-link, open-pinned, open-by-id */
  | { readonly kind: 'handle'; readonly handle: number }
  /** lookup-elem, lookup-and-delete-elem: as many bytes as the request says */
  | { readonly kind: 'value'; readonly value: Uint8Array }
  /** get-first, get-next: as many bytes as the request says */
  | { readonly kind: 'key'; readonly key: Uint8Array }
  /** lookup-batch */
  | {
      readonly kind: 'elements';
      readonly count: number;
      /** `count` keys, one behind the other. */
      readonly keys: Uint8Array;
      readonly values: Uint8Array;
      /** Where to go on; undefined: there is no more. */
      readonly next: Uint8Array | undefined;
    }
  /** update-batch, delete-batch: elements that were done, all of them */
  | { readonly kind: 'count'; readonly count: number }
  /** read-records */
  | { readonly kind: 'records'; readonly records: readonly MapRecord[] }
  /** read-btf */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** next-pinned */
  | { readonly kind: 'name'; readonly name: string }
  /** next-id */
  | { readonly kind: 'id'; readonly id: number }
  /** get-info */
  | { readonly kind: 'info'; readonly info: ObjectInfo }
  | { readonly kind: 'capabilities'; readonly capabilities: DeviceCapabilities }
  | { readonly kind: 'report'; readonly report: DeviceReport }
  | ErrorReply;

/** Not every protocol has room for all of it. */
export interface ErrorReply {
  readonly kind: 'error';
  /** Positive, 1 to 4095, as in Linux: 2 is ENOENT. */
  readonly errno?: number | undefined;
  /** For the guest's user, as extack would say it. */
  readonly message?: string | undefined;
  /** Of update-batch and delete-batch: elements that were done before the one that failed. */
  readonly count?: number | undefined;
}

/** The kind of reply that a request ends in when all is well. */
export function expectedReply(request: BpfRequest): Exclude<BpfReply['kind'], 'error'> {
  switch (request.kind) {
    case 'create-map':
    case 'load-btf':
    case 'load-program':
    case 'create-link':
    case 'open-pinned':
    case 'open-by-id':
      return 'handle';
    case 'lookup-elem':
    case 'lookup-and-delete-elem':
      return 'value';
    case 'get-first':
    case 'get-next':
      return 'key';
    case 'lookup-batch':
      return 'elements';
    case 'update-batch':
    case 'delete-batch':
      return 'count';
    case 'read-records':
      return 'records';
    case 'read-btf':
      return 'bytes';
    case 'next-pinned':
      return 'name';
    case 'next-id':
      return 'id';
    case 'get-info':
      return 'info';
    case 'get-capabilities':
      return 'capabilities';
    case 'get-report':
      return 'report';
    default:
      return 'done';
  }
}

/** Bytes of the key that a request is about. */
export function keySizeOf(request: CreateMap | ElementsRequest): number {
  return 'key' in request ? request.key.length : request.keySize;
}

/** Bytes that read-records and read-btf return at most. */
export const MAX_READ_BYTES = 256 * 1024;

/** What a device takes at most. */
export interface RequestLimits {
  /** Insns of a program. */
  readonly maxInsns: number;
  /** Bytes of a key. */
  readonly maxKeyBytes: number;
  /** Bytes of a value. */
  readonly maxValueBytes: number;
  /** Elements of a batch. */
  readonly maxBatch: number;
  /** Bytes of a BTF section. */
  readonly maxBtfBytes: number;
}

export const DEFAULT_REQUEST_LIMITS: RequestLimits = {
  // What the RFC's QEMU loads at most.
  maxInsns: 4096,
  // A key has to fit on the BPF stack.
  maxKeyBytes: 512,
  maxValueBytes: 65536,
  // What is done in one go, while others wait: some hundred microseconds.
  maxBatch: 4096,
  // What clang writes for a program is 0.5 to 9 KiB. The worst that fits takes 4 to 5 ms to parse.
  maxBtfBytes: 64 * 1024,
};

export type DecodedRequest =
  | { readonly ok: true; readonly request: BpfRequest }
  /** A stable name for the reason, and the numbers. */
  | { readonly ok: false; readonly reason: string; readonly detail: string; readonly errno?: number };

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
  /** What a device takes at most unless it is told otherwise. */
  readonly limits: RequestLimits;
  /** Requests that it has. */
  readonly requests: ReadonlySet<BpfRequest['kind']>;
  /**
   * The device's side.
   * @param readable the device-readable bytes, class and command included, copied from the guest
   * @param room device-writable bytes of the chain
   */
  decodeRequest(readable: Uint8Array, room: number, limits: RequestLimits): DecodedRequest;
  /**
   * The device-writable bytes, at most `room`.
   * @throws XdpbedError `virtio-violation` when the reply does not belong to the request or has a wrong size
   */
  encodeReply(request: BpfRequest, reply: BpfReply, room: number): Uint8Array;
  /**
   * The answer to what was not decoded: at most `room` bytes, none where there is no room for an ack.
   * @param unread the device-readable bytes, where nobody has tried; undefined: they cannot be decoded
   */
  encodeRefusal(refusal: ErrorReply, room: number, unread?: Uint8Array): Uint8Array;
  /**
   * The driver's side: the device-readable bytes.
   * @throws XdpbedError `virtio-violation` for a request that a strict device would refuse whatever its limits
   */
  encodeRequest(request: BpfRequest): Uint8Array;
  /** Device-writable bytes that a driver offers for the answer. */
  replyBytes(request: BpfRequest): number;
  /**
   * As distrustful as the device: a reply that does not belong to the request is none.
   * @param sent what `encodeRequest` made of the request
   * @param written the device-writable bytes that the device wrote (`used.len` of them)
   */
  decodeReply(request: BpfRequest, sent: Uint8Array, written: Uint8Array): DecodedReply;
  /** What the device has in configuration space from VIRTIO_NET_CONFIG_BPF_OFFSET on; absent: nothing. */
  encodeConfiguration?(capabilities: DeviceCapabilities): Uint8Array;
  /** What results call a request. */
  requestName(request: BpfRequest): string;
}
