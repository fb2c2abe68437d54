import { setTimeout as sleep } from 'node:timers/promises';
import type { MeasuredRate, TrafficReport } from '../../src/core/contract/fabric.js';
import type { MeasurePlan } from '../../src/core/contract/plan.js';
import { LOSSES, type EndResult, type Fate } from '../../src/core/contract/result.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { framesFor, uniformFrame } from '../../src/core/measurement/measured-frames.js';
import { median, spread } from '../../src/core/measurement/spread.js';
import { possibleCpus, setReceiveOffload, type Ledger } from '../../src/linux/index.js';
import { CountingSink } from './counting-sink.js';
import { countFlow, type FlowParts } from './flow.js';
import { FrameEnds } from './frame-ends.js';
import { Generator } from './generator.js';
import type { GeneratorTraffic } from './generator-program.js';
import type { ReaderAccount, TapGuest } from './tap-guest.js';
import { ReaderNic, type LinuxGuestNic, type QemuNic } from './guest-nic.js';
import { TapReader, type TapReaderWork } from './tap-reader.js';

/** Where frames are made, and with them all that the host does of them. */
const HOST_CPU = 0;
/** Bytes of frames that the kernel's generator and the wire take: an Ethernet header; an MTU of 1500 and a VLAN tag. */
const SHORTEST_FRAME = 14;
const LONGEST_FRAME = 14 + 4 + 1500;
/** Milliseconds that frames may be under way when none is made any more. */
const SETTLE_MS = 3000;
/** Milliseconds without any change after which all frames have ended. */
const STILL_MS = 50;

export interface MeasurementParts extends FlowParts {
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
}

/** Rates of one guest nic: as many frames to it as are wanted, or as the kernel can make and the way takes. */
export class RateMeasurement {
  readonly #base: Promise<TrafficReport>;
  #generated = 0;

  constructor(
    readonly parts: MeasurementParts,
    readonly nic: LinuxGuestNic,
    readonly measure: MeasurePlan,
    readonly traffic: GeneratorTraffic,
  ) {
    nic.tap.countDrops();
    this.#base = this.#flow();
  }

  async run(): Promise<MeasuredRate> {
    await this.#base;
    const { parts, measure } = this;
    const entry = parts.plan.host.nics[0]!;
    // Without an XDP program the NIC takes frames from the generator only when it polls.
    if (entry.program === undefined) setReceiveOffload(entry.name, true, parts.topology.host);
    const generator = await Generator.open({
      traffic: this.traffic,
      rate: measure.rate,
      ifindex: entry.ifindex,
      namespace: parts.topology.wire,
      cpu: possibleCpus() > 1 ? HOST_CPU : undefined,
    });
    const reader = await startReading(this.nic, parts.ledger);
    const others = this.traffic.kind === 'uniform' ? [] : this.#readOthers();
    try {
      const samples: { readonly ended: number; readonly sent: number }[] = [];
      generator.start();
      await sleep(measure.warmUp * 1000, undefined, { signal: parts.signal });
      let before = await this.#look(generator, reader);
      for (let sample = 0; sample < measure.samples; sample++) {
        await sleep(measure.seconds * 1000, undefined, { signal: parts.signal });
        const after = await this.#look(generator, reader);
        const seconds = (after.at - before.at) / 1000;
        samples.push({
          ended: (after.ended - before.ended) / seconds,
          sent: (after.sent - before.sent) / seconds,
        });
        before = after;
      }
      await generator.stop();
      const total = await this.#settled(generator, reader);
      const perSecond = samples.map(({ ended }) => ended);
      // At a rate of one's choice a ceiling tells nothing.
      const ceiling = measure.rate === undefined ? await this.#ceiling(generator) : undefined;
      return {
        node: this.nic.node,
        hook: parts.plan.host.hook,
        guest: reader.description,
        ...described(this.traffic),
        seconds: measure.seconds,
        ...(measure.rate === undefined ? {} : { rate: measure.rate }),
        framesPerSecond: spread(perSecond),
        samples: perSecond,
        offeredPerSecond: median(samples.map(({ sent }) => sent)),
        ...(ceiling === undefined ? {} : { ceiling }),
        ...total,
      };
    } finally {
      for (const other of others) await other.close();
      await reader.close();
      await generator.close();
    }
  }

  /** The same traffic into a program on the NIC that drops it; undefined where the NIC has no program. */
  async #ceiling(generator: Generator): Promise<MeasuredRate['ceiling']> {
    const { parts, measure } = this;
    const entry = parts.hostNics[0]!;
    if (entry.place.verdicts === undefined) return undefined;
    const sink = new CountingSink();
    try {
      const rates = await entry.place.standIn(sink.fd, async () => {
        generator.start();
        await sleep(measure.warmUp * 1000, undefined, { signal: parts.signal });
        const found: number[] = [];
        for (let sample = 0; sample < measure.samples; sample++) {
          const [at, before] = [performance.now(), sink.count];
          await sleep(measure.seconds * 1000, undefined, { signal: parts.signal });
          found.push((sink.count - before) / ((performance.now() - at) / 1000));
        }
        await generator.stop();
        return found;
      });
      return { what: `native XDP_DROP on ${entry.plan.name}`, framesPerSecond: median(rates) };
    } finally {
      sink.close();
    }
  }

  /** What came of frames so far, and when that was. */
  async #look(generator: Generator, reader: Reading): Promise<{ at: number; ended: number; sent: number }> {
    await reader.look();
    const report = await this.#flow();
    // The flow's counters are read at its end, one right after the other.
    const at = performance.now();
    this.#generated = generator.sent;
    const ended = report.ends
      .filter(({ fate }) => !LOSSES.has(fate))
      .reduce((sum, { frames }) => sum + frames, 0);
    return { at, ended, sent: this.#generated };
  }

  async #settled(
    generator: Generator,
    reader: Reading,
  ): Promise<Pick<MeasuredRate, 'framesSent' | 'framesCopied' | 'ends' | 'unexplained'>> {
    const base = await this.#base;
    let last = '';
    for (const until = Date.now() + SETTLE_MS; ; await sleep(STILL_MS)) {
      await reader.look();
      const report = await this.#flow();
      const framesSent = generator.sent;
      const ends = difference(report.ends, base.ends);
      const framesCopied = report.framesCopied - base.framesCopied;
      const unexplained = framesSent + framesCopied - ends.reduce((sum, { frames }) => sum + frames, 0);
      // Not at the first look at which it adds up: what a guest has got and not yet counted looks as if it had ended.
      const now = JSON.stringify(ends);
      if ((unexplained === 0 && now === last) || Date.now() > until) {
        return { framesSent, framesCopied, ends, unexplained };
      }
      last = now;
    }
  }

  #flow(): Promise<TrafficReport> {
    return countFlow(this.parts, 0);
  }

  /** Of frames for a group other guests get copies. */
  #readOthers(): Reading[] {
    const others = this.parts.nics.filter((nic) => nic !== this.nic && nic instanceof ReaderNic);
    return others.map((nic) => new PolledReading((nic as ReaderNic).player));
  }
}

/** Equal UDP frames for a guest nic; ports change from frame to frame, where there are several flows. */
export function uniformTraffic({ plan }: LinuxGuestNic, measure: MeasurePlan): GeneratorTraffic {
  return { kind: 'uniform', frame: uniformFrame(plan, measure), flows: measure.flows };
}

/**
 * The frames of the workload that a guest nic gets. Throws `packet-invalid` when there are none, or one that the wire
 * does not take.
 */
export function workloadTraffic(
  { node, plan }: LinuxGuestNic,
  frames: readonly Uint8Array[],
): GeneratorTraffic {
  const own = framesFor(node, plan, frames);
  const bad = own.find(({ length }) => length < SHORTEST_FRAME || length > LONGEST_FRAME);
  if (bad !== undefined) {
    throw new XdpbedError(
      'packet-invalid',
      `a frame of ${bad.length} bytes cannot be sent at a rate: ${SHORTEST_FRAME} to ${LONGEST_FRAME} can`,
    );
  }
  return { kind: 'workload', frames: own, longest: Math.max(...own.map(({ length }) => length)) };
}

function described(traffic: GeneratorTraffic): Pick<MeasuredRate, 'size' | 'flows' | 'workloadFrames'> {
  if (traffic.kind === 'uniform') return { size: traffic.frame.length, flows: traffic.flows };
  const { frames } = traffic;
  const bytes = frames.reduce((sum, { length }) => sum + length, 0);
  return { size: bytes / frames.length, workloadFrames: frames.length };
}

/** Who takes what comes to the guest while it is measured. */
interface Reading {
  readonly description: string;
  /** Brings what is known of it up to date. */
  look(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A real guest goes on as it is. A reader of its own does one thing with all frames: what the guest's program did with
 * those of the workload, if that was one thing. Else this process goes on to play the guest.
 */
async function startReading(nic: LinuxGuestNic, ledger: Ledger): Promise<Reading> {
  if (!(nic instanceof ReaderNic)) return guestReads(nic as QemuNic);
  const { XDP_DROP, XDP_TX, XDP_PASS, XDP_ABORTED, XDP_REDIRECT } = nic.player.verdicts;
  const kinds: [number, TapReaderWork, Fate][] = [
    [XDP_DROP, 'drop', 'xdp-drop'],
    [XDP_TX, 'bounce', 'xdp-drop'],
    [XDP_PASS, 'drop', 'guest-stack'],
  ];
  const seen = kinds.filter(([count]) => count > 0);
  const [, work, fate] = seen[0] ?? [0, 'drop', 'guest-stack'];
  const one = seen.length <= 1 && XDP_ABORTED + XDP_REDIRECT === 0;
  const cpu = possibleCpus() > 1 ? possibleCpus() - 1 : undefined;
  const reader = one ? await TapReader.start(nic.player.tap, work, cpu, ledger) : undefined;
  return reader === undefined ? new PolledReading(nic.player) : readerReads(nic.player, reader, fate);
}

function guestReads({ accelerator }: QemuNic): Reading {
  return {
    description: `Debian's kernel in QEMU (${accelerator}), native XDP`,
    look: async () => undefined,
    close: async () => undefined,
  };
}

function readerReads(player: TapGuest, reader: TapReader, fate: Fate): Reading {
  const account: ReaderAccount = { counts: { read: 0, written: 0, failed: 0 }, fate };
  player.addReader(account);
  return {
    description: 'tap-reader in C, which runs no program',
    look: async () => {
      account.counts = await reader.counts();
    },
    close: async () => {
      await reader.close();
      // It has made them block.
      player.tap.setNonBlocking();
    },
  };
}

/** This process plays the guest, as fast as it can beside everything else. */
class PolledReading implements Reading {
  readonly description = 'tap-reader in this process';
  #polling = true;
  readonly #polled: Promise<void>;

  constructor(player: TapGuest) {
    this.#polled = this.#poll(player);
  }

  async look(): Promise<void> {}

  async close(): Promise<void> {
    this.#polling = false;
    await this.#polled;
  }

  async #poll(player: TapGuest): Promise<void> {
    while (this.#polling) {
      player.take()?.receive();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

function difference(after: readonly EndResult[], before: readonly EndResult[]): EndResult[] {
  const ends = new FrameEnds();
  for (const { place, fate, frames } of after) ends.add(place, fate, frames);
  for (const { place, fate, frames } of before) ends.add(place, fate, -frames);
  return ends.list().filter(({ frames }) => frames !== 0);
}
