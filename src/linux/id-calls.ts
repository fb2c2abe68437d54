import { ENOENT } from '../bpf/errno.js';
import { BpfAttr } from './bpf-attr.js';
import { BPF_ATTR, BPF_CMD } from './bpf-layout.js';

/** What the kernel numbers throughout the machine. */
export type BpfObjectKind = 'program' | 'map' | 'link';

const NEXT_ID = {
  program: BPF_CMD.BPF_PROG_GET_NEXT_ID,
  map: BPF_CMD.BPF_MAP_GET_NEXT_ID,
  link: BPF_CMD.BPF_LINK_GET_NEXT_ID,
} as const;
const FD_BY_ID = {
  program: BPF_CMD.BPF_PROG_GET_FD_BY_ID,
  map: BPF_CMD.BPF_MAP_GET_FD_BY_ID,
  link: BPF_CMD.BPF_LINK_GET_FD_BY_ID,
} as const;

const GET_ID = BPF_ATTR.get_id;

/** BPF_…_GET_NEXT_ID: the lowest id above `after`, `-ENOENT` when there is none, or another `-errno`. */
export function nextId(kind: BpfObjectKind, after: number): number {
  const attr = new BpfAttr().u32(GET_ID.start_id, after);
  const result = attr.call(NEXT_ID[kind]);
  return result < 0 ? result : attr.read32(GET_ID.next_id);
}

/** Every id there is, ascending, or `-errno` (EPERM without CAP_SYS_ADMIN). It may be out of date at once. */
export function allIds(kind: BpfObjectKind): number[] | number {
  const ids: number[] = [];
  for (let id = nextId(kind, 0); ; id = nextId(kind, id)) {
    if (id === -ENOENT) return ids;
    if (id < 0) return id;
    ids.push(id);
  }
}

/** BPF_…_GET_FD_BY_ID: a file descriptor, or `-errno` (ENOENT: gone). Needs CAP_SYS_ADMIN. */
export function fdById(kind: BpfObjectKind, id: number): number {
  return new BpfAttr().u32(GET_ID.start_id, id).call(FD_BY_ID[kind]);
}
