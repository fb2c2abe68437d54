import type { BpfRequest } from '../control-protocol.js';

/** Why a device refuses to look further at a command. Stable names; `detail` has the numbers. */
export const BPF_DECODE_REASONS = {
  'header-truncated': 'class, command or the structure of the command is not all there',
  'class-unknown': 'the class is not VIRTIO_NET_CTRL_BPF',
  'command-unknown': 'no command has this number',
  'payload-truncated': 'fewer bytes are there than the structure announces',
  'trailing-bytes': 'more bytes are there than the structure announces',
  'over-limit': 'a size or number exceeds what the device takes',
  'flags-unknown': 'flags have a bit or value that the command does not define',
  'name-invalid': 'a name is not NUL-terminated, not NUL-padded, or of other characters',
  'field-invalid': 'a field has a value that means nothing, or that another rules out',
  'room-too-small': 'the device-writable bytes do not hold the answer',
} as const;
export type BpfDecodeReason = keyof typeof BPF_DECODE_REASONS;

export type BpfDecoded = { readonly ok: true; readonly request: BpfRequest } | Refused;

export interface Refused {
  readonly ok: false;
  readonly reason: BpfDecodeReason;
  readonly detail: string;
  readonly errno?: number;
}

export function refuse(reason: BpfDecodeReason, detail: string, errno?: number): Refused {
  return { ok: false, reason, detail, ...(errno === undefined ? {} : { errno }) };
}
