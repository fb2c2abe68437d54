import {
  controlCommandName,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
  VIRTIO_NET_CTRL_EBPF_PROG,
  type EbpfCommand,
} from '../../virtio/index.js';

const EBPF_NAMES: Readonly<Record<EbpfCommand['kind'], string>> = {
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
export function ebpfCommandName(command: EbpfCommand): string {
  return EBPF_NAMES[command.kind];
}

/** What results call a command before (or without) knowing more than class and command: `MQ_VQ_PAIRS_SET`. */
export function commandName(controlClass: number, command: number): string {
  if (controlClass === VIRTIO_NET_CTRL_EBPF) {
    if (command === VIRTIO_NET_CTRL_EBPF_PROG) return 'EBPF_PROG';
    if (command === VIRTIO_NET_CTRL_EBPF_MAP) return 'EBPF_MAP';
  }
  return controlCommandName(controlClass, command).replace(/^VIRTIO_NET_CTRL_/, '');
}
