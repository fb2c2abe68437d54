import type { Deployment } from '../../src/core/contract/fabric.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import type {
  AttachmentResult,
  AuditRecord,
  MapResult,
  RulingRecord,
  RunResult,
} from '../../src/core/contract/result.js';
import type { TransportLink } from '../../src/core/contract/transport.js';
import type { Workload, WorkloadContext, WorkloadFrame } from '../../src/core/contract/workload.js';
import { mapTypeName } from '../../src/bpf/map-spec.js';
import { readGuestMap } from '../../src/core/offload/guest-map.js';
import type { OffloadNetdev } from '../../src/core/offload/guest-driver.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { parseIpv4Address, parseMac } from '../../src/packet/index.js';
import type { FrameAccounting } from './frame-accounting.js';
import { NAPI_BUDGET, type GuestNic } from './guest-nic.js';
import type { ModelHost } from './model-host.js';
import type { TapReader } from './tap-reader.js';
import type { XdpHook } from './xdp-hook.js';

/** A guest nic, its device and what moves frames between them. */
export interface GuestLink {
  readonly guest: string;
  readonly nicName: string;
  readonly nic: GuestNic;
  readonly netdev: OffloadNetdev;
  readonly link: TransportLink;
  readonly reader: TapReader;
}

export interface DeploymentParts {
  readonly run: RunPlan;
  /** The workload's stream of random numbers. */
  readonly random: () => number;
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly host: ModelHost;
  readonly accounting: FrameAccounting;
  readonly clock: { now: bigint };
  readonly links: readonly GuestLink[];
  readonly hooks: readonly XdpHook[];
  readonly attachments: readonly AttachmentResult[];
  readonly rulings: () => readonly RulingRecord[];
  readonly audit: readonly AuditRecord[];
  /** What went wrong on this side of a link while the link was calling: to the link it only looks broken. */
  readonly failures: readonly unknown[];
  readonly teardown: () => Promise<void>;
}

/** MAC address of the traffic generator at the other end of the wire. */
const SENDER_MAC = parseMac('52:54:00:ff:00:01');
/** Turns after a burst in which readers and guests may hand frames to each other before that counts as a loop. */
const MAX_TURNS = 1024;
/**
 * Milliseconds between two looks at the interruption signal: a yield to the event loop costs more than a burst.
 * Of the machine's clock, which decides nothing else: a program may take as long for a frame as others for many.
 */
const MS_PER_YIELD = 20;

/** A model that is up: drives frames through it and reads what came of them. */
export class ModelDeployment implements Deployment {
  readonly #parts: DeploymentParts;
  #gaveWay = performance.now();

  constructor(parts: DeploymentParts) {
    this.#parts = parts;
  }

  /**
   * Frames arrive in bursts of one NAPI poll: the NIC's hook runs on each, then readers and guests work until
   * nothing moves any more. A reader that polls takes each frame as it comes.
   */
  async drive(workload: Workload): Promise<RunResult> {
    const { run } = this.#parts;
    const nic = run.host.nics[0]!.name;
    let burst: WorkloadFrame[] = [];
    for (const frame of workload.frames(this.#workloadContext())) {
      burst.push(frame);
      if (burst.length < NAPI_BUDGET) continue;
      this.#receiveBurst(nic, burst);
      burst = [];
      const pause = this.#giveWay();
      if (pause !== undefined) await pause;
    }
    this.#receiveBurst(nic, burst);
    return this.#result();
  }

  /** Now and then lets the event loop have its turn, and with it an interruption, which then throws. */
  #giveWay(): Promise<void> | undefined {
    return performance.now() - this.#gaveWay < MS_PER_YIELD ? undefined : this.#letOthers();
  }

  async #letOthers(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#parts.signal.aborted) {
      throw new XdpbedError('interrupted', 'interrupted while the model was running');
    }
    this.#gaveWay = performance.now();
  }

  async down(): Promise<void> {
    await this.#parts.teardown();
  }

  #receiveBurst(nic: string, burst: readonly WorkloadFrame[]): void {
    const { host, accounting, clock, links, failures } = this.#parts;
    for (const { bytes, at } of burst) {
      clock.now = at;
      host.receiveFromWire(nic, accounting.begin(bytes, at));
      for (const { reader } of links) if (reader.busyPolls) reader.turn();
    }
    if (!this.#settle()) {
      // Guest and host programs send frames back and forth for ever; each of those ends where it is met next.
      accounting.draining = true;
      this.#settle();
      accounting.draining = false;
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Readers and guests work until nothing moves any more; false when that does not happen. */
  #settle(): boolean {
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      let worked = false;
      for (const { reader, nic } of this.#parts.links) {
        if (reader.turn()) worked = true;
        if (nic.poll()) worked = true;
      }
      if (!worked) return true;
    }
    return false;
  }

  #workloadContext(): WorkloadContext {
    const { run, random, folder } = this.#parts;
    return {
      random,
      folder,
      senderMac: SENDER_MAC,
      targets: run.guests.flatMap((guest) =>
        guest.nics.map((nic) => ({
          guest: guest.name,
          nic: nic.name,
          mac: parseMac(nic.mac),
          ipv4: parseIpv4Address(nic.ipv4),
        })),
      ),
    };
  }

  async #result(): Promise<RunResult> {
    const { run, accounting, links, hooks, attachments } = this.#parts;
    // Maps are read over the control virtqueue too, so they come before its counters.
    const maps: MapResult[] = [];
    for (const link of links) maps.push(...(await this.#readMaps(link)));
    return {
      id: run.id,
      axes: { ...run.axes },
      fabric: 'model',
      framesSent: accounting.sent,
      framesCopied: accounting.copied,
      attachments: [...attachments],
      hooks: hooks.flatMap((hook) => hook.results()),
      ends: accounting.ends(),
      maps,
      control: links.map(({ netdev }) => netdev.controlResult),
      links: links.map(({ guest, nicName, link: { statistics } }) => ({
        guest,
        nic: nicName,
        framesToGuest: statistics.framesToGuest,
        framesFromGuest: statistics.framesFromGuest,
        kicks: statistics.kicks,
        interrupts: statistics.interrupts,
        suppressedNotifications: statistics.suppressedNotifications,
        violations: statistics.violations,
      })),
      rulings: [...this.#parts.rulings()],
      audit: [...this.#parts.audit],
    };
  }

  /** The maps of the guest's program, as the guest reads them: in its own kernel or from its device. */
  async #readMaps({ guest, nicName, netdev }: GuestLink): Promise<MapResult[]> {
    const results: MapResult[] = [];
    for (const [name, map] of netdev.query()?.program.maps ?? []) {
      const entries = await readGuestMap(map, () => this.#giveWay());
      if (!entries.ok)
        throw new XdpbedError(
          'program-fault',
          `${guest}.${nicName} could not read map ${name}: ${entries.message}`,
        );
      results.push({
        guest,
        nic: nicName,
        name,
        type: mapTypeName(map.spec.type),
        readFrom: map.readFrom,
        entries: entries.value
          .filter(({ value }) => value.some((byte) => byte !== 0))
          .map(({ key, value }) => ({ key: hex(key), value: hex(value) }))
          .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)),
      });
    }
    return results;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
