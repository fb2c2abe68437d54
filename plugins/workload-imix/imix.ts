import { Type, type Static } from '@sinclair/typebox';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { freshCopy } from '../../src/core/fresh-bytes.js';
import type {
  Workload,
  WorkloadContext,
  WorkloadFrame,
  WorkloadTarget,
} from '../../src/core/contract/workload.js';
import { sendTime } from '../../src/packet/index.js';
import { MixEntry } from './mix-entry.js';
import { buildMixFrame } from './mix-frame.js';

/**
 * Simple IMIX: IP packets of 40, 576 and 1500 bytes as 7:4:1. In frames with FCS that is 64 (padded), 594 and
 * 1518 bytes.
 */
const SIMPLE_IMIX: readonly Partial<MixEntry>[] = [
  { weight: 7, size: 60 },
  { weight: 4, size: 590 },
  { weight: 1, size: 1514 },
];

export const ImixConfig = Type.Object(
  {
    frames: Type.Integer({
      minimum: 1,
      maximum: 100_000_000,
      default: 1200,
      description: 'frames to send, over all targets; a multiple of the weights’ sum gives exact proportions',
      examples: [1200],
    }),
    rate: Type.Integer({
      minimum: 1,
      maximum: 1_000_000_000,
      default: 1_000_000,
      description: 'frames per second of virtual time, over all targets',
      examples: [1_000_000],
    }),
    mix: Type.Array(MixEntry, {
      minItems: 1,
      maxItems: 64,
      default: SIMPLE_IMIX,
      description: 'kinds of frames; by default the simple IMIX, 7:4:1 of 60, 590 and 1514 bytes without FCS',
      examples: [
        [
          { weight: 2, protocol: 'udp' },
          { weight: 1, protocol: 'tcp', size: 1514 },
          { weight: 1, protocol: 'icmp', ip: 6, vlan: 100 },
        ],
      ],
    }),
  },
  {
    additionalProperties: false,
    title: 'workload imix',
    description: 'a mix of frames in an order that the seed decides, to the targets in turn',
  },
);
export type ImixConfig = Static<typeof ImixConfig>;

/**
 * Deals frames as from a deck of cards: a round has `weight` frames of each kind in an order drawn from the
 * seed. So the proportions are exact after each round, which independent draws would only approach.
 */
export class Imix implements Workload {
  readonly name = 'imix';

  constructor(readonly config: ImixConfig) {}

  get frameCount(): number {
    return this.config.frames;
  }

  *frames(context: WorkloadContext): Generator<WorkloadFrame> {
    const { targets } = context;
    if (targets.length === 0) throw new XdpbedError('testbed-invalid', 'imix has no guest to send to');
    const { frames, rate, mix } = this.config;
    const deck = mix.flatMap((entry) => Array.from({ length: entry.weight }, () => entry));
    const templates = new Map<MixEntry, Map<WorkloadTarget, Uint8Array>>(
      mix.map((entry) => [entry, new Map<WorkloadTarget, Uint8Array>()]),
    );
    for (let index = 0; index < frames; index++) {
      if (index % deck.length === 0) shuffle(deck, context);
      const entry = deck[index % deck.length]!;
      const target = targets[index % targets.length]!;
      const kept = templates.get(entry)!;
      let bytes = kept.get(target);
      if (bytes === undefined) kept.set(target, (bytes = buildMixFrame(entry, context.senderMac, target)));
      // Programs write into frames: each frame is a copy of its own.
      yield { bytes: freshCopy(bytes), at: sendTime(index, rate) };
    }
  }
}

/** Fisher and Yates's shuffle. */
function shuffle(deck: MixEntry[], context: WorkloadContext): void {
  for (let last = deck.length - 1; last > 0; last--) {
    const other = Math.floor((context.random() / 2 ** 32) * (last + 1));
    [deck[last], deck[other]] = [deck[other]!, deck[last]!];
  }
}
