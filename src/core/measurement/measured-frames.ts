import { buildFrame } from '../../packet/frame-builder.js';
import { formatMac, MAC_BYTES, macNumber, parseMac } from '../../packet/mac-address.js';
import type { GuestNicPlan, MeasurePlan } from '../contract/plan.js';
import { SENDER_MAC, type WorkloadFrame } from '../contract/workload.js';
import { XdpbedError } from '../diagnostic.js';

/** RFC 863, discard. */
const DISCARD_PORT = 9;
const SOURCE_PORT = 10_000;
/** Frames of a workload that are sent over and over: with those of full size, some 25 MB. */
const MOST_FRAMES = 16_384;

type Target = Pick<GuestNicPlan, 'mac' | 'ipv4'>;

/**
 * The frame that rates to a nic are measured with, of one flow. Its UDP source port is the flow's; without a checksum
 * it may be changed in place.
 */
export function uniformFrame(
  { mac, ipv4 }: Target,
  { size }: Pick<MeasurePlan, 'size'>,
  flow = 0,
): Uint8Array {
  return buildFrame({
    eth: { src: formatMac(SENDER_MAC), dst: mac },
    ipv4: { src: '198.18.0.1', dst: ipv4 },
    udp: { srcPort: SOURCE_PORT + flow, dstPort: DISCARD_PORT, checksum: 0 },
    size,
  });
}

/** The first frames of a workload, which can be gone through once: so many as are sent over and over. */
export function firstFrames(frames: Iterable<WorkloadFrame>): Uint8Array[] {
  const first: Uint8Array[] = [];
  for (const { bytes } of frames) {
    if (first.push(bytes) === MOST_FRAMES) break;
  }
  return first;
}

/**
 * Those of a workload's frames that are for one of several nics alone, by nic and in their order, as [index of the nic,
 * frame]. Frames for a group are left out: they would be none's.
 *
 * @throws XdpbedError `packet-invalid` when there are none for one of the nics
 */
export function framesForEach(
  nics: readonly { readonly node: string; readonly nic: Target }[],
  frames: readonly Uint8Array[],
): {
  readonly ofNics: readonly Uint8Array[][];
  readonly inOrder: readonly (readonly [number, Uint8Array])[];
} {
  const byMac = new Map(nics.map(({ nic }, index) => [macNumber(parseMac(nic.mac)), index]));
  const inOrder = frames.flatMap((frame) => {
    const index = frame.length < MAC_BYTES ? undefined : byMac.get(macNumber(frame));
    return index === undefined ? [] : [[index, frame] as const];
  });
  const ofNics = nics.map(({ node }, nic) => {
    const own = inOrder.flatMap(([index, frame]) => (index === nic ? [frame] : []));
    if (own.length === 0) throw noFrameFor(node);
    return own;
  });
  return { ofNics, inOrder };
}

/**
 * Those of a workload's frames that a nic gets: for its address, or for a group's.
 *
 * @param node the nic, for messages
 * @throws XdpbedError `packet-invalid` when there are none
 */
export function framesFor(node: string, { mac }: Target, frames: readonly Uint8Array[]): Uint8Array[] {
  const address = parseMac(mac);
  const own = frames.filter(
    (frame) => (frame[0]! & 1) === 1 || address.every((byte, index) => frame[index] === byte),
  );
  if (own.length > 0) return own;
  throw noFrameFor(node);
}

function noFrameFor(node: string): XdpbedError {
  return new XdpbedError('packet-invalid', `no frame of the workload is for ${node}`, {
    hint: 'measure.frames: uniform needs none',
  });
}
