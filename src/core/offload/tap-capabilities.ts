/**
 * What a tap can do for its guest, as bits of one word: what TUNGETFEATURES is for the device itself. Bits 0 to 15 are
 * of the tap, bits 16 to 31 the protocols by which the guest can ask. Bits without a name are 0; one that has a meaning
 * keeps it.
 */
export const TAP_CAPABILITIES = {
  /** There is a place in its path for a program that the guest offloads. */
  XDP_OFFLOAD: 1 << 0,
  /** The program runs on the frames of several queues. */
  MULTI_QUEUE: 1 << 1,
  /** Policies rule on what the guest asks. */
  POLICED: 1 << 2,
  /** The insns that the guest's programs execute are counted. */
  INSNS_COUNTED: 1 << 3,
  /** The guest negotiated VIRTIO_NET_F_XDP_OFFLOAD, and class 6 of the control queue is the protocol of RFC 2019. */
  RFC_2019: 1 << 16,
  /** The guest negotiated VIRTIO_NET_F_BPF_OFFLOAD, and the control queue has class VIRTIO_NET_CTRL_BPF (docs/spec/bpf-offload.md). */
  BPF_OFFLOAD: 1 << 17,
} as const;

export type TapCapability = keyof typeof TAP_CAPABILITIES;

/** The word with these bits. */
export function capabilityWord(names: Iterable<TapCapability>): number {
  let word = 0;
  for (const name of names) word |= TAP_CAPABILITIES[name];
  return word >>> 0;
}

/** Names of the bits that are set, lowest first. */
export function capabilityNames(word: number): TapCapability[] {
  return (Object.keys(TAP_CAPABILITIES) as TapCapability[]).filter(
    (name) => (word & TAP_CAPABILITIES[name]) !== 0,
  );
}

/** `0x00010005` */
export function formatCapabilities(word: number): string {
  return `0x${(word >>> 0).toString(16).padStart(8, '0')}`;
}
