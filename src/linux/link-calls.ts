import { BpfAttr, infoByFd } from './bpf-attr.js';
import { BPF_ATTR, BPF_CMD, BPF_LINK_INFO } from './bpf-layout.js';

/** `enum bpf_attach_type` of the hooks of a network device. */
export const LINK_ATTACH_TYPE = { BPF_XDP: 37, BPF_TCX_INGRESS: 46, BPF_TCX_EGRESS: 47 } as const;

/** Flags of an XDP link (include/uapi/linux/if_link.h): how the program is run; 0: natively where the driver can. */
export const XDP_FLAGS_SKB_MODE = 1 << 1;
export const XDP_FLAGS_DRV_MODE = 1 << 2;

/** Flags of a tcx link: where it stands among the others of the hook. 0: last. */
export const BPF_F_BEFORE = 1 << 3;
export const BPF_F_AFTER = 1 << 4;
/** `relativeTo` is an id instead of a file descriptor. */
export const BPF_F_ID = 1 << 5;
/** `relativeTo` names a link, not a program. */
export const BPF_F_LINK = 1 << 13;

/** Of BPF_LINK_UPDATE: only if the link still has the program `oldProgramFd`. */
export const BPF_F_REPLACE = 1 << 2;

/** Where a program of a network device goes. The ifindex is of the network namespace of the calling thread. */
export type LinkTarget =
  | {
      readonly hook: 'xdp';
      readonly ifindex: number;
      /** {@link XDP_FLAGS_DRV_MODE}, {@link XDP_FLAGS_SKB_MODE} or 0. */
      readonly flags?: number | undefined;
    }
  | {
      readonly hook: 'tcx-ingress' | 'tcx-egress';
      readonly ifindex: number;
      /** {@link BPF_F_BEFORE} or {@link BPF_F_AFTER}, with what `relativeTo` is. */
      readonly flags?: number | undefined;
      /** File descriptor or id; 0 with BPF_F_BEFORE: the very first, with BPF_F_AFTER: the very last. */
      readonly relativeTo?: number | undefined;
      /** Fails with ESTALE unless the hook's revision is this one; 0n or left out: whatever it is. */
      readonly expectedRevision?: bigint | undefined;
    };

const CREATE = BPF_ATTR.link_create;
const ATTACH_TYPE = {
  xdp: LINK_ATTACH_TYPE.BPF_XDP,
  'tcx-ingress': LINK_ATTACH_TYPE.BPF_TCX_INGRESS,
  'tcx-egress': LINK_ATTACH_TYPE.BPF_TCX_EGRESS,
} as const;

/**
 * BPF_LINK_CREATE: the link's file descriptor, or `-errno`. The program stays attached until the link is detached or
 * the last file descriptor of it is closed, the end of the process included.
 * EBUSY: the device has an XDP program; EEXIST: one of the other mode, or this program stands at the tcx hook;
 * EOPNOTSUPP: the driver has no native XDP; EINVAL: program and hook do not fit; no such device here: EINVAL for XDP,
 * ENODEV for tcx.
 */
export function linkCreate(programFd: number, target: LinkTarget): number {
  const attr = new BpfAttr()
    .u32(CREATE.prog_fd, programFd)
    .u32(CREATE.target_ifindex, target.ifindex)
    .u32(CREATE.attach_type, ATTACH_TYPE[target.hook])
    .u32(CREATE.flags, target.flags ?? 0);
  if (target.hook !== 'xdp') {
    attr
      .u32(CREATE['tcx.relative_fd'], target.relativeTo ?? 0)
      .u64(CREATE['tcx.expected_revision'], target.expectedRevision ?? 0n);
  }
  return attr.call(BPF_CMD.BPF_LINK_CREATE);
}

const UPDATE = BPF_ATTR.link_update;

/**
 * BPF_LINK_UPDATE: 0 or `-errno`. From one packet to the next the link's program is another. With `oldProgramFd` only
 * if it has that one still, EPERM otherwise. ENOLINK: the link is detached, or its device is gone.
 */
export function linkUpdate(linkFd: number, programFd: number, oldProgramFd?: number): number {
  const attr = new BpfAttr().u32(UPDATE.link_fd, linkFd).u32(UPDATE.new_prog_fd, programFd);
  if (oldProgramFd !== undefined) attr.u32(UPDATE.flags, BPF_F_REPLACE).u32(UPDATE.old_prog_fd, oldProgramFd);
  return attr.call(BPF_CMD.BPF_LINK_UPDATE);
}

/** BPF_LINK_DETACH: 0 or `-errno`. The link stays, without a device, until it is closed. */
export function linkDetach(linkFd: number): number {
  return new BpfAttr().u32(BPF_ATTR.link_detach.link_fd, linkFd).call(BPF_CMD.BPF_LINK_DETACH);
}

/** `enum bpf_link_type` of the links that {@link linkInfo} knows more of. */
export const BPF_LINK_TYPE = { RAW_TRACEPOINT: 1, XDP: 6, TCX: 11 } as const;

/** What BPF_OBJ_GET_INFO_BY_FD tells of a link. */
export interface LinkInfo {
  readonly id: number;
  /** `enum bpf_link_type`, e.g. {@link BPF_LINK_TYPE}. */
  readonly type: number;
  readonly programId: number;
  /** Of a link of XDP or tcx: 0 once it is detached or the device is gone. */
  readonly ifindex?: number;
  /** Of a tcx link. */
  readonly attachType?: number;
}

/** `struct bpf_link_info`, or `-errno`. */
export function linkInfo(fd: number): LinkInfo | number {
  const info = infoByFd(fd, 64);
  if (typeof info === 'number') return info;
  const common = {
    type: info.getUint32(BPF_LINK_INFO.type, true),
    id: info.getUint32(BPF_LINK_INFO.id, true),
    programId: info.getUint32(BPF_LINK_INFO.prog_id, true),
  };
  if (common.type === BPF_LINK_TYPE.XDP) {
    return { ...common, ifindex: info.getUint32(BPF_LINK_INFO['xdp.ifindex'], true) };
  }
  if (common.type === BPF_LINK_TYPE.TCX) {
    return {
      ...common,
      ifindex: info.getUint32(BPF_LINK_INFO['tcx.ifindex'], true),
      attachType: info.getUint32(BPF_LINK_INFO['tcx.attach_type'], true),
    };
  }
  return common;
}

/** The programs at a tcx hook. */
export interface TcxPrograms {
  /** In the order in which they run. */
  readonly programIds: readonly number[];
  /** What `expectedRevision` of a {@link LinkTarget} is compared with: goes up with every change. */
  readonly revision: bigint;
}

const QUERY = BPF_ATTR.query;
/** More than a hook takes (kernel BPF_MPROG_MAX, 64). */
const MAX_PROGRAMS = 64;

/** BPF_PROG_QUERY of a tcx hook, or `-errno`. The ifindex is of the calling thread's network namespace. */
export function tcxPrograms(hook: 'tcx-ingress' | 'tcx-egress', ifindex: number): TcxPrograms | number {
  const ids = new Uint32Array(MAX_PROGRAMS);
  const attr = new BpfAttr()
    .u32(QUERY.target_ifindex, ifindex)
    .u32(QUERY.attach_type, ATTACH_TYPE[hook])
    .pointer(QUERY.prog_ids, new Uint8Array(ids.buffer))
    .u32(QUERY.count, MAX_PROGRAMS);
  const status = attr.call(BPF_CMD.BPF_PROG_QUERY);
  if (status < 0) return status;
  return {
    programIds: [...ids.subarray(0, attr.read32(QUERY.count))],
    revision: attr.read64(QUERY.revision),
  };
}

/** BPF_RAW_TRACEPOINT_OPEN of a tracepoint by name: a link's file descriptor, or `-errno` (ENOENT: no such). */
export function rawTracepointOpen(name: string, programFd: number): number {
  return new BpfAttr()
    .pointer(BPF_ATTR.raw_tracepoint.name, new TextEncoder().encode(`${name}\0`))
    .u32(BPF_ATTR.raw_tracepoint.prog_fd, programFd)
    .call(BPF_CMD.BPF_RAW_TRACEPOINT_OPEN);
}
