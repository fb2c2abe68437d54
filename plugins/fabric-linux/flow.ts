import type { TrafficReport } from '../../src/core/contract/fabric.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import { emptyVerdictCounts, type VerdictCounts } from '../../src/core/contract/result.js';
import type { EarlyPort } from './early-bridge.js';
import type { FrameEnds } from './frame-ends.js';
import type { HostNic } from './host-nic.js';
import type { HostTap } from './host-tap.js';
import type { GuestTraffic, LinuxGuestNic } from './guest-nic.js';
import { NO_FRAMES, readLinkCounters } from './link-counters.js';
import type { Topology } from './topology.js';
import type { Wire } from './wire.js';

export interface FlowParts {
  readonly plan: RunPlan;
  readonly topology: Topology;
  readonly wire: Wire;
  readonly hostNics: readonly HostNic[];
  readonly taps: readonly HostTap[];
  readonly nics: readonly LinuxGuestNic[];
  /** What the guests in this process made of frames. */
  readonly ends: FrameEnds;
}

/**
 * Where the frames of a run ended, put together from counters along their way: those of the programs in their hooks, of
 * the wire's ends, of the guests and of the interfaces. What no counter has seen is not made up: it is missing from the
 * ends, and the check for conservation says so.
 *
 * Only of a bridge nothing counts what it does by itself. Each frame that it got is counted, and each that it sent on;
 * more of these are copies made by flooding, fewer are frames that it filtered.
 */
export async function countFlow(parts: FlowParts, framesSent: number): Promise<TrafficReport> {
  const { plan, wire, hostNics, taps, nics } = parts;
  const ends = parts.ends.clone();
  const links = await readLinkCounters(parts.topology.host.name);
  const guests = new Map<HostTap, GuestTraffic>();
  for (const nic of nics) {
    const link = links.get(nic.tap.options.plan.name) ?? NO_FRAMES;
    guests.set(nic.tap, await nic.count(ends, link));
  }
  const bridged = new Set(plan.host.bridges.flatMap(({ ports }) => ports));
  let intoBridges = 0;
  let outOfBridges = 0;

  for (const { node, plan: nic, place } of hostNics) {
    const verdicts = place.verdicts;
    if (verdicts !== undefined) ends.addDropped(node, verdicts);
    const passed = verdicts?.XDP_PASS ?? links.get(nic.name)?.received ?? 0;
    const out = wire.received(nic.name);
    ends.add(node, 'nic-ring-full', wire.refused(nic.name));
    ends.add(node, 'transmitted', out);
    if (!bridged.has(nic.name)) {
      ends.add(node, 'host-stack', passed);
      continue;
    }
    // Both skbs and frames of XDP_TX that the other end of the pair had no room for.
    const lost = links.get(nic.name)?.transmitDropped ?? 0;
    ends.add(node, 'transmit-queue-full', lost);
    intoBridges += passed;
    outOfBridges += out + lost - (verdicts?.XDP_TX ?? 0);
  }

  for (const tap of taps) {
    const { name } = tap.options.plan;
    const guest = guests.get(tap);
    const offloaded = tap.offload.verdicts;
    if (offloaded !== undefined) {
      ends.addDropped(tap.node, offloaded);
      ends.add(tap.node, 'redirect-failed', offloaded.XDP_REDIRECT);
    }
    const rx = tap.rx.verdicts;
    if (rx !== undefined) ends.addDropped(tap.node, rx);
    // The tap's own counter is right for skbs, and wrong for redirected frames (RedirectDrops).
    const isBridged = bridged.has(name);
    const ringFull = isBridged ? (links.get(name)?.transmitDropped ?? 0) : tap.ringFull;
    ends.add(tap.node, 'ring-full', ringFull);
    ends.add(tap.node, 'cpu-queue-full', tap.cpuQueueFull);
    ends.add(tap.node, 'hop-limit', tap.caughtInLoop);
    ends.add(tap.node, 'frame-too-long', tap.tooLong);
    const sent = guest?.framesFromGuest ?? 0;
    const received = (guest?.framesToGuest ?? 0) + ringFull;
    if (tap.early !== undefined) {
      const early = earlyFlow(tap, tap.early, sent, received);
      ends.add(tap.node, 'xdp-aborted', early.aborted);
      if (tap.dropsSentBackSkbs)
        ends.add(tap.node, 'redirect-failed', tap.offload.verdictsOf(1)?.XDP_TX ?? 0);
      intoBridges += early.into;
      outOfBridges += early.out;
      continue;
    }
    const entered = rx === undefined ? sent + (offloaded?.XDP_TX ?? 0) : rx.XDP_PASS;
    if (!isBridged) {
      ends.add(tap.node, 'host-stack', entered);
      continue;
    }
    intoBridges += entered;
    const toTap = (offloaded === undefined ? received : total(offloaded)) + tap.caughtInLoop;
    outOfBridges += toTap - (rx?.XDP_TX ?? 0);
  }

  const copied = Math.max(0, outOfBridges - intoBridges);
  if (intoBridges > outOfBridges) {
    ends.add(`host.${plan.host.bridges[0]!.name}`, 'bridge-filtered', intoBridges - outOfBridges);
  }
  return { framesSent, framesCopied: ends.copied + copied, ends: ends.list() };
}

/**
 * What a tap with hook `bridge-early` adds to the frames that its bridge got and sent on, over those that its NICs
 * received and sent.
 *
 * @param sent frames that came from the guest
 * @param received frames that were for the guest, those that its queue had no room for included
 */
function earlyFlow(
  tap: HostTap,
  early: EarlyPort,
  sent: number,
  received: number,
): { readonly into: number; readonly out: number; readonly aborted: number } {
  const none = emptyVerdictCounts();
  const onNic = tap.offload.verdictsOf(0) ?? none;
  const onEgress = tap.offload.verdictsOf(1);
  const rx = tap.rx.verdictsOf(0);
  const back = early.sentBackVerdicts;
  return {
    into:
      // Received by a NIC, but met by the program there; those that it passed went on into the bridge.
      onNic.XDP_PASS -
      total(onNic) +
      // Into the tap's receive path: from the guest past its program, and past that from the skbs' program and the NIC's.
      (rx === undefined ? sent : rx.XDP_PASS) +
      (tap.dropsSentBackSkbs ? 0 : (onEgress?.XDP_TX ?? 0)) +
      back.XDP_PASS,
    out:
      // What the tap's Rx path sends back to the guest has not been in the bridge.
      (onEgress === undefined
        ? received - (tap.rx.verdicts?.XDP_TX ?? 0)
        : total(onEgress) + early.passedEarly) +
      tap.caughtInLoop -
      // Out of a NIC, but not through the bridge.
      back.XDP_TX,
    aborted: back.XDP_ABORTED,
  };
}

function total(verdicts: VerdictCounts = emptyVerdictCounts()): number {
  return Object.values(verdicts).reduce((sum, count) => sum + count, 0);
}
