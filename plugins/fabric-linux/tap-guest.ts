import type { ControlClient } from '../../src/core/contract/transport.js';
import type { LocalDriver } from '../../src/core/contract/fabric.js';
import { EAGAIN, errnoName } from '../../src/bpf/errno.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import { ProgramHook } from '../../src/core/offload/program-hook.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import type { TapDevice } from '../../src/linux/index.js';
import { emptyVerdictCounts, type Fate } from '../../src/core/contract/result.js';
import type { FrameEnds } from './frame-ends.js';
import type { TapReaderCounts } from './tap-reader.js';

/** Bytes of the longest frame that is read from a tap in one piece. */
const MAX_FRAME = 65_550;

/** Frames that are taken of one queue in one go: more than a tap's queue holds by default. */
const TAKEN_AT_ONCE = 1024;

/** Frames that a guest has taken from its tap, and that nothing was done with yet. Exactly one of the two is called. */
export interface TakenFrames {
  readonly count: number;
  /** The guest's driver, and the program in it, get them. */
  receive(): void;
  /** They end here: they go round between guests. */
  endLoop(): void;
}

/** A reader in another process, as far as it was asked. */
export interface ReaderAccount {
  counts: TapReaderCounts;
  /** What becomes of frames that it does not send back. */
  readonly fate: Fate;
}

/**
 * A guest that is no machine: this process reads the tap's files in its stead, runs the program that it has in its
 * driver, and writes to the tap what that sends back.
 */
export class TapGuest implements LocalDriver {
  readonly kind = 'local';
  readonly hook: ProgramHook;
  readonly #buffer = new Uint8Array(MAX_FRAME);
  /** What the program in the driver returned, all that were ever there together. */
  readonly verdicts = emptyVerdictCounts();
  /** What readers in other processes did on this guest's behalf. */
  readonly #readers: ReaderAccount[] = [];
  #taken = 0;
  #sent = 0;
  #up = false;

  constructor(
    /** `guest0.eth0`. */
    readonly node: string,
    readonly ifindex: number,
    readonly tap: TapDevice,
    readonly control: ControlClient,
    readonly ends: FrameEnds,
    /** The nics of the same guest, this one included, by their numbers there: where redirects lead. */
    readonly siblings: ReadonlyMap<number, TapGuest>,
  ) {
    this.hook = new ProgramHook(node, ifindex);
  }

  async up(): Promise<void> {
    this.#up = true;
  }

  get framesToGuest(): number {
    return this.#readers.reduce((sum, { counts }) => sum + counts.read, this.#taken);
  }

  get framesFromGuest(): number {
    return this.#readers.reduce((sum, { counts }) => sum + counts.written, this.#sent);
  }

  /** From now on what this says is part of what the guest did. */
  addReader(account: ReaderAccount): void {
    this.#readers.push(account);
  }

  /** Where the frames ended that those readers took. */
  addEnds(ends: FrameEnds): void {
    for (const { counts, fate } of this.#readers) {
      ends.add(this.node, fate, counts.read - counts.written - counts.failed);
      ends.add(this.node, 'transmit-queue-full', counts.failed);
    }
  }

  /** Takes what lies in the tap's queues; undefined where nothing does. */
  take(): TakenFrames | undefined {
    if (!this.#up) return undefined;
    const frames: { readonly bytes: Uint8Array; readonly queue: number }[] = [];
    this.tap.fds.forEach((_, queue) => {
      for (let taken = 0; taken < TAKEN_AT_ONCE; taken++) {
        const length = this.tap.read(queue, this.#buffer);
        if (length === -EAGAIN) break;
        if (length < 0) throw this.#problem('read', length);
        frames.push({ bytes: this.#buffer.slice(0, length), queue });
      }
    });
    if (frames.length === 0) return undefined;
    this.#taken += frames.length;
    return {
      count: frames.length,
      receive: () => frames.forEach(({ bytes, queue }) => this.#receive(bytes, queue)),
      endLoop: () => this.ends.add(`host.${this.tap.name}`, 'hop-limit', frames.length),
    };
  }

  #receive(frame: Uint8Array, queue: number): void {
    const { longestFrame } = this.hook;
    if (longestFrame !== undefined && frame.length > longestFrame) {
      this.ends.add(this.node, 'frame-too-long');
      return;
    }
    const { action, bytes, redirect } = this.hook.runOn(frame, queue);
    if (!this.hook.isEmpty) this.verdicts[action]++;
    switch (action) {
      case 'XDP_PASS':
        return this.ends.add(this.node, 'guest-stack');
      case 'XDP_DROP':
        return this.ends.add(this.node, 'xdp-drop');
      case 'XDP_ABORTED':
        return this.ends.add(this.node, 'xdp-aborted');
      case 'XDP_TX':
        return this.#send(bytes, queue);
      case 'XDP_REDIRECT': {
        const target = resolveRedirect(redirect, this.ifindex);
        if (target.kind === 'stack') return this.ends.add(this.node, 'guest-stack');
        const nics =
          target.kind === 'nowhere' ? [] : target.ifindexes.map((ifindex) => this.siblings.get(ifindex));
        const [first, ...more] = nics.filter((nic) => nic !== undefined);
        if (first === undefined) return this.ends.add(this.node, 'redirect-failed');
        this.ends.copied += more.length;
        for (const nic of [first, ...more]) nic.#send(bytes, queue);
      }
    }
  }

  #send(frame: Uint8Array, queue: number): void {
    const written = this.tap.write(queue % this.tap.fds.length, frame);
    if (written === -EAGAIN) return this.ends.add(this.node, 'transmit-queue-full');
    if (written < 0) throw this.#problem('written', written);
    this.#sent++;
  }

  #problem(what: string, errno: number): XdpbedError {
    return new XdpbedError('plugin-failed', `tap ${this.tap.name} cannot be ${what}: ${errnoName(errno)}`);
  }
}
