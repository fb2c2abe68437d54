import { XdpbedError } from '../core/diagnostic.js';
import type { FrameMetadata, FrameRedirect, FrameSlots } from '../core/contract/program-run.js';
import { MAX_FRAGS_FRAME_LENGTH, MAX_FRAME_LENGTH, fragsRoom } from '../bpf/runtime/xdp-frame.js';
import { MAX_METADATA_LENGTH } from '../bpf/xdp.js';
import { testRunXdp } from './test-run.js';

/** A frame as the next run finds it, and what the last one said. */
interface Slot {
  packet: Uint8Array;
  meta: Uint8Array;
  ingressIfindex: number;
  rxQueueIndex: number;
  verdict: number;
}

const NOTHING = new Uint8Array(0);
/** Bytes of the shortest frame that the kernel's test run takes: an Ethernet header. */
const MIN_FRAME_LENGTH = 14;

/** Frames in this process's memory, which the kernel gets a copy of for each run. */
export class KernelFrames implements FrameSlots {
  readonly longestFrame: number;
  readonly #slots: Slot[];

  /** `frags`: frames may be longer than one page holds, up to `longest` or the most there is. */
  constructor(
    readonly slots: number,
    frags: boolean,
    longest = MAX_FRAME_LENGTH,
  ) {
    const most = frags ? Math.min(longest, MAX_FRAGS_FRAME_LENGTH) : MAX_FRAME_LENGTH;
    this.longestFrame = MAX_FRAME_LENGTH + fragsRoom(Math.max(0, most - MAX_FRAME_LENGTH));
    this.#slots = Array.from({ length: slots }, () => ({
      packet: NOTHING,
      meta: NOTHING,
      ingressIfindex: 0,
      rxQueueIndex: 0,
      verdict: 0,
    }));
  }

  /** Throws `packet-invalid` also for what BPF_PROG_TEST_RUN does not take. */
  load(slot: number, frame: Uint8Array, metadata: FrameMetadata = {}): void {
    const { dataMeta = NOTHING, ingressIfindex = 0, rxQueueIndex = 0, egressIfindex = 0 } = metadata;
    const problem = this.#problem(frame.length, dataMeta.length, egressIfindex);
    if (problem !== undefined) throw problem;
    const one = this.#slots[slot]!;
    one.packet = frame.slice();
    one.meta = dataMeta.slice();
    one.ingressIfindex = ingressIfindex;
    one.rxQueueIndex = rxQueueIndex;
    one.verdict = 0;
  }

  packet(slot: number): Uint8Array {
    return this.#slots[slot]!.packet.slice();
  }

  metadata(slot: number): Uint8Array {
    return this.#slots[slot]!.meta.slice();
  }

  verdict(slot: number): number {
    return this.#slots[slot]!.verdict;
  }

  /** `none`, whatever the verdict: a test run does not tell where a frame would have gone. */
  redirect(): FrameRedirect {
    return { kind: 'none' };
  }

  /** Runs a program of the kernel's on the frame in a slot: its verdict. */
  run(programFd: number, slot: number): number {
    const one = this.#slots[slot]!;
    const { verdict, packet, meta } = testRunXdp(programFd, one);
    one.verdict = verdict;
    one.packet = packet;
    one.meta = meta;
    return verdict;
  }

  close(): void {
    this.#slots.length = 0;
  }

  #problem(length: number, metaLength: number, egressIfindex: number): XdpbedError | undefined {
    if (length > this.longestFrame) {
      return new XdpbedError(
        'packet-invalid',
        `a frame of ${length} bytes exceeds the limit of ${this.longestFrame}`,
        this.longestFrame === MAX_FRAME_LENGTH
          ? { hint: 'only programs in a section xdp.frags take frames longer than one page holds' }
          : {},
      );
    }
    if (length < MIN_FRAME_LENGTH) {
      return new XdpbedError(
        'packet-invalid',
        `a frame of ${length} bytes: the kernel's test run takes none of less than ${MIN_FRAME_LENGTH}`,
      );
    }
    if (metaLength % 4 !== 0 || metaLength > MAX_METADATA_LENGTH) {
      return new XdpbedError(
        'packet-invalid',
        `metadata of ${metaLength} bytes: it is a multiple of 4, ${MAX_METADATA_LENGTH} at most`,
      );
    }
    if (egressIfindex !== 0) {
      return new XdpbedError('packet-invalid', "the kernel's test run knows no egress_ifindex");
    }
    return undefined;
  }
}
