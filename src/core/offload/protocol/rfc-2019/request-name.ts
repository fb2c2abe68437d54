import type { Rfc2019Request } from '../control-protocol.js';

/** What results call the commands of class EBPF. */
export const REQUEST_NAMES: Readonly<Record<Rfc2019Request['kind'], string>> = {
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
