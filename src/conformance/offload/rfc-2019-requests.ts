import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import type { BpfReply, BpfRequest } from '../../core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../core/offload/protocol/rfc-2019/rfc-2019.js';
import { randomProgram } from '../verifier/random-programs.js';
import type { SeededRandom } from '../verifier/seeded-random.js';
import type { RequestGenerator } from './request-generator.js';

/** `m` is one of the guest's maps, or what was one. */
const PROGRAMS = [
  'r0 = 2\nexit',
  'r0 = 1\nexit',
  'r1 = map[m]\nr0 = 2\nexit',
  'call bpf_fib_lookup\nr0 = 2\nexit',
];
const MOST_HANDLES = 40;

interface KnownMap {
  readonly handle: number;
  readonly keySize: number;
  readonly valueSize: number;
}

/** What a guest might ask in RFC 2019's protocol. */
export class Rfc2019Requests implements RequestGenerator {
  readonly protocol = RFC_2019;
  /** Class, command, and the larger of the two headers. */
  readonly headerBytes = 42;
  /** Maps that the guest believes to have; some of them are gone, and using them must fail. */
  readonly #maps: KnownMap[] = [];

  constructor(readonly random: SeededRandom) {}

  next(): BpfRequest {
    const { random } = this;
    const known =
      this.#maps.length > 0 && random.chance(90)
        ? random.pick(this.#maps)
        : { handle: random.chance(50) ? random.below(20) : random.u32(), keySize: 4, valueSize: 8 };
    const { handle, keySize, valueSize } = known;
    const key = new Uint8Array(keySize);
    key.set((random.chance(70) ? Uint8Array.of(random.below(6)) : random.bytes(4)).subarray(0, keySize));
    switch (random.below(10)) {
      case 0:
      case 1:
        return {
          kind: 'create-map',
          mapType: random.chance(90) ? 1 + random.below(2) : random.below(40),
          keySize: random.chance(80) ? 4 : random.below(600),
          valueSize: random.chance(80) ? 8 : random.below(2000),
          maxEntries: random.chance(90) ? 1 + random.below(8) : random.u32(),
          mapFlags: random.chance(90) ? 0 : random.below(4096),
        };
      case 2:
        return { kind: 'free-map', handle };
      case 3:
        return {
          kind: 'update-elem',
          handle,
          key,
          value: random.bytes(valueSize),
          flags: BigInt(random.below(3)),
        };
      case 4:
        return { kind: 'lookup-elem', handle, key, valueSize };
      case 5:
        return { kind: 'delete-elem', handle, key, valueSize };
      case 6:
        return { kind: 'get-first', handle, keySize, valueSize };
      case 7:
        return { kind: 'get-next', handle, key, valueSize };
      case 8:
        return {
          kind: 'set-offload',
          insns: encodeInsns(
            random.chance(30)
              ? randomProgram(random)
              : assemble(random.pick(PROGRAMS), { maps: new Map([['m', handle | 0]]) }),
          ),
          gplCompatible: random.chance(50),
        };
      default:
        return { kind: 'unset-offload' };
    }
  }

  learn(request: BpfRequest, reply: BpfReply): void {
    if (reply.kind === 'error') return;
    if (request.kind === 'create-map' && reply.kind === 'handle') {
      const { keySize, valueSize } = request;
      this.#maps.push({ handle: reply.handle, keySize, valueSize });
    }
    // Freed handles are kept now and then: using them must fail.
    if (request.kind === 'free-map' && this.random.chance(80)) {
      const at = this.#maps.findIndex(({ handle }) => handle === request.handle);
      if (at >= 0) this.#maps.splice(at, 1);
    }
    if (this.#maps.length > MOST_HANDLES) this.#maps.shift();
  }

  forget(): void {
    this.#maps.splice(this.random.below(3));
  }
}
