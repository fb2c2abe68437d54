/**
 * Feature bits of a virtio network device, and the rules between them.
 *
 * A set of features is one `bigint` with bit `n` set for feature `n`: the device *offers* a set, the driver
 * *accepts* a subset of it, and what was accepted when FEATURES_OK stuck is *negotiated* (virtio 1.3, 2.2).
 *
 * ```
 *   bit   127 ......... 50 | 49 .. 42 | 41 .................. 24 | 23 ............ 0
 *         device type      | reserved | queues and negotiation   | device type
 * ```
 */

// Device-independent bits: virtio 1.3, 6 "Reserved Feature Bits".
export const VIRTIO_F_INDIRECT_DESC = 28;
export const VIRTIO_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_SR_IOV = 37;
export const VIRTIO_F_NOTIFICATION_DATA = 38;
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
export const VIRTIO_F_RING_RESET = 40;
export const VIRTIO_F_ADMIN_VQ = 41;

// Bits of the network device: virtio 1.3, 5.1.3.
export const VIRTIO_NET_F_CSUM = 0;
export const VIRTIO_NET_F_GUEST_CSUM = 1;
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
export const VIRTIO_NET_F_MTU = 3;
export const VIRTIO_NET_F_MAC = 5;
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
export const VIRTIO_NET_F_GUEST_ECN = 9;
export const VIRTIO_NET_F_GUEST_UFO = 10;
export const VIRTIO_NET_F_HOST_TSO4 = 11;
export const VIRTIO_NET_F_HOST_TSO6 = 12;
export const VIRTIO_NET_F_HOST_ECN = 13;
export const VIRTIO_NET_F_HOST_UFO = 14;
export const VIRTIO_NET_F_MRG_RXBUF = 15;
export const VIRTIO_NET_F_STATUS = 16;
export const VIRTIO_NET_F_CTRL_VQ = 17;
export const VIRTIO_NET_F_CTRL_RX = 18;
export const VIRTIO_NET_F_CTRL_VLAN = 19;
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
export const VIRTIO_NET_F_MQ = 22;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
export const VIRTIO_NET_F_DEVICE_STATS = 50;
export const VIRTIO_NET_F_HASH_TUNNEL = 51;
export const VIRTIO_NET_F_VQ_NOTF_COAL = 52;
export const VIRTIO_NET_F_NOTF_COAL = 53;
export const VIRTIO_NET_F_GUEST_USO4 = 54;
export const VIRTIO_NET_F_GUEST_USO6 = 55;
export const VIRTIO_NET_F_HOST_USO = 56;
export const VIRTIO_NET_F_HASH_REPORT = 57;
export const VIRTIO_NET_F_GUEST_HDRLEN = 59;
export const VIRTIO_NET_F_RSS = 60;
export const VIRTIO_NET_F_RSC_EXT = 61;
export const VIRTIO_NET_F_STANDBY = 62;
export const VIRTIO_NET_F_SPEED_DUPLEX = 63;

/**
 * XDP offload over the control virtqueue. **A proposal of this project, in no specification**: RFC 2019 sent
 * its commands without a feature bit, and lists the bit among what is left to do.
 *
 * 58 is the one bit below 64 that virtio 1.3 gives to no network feature: it fits the 64-bit feature word of
 * every transport, and every driver that masks what it does not know will leave it alone.
 */
export const VIRTIO_NET_F_XDP_OFFLOAD = 58;

/**
 * BPF over the control virtqueue, docs/spec/bpf-offload.md. **A proposal of this project, in no specification.**
 *
 * 127 is the last bit that virtio 1.4 has for device types: it hands out those above 63 from below (65 to 68 went to
 * UDP tunnels first), so that the last will be the last to be taken. Every feature set here is a bigint, whatever its length.
 * Why a bit and not a version in config space: docs/decisions/0018-protocol-2.md.
 */
export const VIRTIO_NET_F_BPF_OFFLOAD = 127;

/** Every feature this library knows: name in the spec's spelling → bit number. */
export const FEATURE_BITS = {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_ADMIN_VQ,
  VIRTIO_NET_F_DEVICE_STATS,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_XDP_OFFLOAD,
  VIRTIO_NET_F_GUEST_HDRLEN,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_BPF_OFFLOAD,
} as const;

export type FeatureName = keyof typeof FEATURE_BITS;

/** A set of feature bits: bit `n` is feature `n`. */
export type FeatureSet = bigint;

const NAME_BY_BIT: ReadonlyMap<number, FeatureName> = new Map(
  (Object.keys(FEATURE_BITS) as FeatureName[]).map((name) => [FEATURE_BITS[name], name]),
);

/** `feature` needs, from each group, at least one member. */
interface Requirement {
  readonly feature: number;
  readonly groups: readonly (readonly number[])[];
}

/** The order keeps a feature behind what it needs, so that one pass of {@link negotiateFeatures} suffices. */
const REQUIREMENTS: readonly Requirement[] = [
  // virtio 1.3, 5.1.3.1 "Feature bit requirements".
  { feature: VIRTIO_NET_F_GUEST_TSO4, groups: [[VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F_GUEST_TSO6, groups: [[VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F_GUEST_ECN, groups: [[VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6]] },
  { feature: VIRTIO_NET_F_GUEST_UFO, groups: [[VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F_GUEST_USO4, groups: [[VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F_GUEST_USO6, groups: [[VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F_HOST_TSO4, groups: [[VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F_HOST_TSO6, groups: [[VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F_HOST_ECN, groups: [[VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]] },
  { feature: VIRTIO_NET_F_HOST_UFO, groups: [[VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F_HOST_USO, groups: [[VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F_CTRL_RX, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_CTRL_VLAN, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_GUEST_ANNOUNCE, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_MQ, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_CTRL_MAC_ADDR, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_NOTF_COAL, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_RSC_EXT, groups: [[VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]] },
  { feature: VIRTIO_NET_F_RSS, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_VQ_NOTF_COAL, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  {
    feature: VIRTIO_NET_F_HASH_TUNNEL,
    groups: [[VIRTIO_NET_F_CTRL_VQ], [VIRTIO_NET_F_RSS, VIRTIO_NET_F_HASH_REPORT]],
  },
  // Ours: the commands travel over the control virtqueue.
  { feature: VIRTIO_NET_F_XDP_OFFLOAD, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F_BPF_OFFLOAD, groups: [[VIRTIO_NET_F_CTRL_VQ]] },
];

/**
 * Features that cannot be negotiated together; where both are on the table, the first is kept.
 *
 * RFC 2019 took control class 6 in 2019; virtio 1.2 has since given class 6 to notification coalescing
 * (VIRTIO_NET_CTRL_NOTF_COAL). Commands 1 and 2 exist in both, so a device could not tell them apart.
 */
const CONFLICTS: readonly (readonly [kept: number, dropped: number])[] = [
  // One device speaks one protocol of offloading: two would have to share what is attached.
  [VIRTIO_NET_F_BPF_OFFLOAD, VIRTIO_NET_F_XDP_OFFLOAD],
  [VIRTIO_NET_F_XDP_OFFLOAD, VIRTIO_NET_F_NOTF_COAL],
  [VIRTIO_NET_F_XDP_OFFLOAD, VIRTIO_NET_F_VQ_NOTF_COAL],
];

/** The set that holds exactly `bits`. */
export function featureSet(...bits: readonly number[]): FeatureSet {
  return bits.reduce((set, bit) => set | (1n << BigInt(bit)), 0n);
}

export function hasFeature(set: FeatureSet, bit: number): boolean {
  return ((set >> BigInt(bit)) & 1n) === 1n;
}

/** The spec's name of a bit; `bit 58` style for one this library does not know. */
export function featureName(bit: number): string {
  return NAME_BY_BIT.get(bit) ?? `bit ${bit}`;
}

/** The names in a set, lowest bit first. */
export function featureNames(set: FeatureSet): string[] {
  const names: string[] = [];
  for (let bit = 0, rest = set; rest > 0n; bit++, rest >>= 1n) {
    if ((rest & 1n) === 1n) names.push(featureName(bit));
  }
  return names;
}

/** The set of the given names; all names that are not in {@link FEATURE_BITS} are reported at once. */
export function parseFeatureNames(
  names: readonly string[],
):
  | { readonly ok: true; readonly features: FeatureSet }
  | { readonly ok: false; readonly unknown: readonly string[] } {
  const unknown = names.filter((name) => !Object.hasOwn(FEATURE_BITS, name));
  if (unknown.length > 0) return { ok: false, unknown };
  return { ok: true, features: featureSet(...names.map((name) => FEATURE_BITS[name as FeatureName])) };
}

/** A rule that a set of features breaks. */
export interface FeatureProblem {
  readonly kind: 'not-offered' | 'requires' | 'conflicts' | 'version-1-missing';
  /** The feature that should not be in the set (or, for `version-1-missing`, should be). */
  readonly feature: number;
  /** e.g. `VIRTIO_NET_F_MQ requires VIRTIO_NET_F_CTRL_VQ`. */
  readonly message: string;
}

/**
 * Every rule that `set` breaks by itself; for an offered set as well as for an accepted one.
 * VERSION_1 is mandatory: legacy devices are not modelled (virtio 1.3, 6.1 and 6.2).
 */
export function checkFeatures(set: FeatureSet): FeatureProblem[] {
  const problems: FeatureProblem[] = [];
  if (!hasFeature(set, VIRTIO_F_VERSION_1)) {
    problems.push({
      kind: 'version-1-missing',
      feature: VIRTIO_F_VERSION_1,
      message: 'VIRTIO_F_VERSION_1 is missing and legacy devices are not supported',
    });
  }
  for (const { feature, groups } of REQUIREMENTS) {
    if (!hasFeature(set, feature)) continue;
    for (const group of groups) {
      if (group.some((bit) => hasFeature(set, bit))) continue;
      const needed = group.map(featureName).join(' or ');
      problems.push({ kind: 'requires', feature, message: `${featureName(feature)} requires ${needed}` });
    }
  }
  return problems;
}

/**
 * What a device checks before it lets FEATURES_OK stick (virtio 1.3, 3.1.1 step 6): the accepted set is a
 * subset of the offered one, meets the requirements and holds no two features that exclude each other.
 */
export function checkAcceptedFeatures(offered: FeatureSet, accepted: FeatureSet): FeatureProblem[] {
  const problems: FeatureProblem[] = [];
  for (let bit = 0, extra = accepted & ~offered; extra > 0n; bit++, extra >>= 1n) {
    if ((extra & 1n) === 0n) continue;
    problems.push({
      kind: 'not-offered',
      feature: bit,
      message: `${featureName(bit)} was accepted but never offered`,
    });
  }
  problems.push(...checkFeatures(accepted));
  for (const [kept, dropped] of CONFLICTS) {
    if (!hasFeature(accepted, kept) || !hasFeature(accepted, dropped)) continue;
    problems.push({
      kind: 'conflicts',
      feature: dropped,
      message: `${featureName(dropped)} and ${featureName(kept)} exclude each other`,
    });
  }
  return problems;
}

/**
 * What a driver accepts: the features both sides have, less those whose requirements are not met and less
 * the second of two that exclude each other. The result passes {@link checkAcceptedFeatures} whenever both
 * sides have VERSION_1.
 */
export function negotiateFeatures(offered: FeatureSet, supported: FeatureSet): FeatureSet {
  let accepted = offered & supported;
  for (const { feature, groups } of REQUIREMENTS) {
    const met = groups.every((group) => group.some((bit) => hasFeature(accepted, bit)));
    if (!met) accepted &= ~featureSet(feature);
  }
  for (const [kept, dropped] of CONFLICTS) {
    if (hasFeature(accepted, kept)) accepted &= ~featureSet(dropped);
  }
  return accepted;
}
