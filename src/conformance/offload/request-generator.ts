import type { BpfReply, BpfRequest, ControlProtocol } from '../../core/offload/protocol/control-protocol.js';
import type { SeededRandom } from '../verifier/seeded-random.js';

/**
 * What a guest might ask in one protocol: requests that make sense as often as not, about objects that it has. A fuzzer
 * sends them as they are, or bent ({@link hostileBytes}). One for each protocol, which is all that the fuzzer knows of it.
 */
export interface RequestGenerator {
  readonly protocol: ControlProtocol;
  /** The next request; it may be one that the format excludes, so that encoding it throws. */
  next(): BpfRequest;
  /** Takes note of what came of a request, as a guest does: of handles that it got or gave up, say. */
  learn(request: BpfRequest, reply: BpfReply): void;
  /** The device was reset. Some old handles may be kept, to be tried. */
  forget(): void;
  /** Bytes at the beginning of a command that say the most: class, command and header. Where they are bent mostly. */
  readonly headerBytes: number;
}

/** Makes a generator that draws from the random numbers it is given, and from nothing else. */
export type MakeRequestGenerator = (random: SeededRandom) => RequestGenerator;

/** A request that can be encoded, and its bytes. */
export function encodableRequest(generator: RequestGenerator): { request: BpfRequest; bytes: Uint8Array } {
  for (;;) {
    const request = generator.next();
    try {
      return { request, bytes: generator.protocol.encodeRequest(request) };
    } catch {
      // Sizes that the format itself excludes: bending bytes gets there.
    }
  }
}

/** What a hostile guest puts into the control queue: some noise, some of the right class, mostly what makes sense, bent. */
export function hostileBytes(random: SeededRandom, generator: RequestGenerator): Uint8Array {
  if (random.chance(15)) return random.bytes(random.below(120));
  if (random.chance(15)) {
    const { controlClass } = generator.protocol;
    return Uint8Array.of(
      random.chance(50) ? controlClass : random.below(8),
      random.below(4),
      ...random.bytes(random.below(60)),
    );
  }
  return bend(random, encodableRequest(generator).bytes, generator.headerBytes);
}

/** A few bytes changed, mostly in the header; now and then cut off, or longer. */
function bend(random: SeededRandom, bytes: Uint8Array, headerBytes: number): Uint8Array {
  const copy = bytes.slice();
  for (let count = 1 + random.below(4); count > 0 && copy.length > 0; count--) {
    const within = random.chance(60) ? Math.min(copy.length, headerBytes) : copy.length;
    const at = random.below(within);
    copy[at] = random.chance(30)
      ? copy[at]! ^ (1 << random.below(8))
      : random.pick([0, 1, 6, 0x7f, 0x80, 0xff]);
  }
  if (random.chance(20)) return copy.subarray(0, random.below(copy.length + 1));
  if (random.chance(10)) return Uint8Array.from([...copy, ...random.bytes(1 + random.below(16))]);
  return copy;
}
