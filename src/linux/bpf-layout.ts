/**
 * Offsets, in bytes, of the fields that this package uses of bpf(2)'s structs, little-endian, by the kernel's own
 * names: include/uapi/linux/bpf.h of 6.18. All are ABI: fields are only ever appended, so that they hold for older
 * kernels too, as far as those have the field. bpf-layout.test.ts compares them with the BTF of the running kernel.
 */

/** `union bpf_attr`, one entry for each of its structs; the anonymous ones are named after their first command. */
export const BPF_ATTR = {
  /** BPF_MAP_CREATE */
  map_create: {
    map_type: 0,
    key_size: 4,
    value_size: 8,
    max_entries: 12,
    map_flags: 16,
    inner_map_fd: 20,
    map_name: 28,
    btf_fd: 48,
    btf_key_type_id: 52,
    btf_value_type_id: 56,
  },
  /** BPF_MAP_LOOKUP_ELEM and its like, BPF_MAP_GET_NEXT_KEY, BPF_MAP_FREEZE; key and value are pointers. */
  map_elem: { map_fd: 0, key: 8, value: 16, next_key: 16, flags: 24 },
  /** BPF_MAP_…_BATCH; in_batch, out_batch, keys and values are pointers. */
  batch: {
    in_batch: 0,
    out_batch: 8,
    keys: 16,
    values: 24,
    count: 32,
    map_fd: 36,
    elem_flags: 40,
    flags: 48,
  },
  /** BPF_PROG_LOAD; insns, license, log_buf, func_info and line_info are pointers. */
  prog_load: {
    prog_type: 0,
    insn_cnt: 4,
    insns: 8,
    license: 16,
    log_level: 24,
    log_size: 28,
    log_buf: 32,
    prog_flags: 44,
    prog_name: 48,
    expected_attach_type: 68,
    prog_btf_fd: 72,
    func_info_rec_size: 76,
    func_info: 80,
    func_info_cnt: 88,
    line_info_rec_size: 92,
    line_info: 96,
    line_info_cnt: 104,
    log_true_size: 140,
  },
  /** BPF_PROG_TEST_RUN; data_in, data_out, ctx_in and ctx_out are pointers. */
  test: {
    prog_fd: 0,
    retval: 4,
    data_size_in: 8,
    data_size_out: 12,
    data_in: 16,
    data_out: 24,
    repeat: 32,
    duration: 36,
    ctx_size_in: 40,
    ctx_size_out: 44,
    ctx_in: 48,
    ctx_out: 56,
    flags: 64,
    batch_size: 72,
  },
  /** BPF_…_GET_NEXT_ID and BPF_…_GET_FD_BY_ID */
  get_id: { start_id: 0, prog_id: 0, map_id: 0, link_id: 0, next_id: 4 },
  /** BPF_PROG_QUERY; prog_ids is a pointer. */
  query: { target_ifindex: 0, attach_type: 4, prog_ids: 16, count: 24, revision: 56 },
  /** BPF_OBJ_GET_INFO_BY_FD; info is a pointer. */
  info: { bpf_fd: 0, info_len: 4, info: 8 },
  /** BPF_RAW_TRACEPOINT_OPEN; name is a pointer. */
  raw_tracepoint: { name: 0, prog_fd: 8 },
  /** BPF_BTF_LOAD; btf is a pointer. */
  btf_load: { btf: 0, btf_size: 16 },
  /** BPF_LINK_CREATE */
  link_create: {
    prog_fd: 0,
    target_ifindex: 4,
    attach_type: 8,
    flags: 12,
    'tcx.relative_fd': 16,
    'tcx.expected_revision': 24,
  },
  /** BPF_LINK_UPDATE */
  link_update: { link_fd: 0, new_prog_fd: 4, flags: 8, old_prog_fd: 12 },
  /** BPF_LINK_DETACH */
  link_detach: { link_fd: 0 },
} as const;

/** `struct bpf_map_info` */
export const BPF_MAP_INFO = {
  type: 0,
  id: 4,
  key_size: 8,
  value_size: 12,
  max_entries: 16,
  map_flags: 20,
  name: 24,
} as const;

/** `struct bpf_prog_info` */
export const BPF_PROG_INFO = {
  type: 0,
  id: 4,
  tag: 8,
  jited_prog_len: 16,
  xlated_prog_len: 20,
  nr_map_ids: 52,
  map_ids: 56,
  name: 64,
  run_time_ns: 192,
  run_cnt: 200,
  verified_insns: 216,
} as const;

/** `struct bpf_link_info` */
export const BPF_LINK_INFO = {
  type: 0,
  id: 4,
  prog_id: 8,
  'xdp.ifindex': 16,
  'tcx.ifindex': 16,
  'tcx.attach_type': 20,
} as const;

/** `struct bpf_func_info` */
export const BPF_FUNC_INFO = { insn_off: 0, type_id: 4 } as const;
/** `struct bpf_line_info` */
export const BPF_LINE_INFO = { insn_off: 0, file_name_off: 4, line_off: 8, line_col: 12 } as const;

/** Bytes of a map's or a program's name, the terminating NUL included (kernel `BPF_OBJ_NAME_LEN`). */
export const BPF_OBJ_NAME_LEN = 16;

/** `enum bpf_cmd` */
export const BPF_CMD = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_NEXT_ID: 11,
  BPF_MAP_GET_NEXT_ID: 12,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_MAP_GET_FD_BY_ID: 14,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_PROG_QUERY: 16,
  BPF_RAW_TRACEPOINT_OPEN: 17,
  BPF_BTF_LOAD: 18,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: 21,
  BPF_MAP_FREEZE: 22,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: 25,
  BPF_MAP_UPDATE_BATCH: 26,
  BPF_MAP_DELETE_BATCH: 27,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_GET_FD_BY_ID: 30,
  BPF_LINK_GET_NEXT_ID: 31,
  BPF_LINK_DETACH: 34,
} as const;
