/**
 * What is on the wire, docs/spec/bpf-offload.md: commands of class VIRTIO_NET_CTRL_BPF. All integers are little-endian,
 * whatever the guest's byte order, and there is no padding.
 *
 * ```
 *   device-readable                                   device-writable
 *   0       1        2          2 + size              0     4       8             12           16
 *   | u8    | u8     | struct   | u8[]          |     | ack | errno | data_length | extack_    | u8[] | u8[]   |
 *   | class | command| of the   | keys, values, |     | u8  | le32  | le32        | length le32| data | extack |
 *   |       |        | command  | insns …       |     |                                              |        |
 * ```
 *
 * The ack comes first, as in virtio 1.3's own commands with a result (5.1.6.5, VIRTIO_NET_CTRL_STATS).
 */

import { bitSet } from '../capabilities.js';
import type { BpfRequest } from '../control-protocol.js';
import { StructLayout } from './struct-layout.js';

/** Commands. Their numbers are bits of `virtio_net_bpf_capabilities.commands`. */
export const BPF_COMMAND = {
  CAPABILITIES: 0,
  MAP_CREATE: 1,
  MAP_LOOKUP: 2,
  MAP_UPDATE: 3,
  MAP_DELETE: 4,
  MAP_LOOKUP_AND_DELETE: 5,
  MAP_NEXT_KEY: 6,
  MAP_LOOKUP_BATCH: 7,
  MAP_UPDATE_BATCH: 8,
  MAP_DELETE_BATCH: 9,
  MAP_FREEZE: 10,
  MAP_RECORDS: 11,
  BTF_LOAD: 12,
  BTF_READ: 13,
  PROG_LOAD: 14,
  LINK_CREATE: 15,
  LINK_UPDATE: 16,
  LINK_DETACH: 17,
  PIN: 18,
  UNPIN: 19,
  OPEN_PINNED: 20,
  NEXT_PINNED: 21,
  OPEN_ID: 22,
  NEXT_ID: 23,
  INFO: 24,
  CLOSE: 25,
  REPORT: 26,
  SYSCALL: 27,
} as const;
export type BpfCommand = (typeof BPF_COMMAND)[keyof typeof BPF_COMMAND];

export const ALL_COMMANDS = bitSet(Object.values(BPF_COMMAND));

/** The command that carries a request; RFC 2019's two requests on the attached program have none. */
export const COMMAND_OF = {
  'get-capabilities': BPF_COMMAND.CAPABILITIES,
  'create-map': BPF_COMMAND.MAP_CREATE,
  'lookup-elem': BPF_COMMAND.MAP_LOOKUP,
  'update-elem': BPF_COMMAND.MAP_UPDATE,
  'delete-elem': BPF_COMMAND.MAP_DELETE,
  'lookup-and-delete-elem': BPF_COMMAND.MAP_LOOKUP_AND_DELETE,
  'get-first': BPF_COMMAND.MAP_NEXT_KEY,
  'get-next': BPF_COMMAND.MAP_NEXT_KEY,
  'lookup-batch': BPF_COMMAND.MAP_LOOKUP_BATCH,
  'update-batch': BPF_COMMAND.MAP_UPDATE_BATCH,
  'delete-batch': BPF_COMMAND.MAP_DELETE_BATCH,
  'freeze-map': BPF_COMMAND.MAP_FREEZE,
  'read-records': BPF_COMMAND.MAP_RECORDS,
  'load-btf': BPF_COMMAND.BTF_LOAD,
  'read-btf': BPF_COMMAND.BTF_READ,
  'load-program': BPF_COMMAND.PROG_LOAD,
  'create-link': BPF_COMMAND.LINK_CREATE,
  'update-link': BPF_COMMAND.LINK_UPDATE,
  'detach-link': BPF_COMMAND.LINK_DETACH,
  pin: BPF_COMMAND.PIN,
  unpin: BPF_COMMAND.UNPIN,
  'open-pinned': BPF_COMMAND.OPEN_PINNED,
  'next-pinned': BPF_COMMAND.NEXT_PINNED,
  'open-by-id': BPF_COMMAND.OPEN_ID,
  'next-id': BPF_COMMAND.NEXT_ID,
  'get-info': BPF_COMMAND.INFO,
  close: BPF_COMMAND.CLOSE,
  'get-report': BPF_COMMAND.REPORT,
} as const satisfies Partial<Record<BpfRequest['kind'], BpfCommand>>;

const COMMAND_NAMES = new Map<number, string>(
  Object.entries(BPF_COMMAND).map(([name, number]) => [number, `BPF/${name}`]),
);

/** `BPF/MAP_CREATE`; `BPF command 99` for a number that no command has. */
export function commandName(command: number): string {
  return COMMAND_NAMES.get(command) ?? `BPF command ${command}`;
}

/** Bytes of the name of a map, program or link, NUL-padded (BPF_OBJ_NAME_LEN). */
export const OBJECT_NAME_BYTES = 16;
/** Bytes of the name of a pin, NUL-padded. */
export const PIN_NAME_BYTES = 64;
/** Bytes of an extack text that a device gives at most. */
export const MAX_EXTACK_BYTES = 4096;
/** Bytes of a batch's cursor, whatever the map's keys are. */
export const MAX_CURSOR_BYTES = 512;
/** Bytes of elements in one batch. */
export const MAX_BATCH_BYTES = 512 * 1024;

/** In `virtio_net_bpf_prog_load.flags`. */
export const PROG_FLAG = { GPL_COMPATIBLE: 1, HAS_FRAGS: 2 } as const;
/** In `virtio_net_bpf_link_update.flags`: `expected` is to be compared. */
export const LINK_UPDATE_REPLACE = 1;
/** In `virtio_net_bpf_map_batch.flags` of a look-up: what is returned is deleted. */
export const BATCH_REMOVE = 1n;
/** In `virtio_net_bpf_map_info.flags2`. */
export const MAP_INFO_FROZEN = 1;

export const RESULT = new StructLayout('virtio_net_bpf_result', {
  ack: 'u8',
  reserved: 'u8[3]',
  errno: 'le32',
  data_length: 'le32',
  extack_length: 'le32',
});

export const HANDLE = new StructLayout('virtio_net_bpf_handle', { handle: 'le32' });

export const MAP_CREATE = new StructLayout('virtio_net_bpf_map_create', {
  map_type: 'le32',
  key_size: 'le32',
  value_size: 'le32',
  max_entries: 'le32',
  map_flags: 'le32',
  inner_map: 'le32',
  btf: 'le32',
  btf_key_type_id: 'le32',
  btf_value_type_id: 'le32',
  name: `u8[${OBJECT_NAME_BYTES}]`,
});

export const MAP_ELEM = new StructLayout('virtio_net_bpf_map_elem', {
  map: 'le32',
  key_size: 'le32',
  value_size: 'le32',
  flags: 'le64',
});

export const MAP_BATCH = new StructLayout('virtio_net_bpf_map_batch', {
  map: 'le32',
  key_size: 'le32',
  value_size: 'le32',
  count: 'le32',
  cursor_length: 'le32',
  flags: 'le64',
});

export const MAP_RECORDS = new StructLayout('virtio_net_bpf_map_records', { map: 'le32', length: 'le32' });

export const BTF_LOAD = new StructLayout('virtio_net_bpf_btf_load', { length: 'le32' });

export const BTF_READ = new StructLayout('virtio_net_bpf_btf_read', {
  btf: 'le32',
  offset: 'le32',
  length: 'le32',
});

export const PROG_LOAD = new StructLayout('virtio_net_bpf_prog_load', {
  insn_count: 'le32',
  flags: 'le32',
  btf: 'le32',
  func_info_count: 'le32',
  line_info_count: 'le32',
  name: `u8[${OBJECT_NAME_BYTES}]`,
});

export const LINK_CREATE = new StructLayout('virtio_net_bpf_link_create', {
  program: 'le32',
  hook_point: 'le32',
});

export const LINK_UPDATE = new StructLayout('virtio_net_bpf_link_update', {
  link: 'le32',
  program: 'le32',
  expected: 'le32',
  flags: 'le32',
});

export const PIN = new StructLayout('virtio_net_bpf_pin', { handle: 'le32', name: `u8[${PIN_NAME_BYTES}]` });

export const PIN_NAME = new StructLayout('virtio_net_bpf_pin_name', { name: `u8[${PIN_NAME_BYTES}]` });

export const OBJECT_ID = new StructLayout('virtio_net_bpf_object_id', { kind: 'le32', id: 'le32' });

export const SYSCALL = new StructLayout('virtio_net_bpf_syscall', {
  cmd: 'le32',
  attr_size: 'le32',
  areas_length: 'le32',
  out_length: 'le32',
});

export const ELEMENTS = new StructLayout('virtio_net_bpf_elements', { count: 'le32', next_length: 'le32' });

export const RECORD = new StructLayout('virtio_net_bpf_record', {
  cpu: 'le32',
  lost: 'le32',
  length: 'le32',
});

export const COUNT = new StructLayout('virtio_net_bpf_count', { count: 'le32' });

export const OBJECT_INFO = new StructLayout('virtio_net_bpf_object_info', {
  kind: 'le32',
  id: 'le32',
  name: `u8[${OBJECT_NAME_BYTES}]`,
});

export const MAP_INFO = new StructLayout('virtio_net_bpf_map_info', {
  map_type: 'le32',
  key_size: 'le32',
  value_size: 'le32',
  max_entries: 'le32',
  map_flags: 'le32',
  flags2: 'le32',
  memory: 'le64',
  btf_id: 'le32',
  btf_key_type_id: 'le32',
  btf_value_type_id: 'le32',
});

export const PROG_INFO = new StructLayout('virtio_net_bpf_prog_info', {
  tag: 'u8[8]',
  insn_count: 'le32',
  flags: 'le32',
  load_time: 'le64',
  verified_insns: 'le32',
  btf_id: 'le32',
  map_count: 'le32',
});

export const VERDICTS = new StructLayout('virtio_net_bpf_verdicts', {
  aborted: 'le64',
  drop: 'le64',
  pass: 'le64',
  tx: 'le64',
  redirect: 'le64',
});

export const LINK_INFO = new StructLayout('virtio_net_bpf_link_info', {
  prog_id: 'le32',
  hook_point: 'le32',
});

export const BTF_INFO = new StructLayout('virtio_net_bpf_btf_info', { length: 'le32' });

export const REPORT = new StructLayout('virtio_net_bpf_report', {
  commands: 'le64',
  errors: 'le64',
  maps: 'le64',
  map_memory: 'le64',
  entries: 'le64',
  programs: 'le64',
  insns: 'le64',
  btf_memory: 'le64',
});

export const CAPABILITIES = new StructLayout('virtio_net_bpf_capabilities', {
  length: 'le32',
  max_insns: 'le32',
  max_objects: 'le32',
  max_key_size: 'le32',
  max_value_size: 'le32',
  max_batch: 'le32',
  max_btf_size: 'le32',
  cpus: 'le32',
  granted_maps: 'le32',
  granted_programs: 'le32',
  granted_map_memory: 'le64',
  commands: 'le64',
  map_types: 'le64',
  hook_points: 'le64',
  program_features: 'le64',
  helpers: 'u8[32]',
});

/** Every structure, in the order of the specification. */
export const STRUCTS = [
  CAPABILITIES,
  RESULT,
  HANDLE,
  MAP_CREATE,
  MAP_ELEM,
  MAP_BATCH,
  ELEMENTS,
  COUNT,
  MAP_RECORDS,
  RECORD,
  BTF_LOAD,
  BTF_READ,
  PROG_LOAD,
  LINK_CREATE,
  LINK_UPDATE,
  PIN,
  PIN_NAME,
  OBJECT_ID,
  OBJECT_INFO,
  MAP_INFO,
  PROG_INFO,
  LINK_INFO,
  VERDICTS,
  BTF_INFO,
  REPORT,
  SYSCALL,
] as const;

const UTF8 = new TextEncoder();
/** Fatal: bytes that are not UTF-8 are no name. */
const FROM_UTF8 = new TextDecoder('utf-8', { fatal: true });

/** A name in a field of so many bytes, NUL-padded; undefined when it does not fit or holds a NUL. */
export function encodeName(name: string, bytes: number): Uint8Array | undefined {
  const encoded = UTF8.encode(name);
  if (encoded.length >= bytes || name.includes('\0')) return undefined;
  const field = new Uint8Array(bytes);
  field.set(encoded);
  return field;
}

/** The name in a field: undefined without a NUL at its end, with anything behind one, or when it is not of these characters. */
export function decodeName(field: Uint8Array, characters: RegExp): string | undefined {
  const end = field.indexOf(0);
  if (end < 0 || field.subarray(end).some((byte) => byte !== 0)) return undefined;
  try {
    const name = FROM_UTF8.decode(field.subarray(0, end));
    return characters.test(name) ? name : undefined;
  } catch {
    return undefined;
  }
}

/** What names of objects are made of (kernel/bpf/syscall.c bpf_obj_name_cpy); none is allowed. */
export const OBJECT_NAME = /^[A-Za-z0-9_.]*$/;
/** What names of pins are made of; neither a path nor hidden. */
export const PIN_NAME_TEXT = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/;

/** As {@link encodeName} of as much of a text as there is room for, other characters replaced: for names that people gave. */
export function objectName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.]/g, '_').slice(0, OBJECT_NAME_BYTES - 1);
}
