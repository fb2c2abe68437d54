import { E2BIG, EINVAL, EOPNOTSUPP } from '../../../../bpf/errno.js';
import { BPF_PROG_TYPE_XDP, isGplCompatible } from '../../../../bpf/program.js';
import { XdpbedError } from '../../../diagnostic.js';
import type { BpfRequest } from '../control-protocol.js';
import { HOOK_POINT, type ObjectKind } from '../object-info.js';
import {
  ATTR,
  AttrReader,
  BPF_CMD,
  BPF_F_REPLACE,
  BPF_F_XDP_HAS_FRAGS,
  BPF_XDP,
  MAX_ATTR_BYTES,
} from './bpf-attr.js';
import {
  refuse as refuseWith,
  type BpfDecoded,
  type BpfDecodeReason,
  type Refused,
} from './decode-reasons.js';
import {
  decodeName,
  encodeName,
  OBJECT_NAME,
  OBJECT_NAME_BYTES,
  PIN_NAME_BYTES,
  PIN_NAME_TEXT,
  SYSCALL,
} from './wire.js';

/*
 * Command SYSCALL: a bpf(2) of the guest's, so that a request of the kernel's that this protocol has a meaning for needs no
 * command of its own. Its attributes become one of the requests that the other commands become too, or nothing does:
 * no number of the guest's reaches the host's system call.
 *
 *   struct virtio_net_bpf_syscall | u8 attr[attr_size] | u8 areas[areas_length]
 *
 * What bpf(2) has a pointer for lies in the areas: the pointer is the offset of its area from the start of the structure, 0
 * for NULL. Areas come in the order of their pointers' fields, without a gap, and are all that is there. Of results
 * there are no pointers (0): they are in the answer, as for the command that the request would otherwise be. A batch's
 * look-up has bytes of one key and of one value where bpf(2) has the pointers `keys` and `values`.
 */

const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 16;
const UTF8 = new TextEncoder();

const ID_COMMANDS: ReadonlyMap<number, { readonly object: ObjectKind; readonly next: boolean }> = new Map([
  [BPF_CMD.MAP_GET_NEXT_ID, { object: 'map', next: true }],
  [BPF_CMD.PROG_GET_NEXT_ID, { object: 'program', next: true }],
  [BPF_CMD.LINK_GET_NEXT_ID, { object: 'link', next: true }],
  [BPF_CMD.BTF_GET_NEXT_ID, { object: 'btf', next: true }],
  [BPF_CMD.MAP_GET_FD_BY_ID, { object: 'map', next: false }],
  [BPF_CMD.PROG_GET_FD_BY_ID, { object: 'program', next: false }],
  [BPF_CMD.LINK_GET_FD_BY_ID, { object: 'link', next: false }],
  [BPF_CMD.BTF_GET_FD_BY_ID, { object: 'btf', next: false }],
]);

/** @param payload what follows class and command */
export function decodeSyscall(payload: Uint8Array): BpfDecoded {
  if (payload.length < SYSCALL.size) {
    return refuse('header-truncated', `${payload.length} of the ${SYSCALL.size} bytes of ${SYSCALL.name}`);
  }
  const {
    cmd,
    attr_size: attrSize,
    areas_length: areasLength,
    out_length: outLength,
  } = SYSCALL.read(payload);
  if (attrSize > MAX_ATTR_BYTES)
    return refuse('over-limit', `attr_size ${attrSize} exceeds ${MAX_ATTR_BYTES}`, E2BIG);
  const expected = SYSCALL.size + attrSize + areasLength;
  if (payload.length !== expected) {
    const reason = payload.length < expected ? 'payload-truncated' : 'trailing-bytes';
    return refuse(reason, `${payload.length} bytes, the command takes ${expected}`);
  }
  const call = new SyscallReader(payload, attrSize, outLength);
  const request = requestOf(cmd, call);
  if (request === undefined) {
    return call.problem ?? refuse('command-unknown', `bpf(2) command ${cmd}`, EOPNOTSUPP);
  }
  return call.finish() ?? { ok: true, request };
}

/** The request that a call makes; undefined when it makes none, and `call.problem` says why unless nobody knows the command. */
function requestOf(cmd: number, call: SyscallReader): BpfRequest | undefined {
  const { attr } = call;
  const ids = ID_COMMANDS.get(cmd);
  if (ids !== undefined) {
    const id = attr.u32(ATTR.id.id);
    return ids.next
      ? { kind: 'next-id', object: ids.object, after: id }
      : { kind: 'open-by-id', object: ids.object, id };
  }
  switch (cmd) {
    case BPF_CMD.MAP_CREATE: {
      const at = ATTR.mapCreate;
      const name = decodeName(attr.bytes(at.mapName, OBJECT_NAME_BYTES), OBJECT_NAME);
      if (name === undefined) return call.refuse('name-invalid', 'map_name');
      const inner = attr.u32(at.innerMapFd);
      const btf = attr.u32(at.btfFd);
      return {
        kind: 'create-map',
        mapType: attr.u32(at.mapType),
        keySize: attr.u32(at.keySize),
        valueSize: attr.u32(at.valueSize),
        maxEntries: attr.u32(at.maxEntries),
        mapFlags: attr.u32(at.mapFlags),
        name,
        ...(inner === 0 ? {} : { inner }),
        ...(btf === 0
          ? {}
          : {
              btf: {
                handle: btf,
                keyType: attr.u32(at.btfKeyTypeId),
                valueType: attr.u32(at.btfValueTypeId),
              },
            }),
      };
    }
    case BPF_CMD.MAP_LOOKUP_ELEM:
    case BPF_CMD.MAP_LOOKUP_AND_DELETE_ELEM: {
      const handle = attr.u32(ATTR.mapElem.mapFd);
      const key = call.area(ATTR.mapElem.keyAt) ?? new Uint8Array();
      const kind = cmd === BPF_CMD.MAP_LOOKUP_ELEM ? 'lookup-elem' : 'lookup-and-delete-elem';
      return { kind, handle, key, valueSize: call.outLength() };
    }
    case BPF_CMD.MAP_UPDATE_ELEM: {
      const at = ATTR.mapElem;
      const handle = attr.u32(at.mapFd);
      const key = call.area(at.keyAt, at.valueAt) ?? new Uint8Array();
      const value = call.area(at.valueAt);
      if (value === undefined) return call.refuse('field-invalid', 'an update without a value');
      const flags = attr.u64(at.flags);
      if (flags > 2n) return call.refuse('flags-unknown', `update flags ${flags}`);
      return { kind: 'update-elem', handle, key, value, flags };
    }
    case BPF_CMD.MAP_DELETE_ELEM: {
      const handle = attr.u32(ATTR.mapElem.mapFd);
      return {
        kind: 'delete-elem',
        handle,
        key: call.area(ATTR.mapElem.keyAt) ?? new Uint8Array(),
        valueSize: call.outLength(),
      };
    }
    case BPF_CMD.MAP_GET_NEXT_KEY: {
      const handle = attr.u32(ATTR.mapElem.mapFd);
      const key = call.area(ATTR.mapElem.keyAt);
      const keySize = call.outLength();
      if (key === undefined) return { kind: 'get-first', handle, keySize, valueSize: 0 };
      if (key.length !== keySize)
        return call.refuse('field-invalid', `${keySize} bytes for a key of ${key.length}`);
      return { kind: 'get-next', handle, key, valueSize: 0 };
    }
    case BPF_CMD.MAP_LOOKUP_BATCH:
    case BPF_CMD.MAP_LOOKUP_AND_DELETE_BATCH:
    case BPF_CMD.MAP_UPDATE_BATCH:
    case BPF_CMD.MAP_DELETE_BATCH:
      return batchOf(cmd, call);
    case BPF_CMD.MAP_FREEZE:
      return { kind: 'freeze-map', handle: attr.u32(ATTR.fd.fd) };
    case BPF_CMD.PROG_LOAD:
      return programOf(call);
    case BPF_CMD.BTF_LOAD: {
      const size = attr.u32(ATTR.btfLoad.btfSize);
      const bytes = call.areaOf(ATTR.btfLoad.btfAt, size);
      return bytes === undefined ? call.refuse('field-invalid', 'btf is NULL') : { kind: 'load-btf', bytes };
    }
    case BPF_CMD.OBJ_PIN: {
      const name = call.text(ATTR.obj.pathnameAt);
      if (name === undefined || name.length >= PIN_NAME_BYTES || !PIN_NAME_TEXT.test(name)) {
        return call.refuse('name-invalid', 'pathname');
      }
      return { kind: 'pin', handle: attr.u32(ATTR.obj.bpfFd), name };
    }
    case BPF_CMD.OBJ_GET: {
      const name = call.text(ATTR.obj.pathnameAt);
      if (name === undefined || name.length >= PIN_NAME_BYTES || !PIN_NAME_TEXT.test(name)) {
        return call.refuse('name-invalid', 'pathname');
      }
      return { kind: 'open-pinned', name };
    }
    case BPF_CMD.OBJ_GET_INFO_BY_FD:
      return { kind: 'get-info', handle: attr.u32(ATTR.info.bpfFd) };
    case BPF_CMD.LINK_CREATE: {
      const program = attr.u32(ATTR.linkCreate.progFd);
      const type = attr.u32(ATTR.linkCreate.attachType);
      if (type !== BPF_XDP) return call.refuse('field-invalid', `attach_type ${type} is not BPF_XDP`);
      return { kind: 'create-link', program, hook: HOOK_POINT.RX };
    }
    case BPF_CMD.LINK_UPDATE: {
      const at = ATTR.linkUpdate;
      const flags = attr.u32(at.flags);
      if (flags !== 0 && flags !== BPF_F_REPLACE) return call.refuse('flags-unknown', `flags ${flags}`);
      const request = {
        kind: 'update-link',
        link: attr.u32(at.linkFd),
        program: attr.u32(at.newProgFd),
      } as const;
      return flags === 0 ? request : { ...request, expected: attr.u32(at.oldProgFd) };
    }
    case BPF_CMD.LINK_DETACH:
      return { kind: 'detach-link', link: attr.u32(ATTR.fd.fd) };
    default:
      return undefined;
  }
}

function batchOf(cmd: number, call: SyscallReader): BpfRequest | undefined {
  const { attr } = call;
  const at = ATTR.mapBatch;
  const handle = attr.u32(at.mapFd);
  const count = attr.u32(at.count);
  if (count === 0) return call.refuse('field-invalid', 'a batch of no elements');
  if (cmd === BPF_CMD.MAP_LOOKUP_BATCH || cmd === BPF_CMD.MAP_LOOKUP_AND_DELETE_BATCH) {
    const cursor = call.area(at.inBatchAt);
    const keySize = attr.u64(at.keysAt);
    const valueSize = attr.u64(at.valuesAt);
    const remove = cmd === BPF_CMD.MAP_LOOKUP_AND_DELETE_BATCH;
    return {
      kind: 'lookup-batch',
      handle,
      keySize: Number(keySize),
      valueSize: Number(valueSize),
      count,
      cursor,
      remove,
    };
  }
  const isUpdate = cmd === BPF_CMD.MAP_UPDATE_BATCH;
  const keys = call.area(at.keysAt, isUpdate ? at.valuesAt : undefined);
  if (keys === undefined || keys.length % count !== 0) {
    return call.refuse('field-invalid', `${keys?.length ?? 0} bytes of keys for ${count} elements`);
  }
  const keySize = keys.length / count;
  if (!isUpdate) return { kind: 'delete-batch', handle, keySize, count, keys };
  const values = call.area(at.valuesAt);
  if (values === undefined || values.length % count !== 0) {
    return call.refuse('field-invalid', `${values?.length ?? 0} bytes of values for ${count} elements`);
  }
  const flags = attr.u64(at.elemFlags);
  if (flags > 2n) return call.refuse('flags-unknown', `elem_flags ${flags}`);
  return {
    kind: 'update-batch',
    handle,
    keySize,
    valueSize: values.length / count,
    count,
    keys,
    values,
    flags,
  };
}

function programOf(call: SyscallReader): BpfRequest | undefined {
  const { attr } = call;
  const at = ATTR.progLoad;
  const type = attr.u32(at.progType);
  if (type !== BPF_PROG_TYPE_XDP)
    return call.refuse('field-invalid', `prog_type ${type} is not BPF_PROG_TYPE_XDP`);
  const attachType = attr.u32(at.expectedAttachType);
  if (attachType !== 0 && attachType !== BPF_XDP) {
    return call.refuse('field-invalid', `expected_attach_type ${attachType} is not BPF_XDP`);
  }
  const flags = attr.u32(at.progFlags);
  if ((flags & ~BPF_F_XDP_HAS_FRAGS) !== 0) return call.refuse('flags-unknown', `prog_flags ${flags}`);
  const name = decodeName(attr.bytes(at.progName, OBJECT_NAME_BYTES), OBJECT_NAME);
  if (name === undefined) return call.refuse('name-invalid', 'prog_name');
  const insnCount = attr.u32(at.insnCnt);
  const insns = insnCount === 0 ? undefined : call.areaOf(at.insnsAt, insnCount * 8);
  if (insns === undefined) return call.refuse('field-invalid', 'a program of no insns');
  const license = call.text(at.licenseAt);
  if (license === undefined) return call.refuse('field-invalid', 'license is not NUL-terminated text');
  const btf = attr.u32(at.progBtfFd);
  const functions = recordsOf(call, at.funcInfoAt, at.funcInfoCnt, at.funcInfoRecSize, FUNC_INFO_BYTES);
  const lines = recordsOf(call, at.lineInfoAt, at.lineInfoCnt, at.lineInfoRecSize, LINE_INFO_BYTES);
  if (functions === undefined || lines === undefined) return undefined;
  if (btf === 0 && functions.length + lines.length > 0) {
    return call.refuse('field-invalid', 'records of debug information without prog_btf_fd');
  }
  return {
    kind: 'load-program',
    name,
    insns,
    gplCompatible: isGplCompatible(license),
    frags: flags === BPF_F_XDP_HAS_FRAGS,
    ...(btf === 0 ? {} : { debug: { btf, functions, lines } }),
  };
}

function recordsOf(
  call: SyscallReader,
  at: number,
  countAt: number,
  sizeAt: number,
  size: number,
): Uint8Array | undefined {
  const count = call.attr.u32(countAt);
  const recordSize = call.attr.u32(sizeAt);
  if (count === 0) return new Uint8Array();
  if (recordSize !== size) return call.refuse('field-invalid', `records of ${recordSize} bytes, not ${size}`);
  return call.areaOf(at, count * size) ?? call.refuse('field-invalid', `${count} records at NULL`);
}

/** One call: its attributes and its areas, which are taken in order. */
class SyscallReader {
  readonly attr: AttrReader;
  problem: Refused | undefined;
  /** Where the next area has to begin. */
  #at: number;
  #outLengthRead = false;
  readonly #out: number;

  constructor(
    readonly payload: Uint8Array,
    attrSize: number,
    outLength: number,
  ) {
    this.attr = new AttrReader(payload.subarray(SYSCALL.size, SYSCALL.size + attrSize));
    this.#at = SYSCALL.size + attrSize;
    this.#out = outLength;
  }

  /** Bytes that the guest has for results: of the value or key that is returned. */
  outLength(): number {
    this.#outLengthRead = true;
    return this.#out;
  }

  /** The area that a pointer names, up to that of the pointer at `next` or to the end; undefined for NULL. */
  area(pointerAt: number, next?: number): Uint8Array | undefined {
    const end = next === undefined ? undefined : Number(this.attr.u64(next));
    const start = this.#start(pointerAt);
    return start === undefined
      ? undefined
      : this.#take(start, end === undefined || end === 0 ? this.payload.length : end);
  }

  /** The area of so many bytes that a pointer names; undefined for NULL. */
  areaOf(pointerAt: number, length: number): Uint8Array | undefined {
    const start = this.#start(pointerAt);
    return start === undefined ? undefined : this.#take(start, start + length);
  }

  /** The text up to its NUL that a pointer names. */
  text(pointerAt: number): string | undefined {
    const start = this.#start(pointerAt);
    if (start === undefined) return undefined;
    const end = this.payload.indexOf(0, start);
    if (end < 0) return undefined;
    const bytes = this.#take(start, end + 1);
    try {
      return bytes === undefined
        ? undefined
        : new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, -1));
    } catch {
      return undefined;
    }
  }

  refuse(reason: BpfDecodeReason, detail: string): undefined {
    this.problem ??= refuse(reason, detail);
    return undefined;
  }

  /** What is wrong once all that means something has been read. */
  finish(): Refused | undefined {
    if (this.problem !== undefined) return this.problem;
    const unread = this.attr.unread();
    if (unread !== undefined) {
      return refuse(
        'field-invalid',
        `byte ${unread} of the attributes is not 0, and nothing is known that it could mean`,
        E2BIG,
      );
    }
    if (this.#at !== this.payload.length) {
      return refuse(
        'trailing-bytes',
        `${this.payload.length - this.#at} bytes of areas that no pointer names`,
      );
    }
    if (!this.#outLengthRead && this.#out !== 0) return refuse('field-invalid', `out_length ${this.#out}`);
    return undefined;
  }

  #start(pointerAt: number): number | undefined {
    const pointer = this.attr.u64(pointerAt);
    if (pointer === 0n) return undefined;
    if (pointer === BigInt(this.#at)) return this.#at;
    return this.refuse('field-invalid', `a pointer to ${pointer}, the next area begins at ${this.#at}`);
  }

  #take(start: number, end: number): Uint8Array | undefined {
    if (end < start || end > this.payload.length) {
      return this.refuse(
        'payload-truncated',
        `an area from ${start} to ${end} of ${this.payload.length} bytes`,
      );
    }
    this.#at = end;
    return this.payload.slice(start, end);
  }
}

/**
 * The payload of SYSCALL for a request; undefined for one that bpf(2) has no command for.
 * @throws XdpbedError `virtio-violation` for a name that cannot be encoded
 */
export function encodeSyscall(request: BpfRequest): Uint8Array | undefined {
  const call = new SyscallWriter();
  switch (request.kind) {
    case 'create-map': {
      const at = ATTR.mapCreate;
      call.u32(at.mapType, request.mapType);
      call.u32(at.keySize, request.keySize);
      call.u32(at.valueSize, request.valueSize);
      call.u32(at.maxEntries, request.maxEntries);
      call.u32(at.mapFlags, request.mapFlags);
      call.u32(at.innerMapFd, request.inner ?? 0);
      call.name(at.mapName, request.name ?? '');
      call.u32(at.btfFd, request.btf?.handle ?? 0);
      call.u32(at.btfKeyTypeId, request.btf?.keyType ?? 0);
      call.u32(at.btfValueTypeId, request.btf?.valueType ?? 0);
      return call.bytes(BPF_CMD.MAP_CREATE);
    }
    case 'lookup-elem':
    case 'lookup-and-delete-elem':
    case 'delete-elem':
      call.u32(ATTR.mapElem.mapFd, request.handle);
      if (request.key.length > 0) call.area(ATTR.mapElem.keyAt, request.key);
      call.out = request.valueSize;
      return call.bytes(
        request.kind === 'lookup-elem'
          ? BPF_CMD.MAP_LOOKUP_ELEM
          : request.kind === 'delete-elem'
            ? BPF_CMD.MAP_DELETE_ELEM
            : BPF_CMD.MAP_LOOKUP_AND_DELETE_ELEM,
      );
    case 'update-elem':
      call.u32(ATTR.mapElem.mapFd, request.handle);
      if (request.key.length > 0) call.area(ATTR.mapElem.keyAt, request.key);
      call.area(ATTR.mapElem.valueAt, request.value);
      call.u64(ATTR.mapElem.flags, request.flags);
      return call.bytes(BPF_CMD.MAP_UPDATE_ELEM);
    case 'get-first':
    case 'get-next':
      call.u32(ATTR.mapElem.mapFd, request.handle);
      if (request.kind === 'get-next') call.area(ATTR.mapElem.keyAt, request.key);
      call.out = request.kind === 'get-next' ? request.key.length : request.keySize;
      return call.bytes(BPF_CMD.MAP_GET_NEXT_KEY);
    case 'lookup-batch':
      call.u32(ATTR.mapBatch.mapFd, request.handle);
      call.u32(ATTR.mapBatch.count, request.count);
      if (request.cursor !== undefined) call.area(ATTR.mapBatch.inBatchAt, request.cursor);
      call.u64(ATTR.mapBatch.keysAt, BigInt(request.keySize));
      call.u64(ATTR.mapBatch.valuesAt, BigInt(request.valueSize));
      return call.bytes(request.remove ? BPF_CMD.MAP_LOOKUP_AND_DELETE_BATCH : BPF_CMD.MAP_LOOKUP_BATCH);
    case 'update-batch':
    case 'delete-batch':
      call.u32(ATTR.mapBatch.mapFd, request.handle);
      call.u32(ATTR.mapBatch.count, request.count);
      call.area(ATTR.mapBatch.keysAt, request.keys);
      if (request.kind === 'delete-batch') return call.bytes(BPF_CMD.MAP_DELETE_BATCH);
      call.area(ATTR.mapBatch.valuesAt, request.values);
      call.u64(ATTR.mapBatch.elemFlags, request.flags);
      return call.bytes(BPF_CMD.MAP_UPDATE_BATCH);
    case 'freeze-map':
      call.u32(ATTR.fd.fd, request.handle);
      return call.bytes(BPF_CMD.MAP_FREEZE);
    case 'load-program': {
      const at = ATTR.progLoad;
      call.u32(at.progType, BPF_PROG_TYPE_XDP);
      call.u32(at.insnCnt, request.insns.length / 8);
      call.area(at.insnsAt, request.insns);
      call.area(at.licenseAt, UTF8.encode(request.gplCompatible ? 'GPL\0' : 'Proprietary\0'));
      call.u32(at.progFlags, request.frags ? BPF_F_XDP_HAS_FRAGS : 0);
      call.name(at.progName, request.name);
      call.u32(at.expectedAttachType, BPF_XDP);
      const { debug } = request;
      if (debug !== undefined) {
        call.u32(at.progBtfFd, debug.btf);
        if (debug.functions.length > 0) {
          call.u32(at.funcInfoRecSize, FUNC_INFO_BYTES);
          call.u32(at.funcInfoCnt, debug.functions.length / FUNC_INFO_BYTES);
          call.area(at.funcInfoAt, debug.functions);
        }
        if (debug.lines.length > 0) {
          call.u32(at.lineInfoRecSize, LINE_INFO_BYTES);
          call.u32(at.lineInfoCnt, debug.lines.length / LINE_INFO_BYTES);
          call.area(at.lineInfoAt, debug.lines);
        }
      }
      return call.bytes(BPF_CMD.PROG_LOAD);
    }
    case 'load-btf':
      call.u32(ATTR.btfLoad.btfSize, request.bytes.length);
      call.area(ATTR.btfLoad.btfAt, request.bytes);
      return call.bytes(BPF_CMD.BTF_LOAD);
    case 'pin':
    case 'open-pinned':
      call.area(ATTR.obj.pathnameAt, UTF8.encode(`${request.name}\0`));
      if (request.kind === 'pin') call.u32(ATTR.obj.bpfFd, request.handle);
      return call.bytes(request.kind === 'pin' ? BPF_CMD.OBJ_PIN : BPF_CMD.OBJ_GET);
    case 'next-id':
    case 'open-by-id': {
      const next = request.kind === 'next-id';
      call.u32(ATTR.id.id, next ? request.after : request.id);
      for (const [cmd, of] of ID_COMMANDS) {
        if (of.object === request.object && of.next === next) return call.bytes(cmd);
      }
      return undefined;
    }
    case 'get-info':
      call.u32(ATTR.info.bpfFd, request.handle);
      return call.bytes(BPF_CMD.OBJ_GET_INFO_BY_FD);
    case 'create-link':
      if (request.hook !== HOOK_POINT.RX) return undefined;
      call.u32(ATTR.linkCreate.progFd, request.program);
      call.u32(ATTR.linkCreate.attachType, BPF_XDP);
      return call.bytes(BPF_CMD.LINK_CREATE);
    case 'update-link': {
      const at = ATTR.linkUpdate;
      call.u32(at.linkFd, request.link);
      call.u32(at.newProgFd, request.program);
      if (request.expected !== undefined) {
        call.u32(at.flags, BPF_F_REPLACE);
        call.u32(at.oldProgFd, request.expected);
      }
      return call.bytes(BPF_CMD.LINK_UPDATE);
    }
    case 'detach-link':
      call.u32(ATTR.fd.fd, request.link);
      return call.bytes(BPF_CMD.LINK_DETACH);
    default:
      return undefined;
  }
}

/** Bytes of attributes that this side sends: all that it has a field for. */
const ATTR_BYTES = 160;

class SyscallWriter {
  readonly #attr = new Uint8Array(ATTR_BYTES);
  readonly #view = new DataView(this.#attr.buffer);
  readonly #areas: Uint8Array[] = [];
  #areasLength = 0;
  out = 0;

  u32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  u64(offset: number, value: bigint): void {
    this.#view.setBigUint64(offset, value, true);
  }

  name(offset: number, name: string): void {
    const field = encodeName(name, OBJECT_NAME_BYTES);
    if (field === undefined || !OBJECT_NAME.test(name)) {
      throw new XdpbedError('virtio-violation', `'${name}' is no name of an object`);
    }
    this.#attr.set(field, offset);
  }

  /** Areas are added in the order of their pointers. */
  area(pointerAt: number, bytes: Uint8Array): void {
    this.u64(pointerAt, BigInt(SYSCALL.size + ATTR_BYTES + this.#areasLength));
    this.#areas.push(bytes);
    this.#areasLength += bytes.length;
  }

  bytes(cmd: number): Uint8Array {
    const header = { cmd, attr_size: ATTR_BYTES, areas_length: this.#areasLength, out_length: this.out };
    const bytes = SYSCALL.encode(header, ATTR_BYTES + this.#areasLength);
    bytes.set(this.#attr, SYSCALL.size);
    let at = SYSCALL.size + ATTR_BYTES;
    for (const area of this.#areas) {
      bytes.set(area, at);
      at += area.length;
    }
    return bytes;
  }
}

function refuse(reason: BpfDecodeReason, detail: string, errno = EINVAL): Refused {
  return refuseWith(reason, detail, errno);
}
