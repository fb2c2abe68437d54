import type { BpfRequest } from '../control-protocol.js';

const NAMES: Readonly<Record<BpfRequest['kind'], string>> = {
  'set-offload': 'EBPF_PROG/SET_OFFLOAD',
  'unset-offload': 'EBPF_PROG/UNSET_OFFLOAD',
  'create-map': 'EBPF_MAP/CREATE_MAP',
  'free-map': 'EBPF_MAP/FREE_MAP',
  'update-elem': 'EBPF_MAP/UPDATE_ELEM',
  'lookup-elem': 'EBPF_MAP/LOOKUP_ELEM',
  'delete-elem': 'EBPF_MAP/DELETE_ELEM',
  'get-first': 'EBPF_MAP/GET_FIRST',
  'get-next': 'EBPF_MAP/GET_NEXT',
};

/** What results call a command of class EBPF, e.g. `EBPF_MAP/CREATE_MAP`. */
export function requestName(request: BpfRequest): string {
  return NAMES[request.kind];
}
