import { assemble } from '../../bpf/assembler.js';
import { BPF_F_INNER_MAP, BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../bpf/program.js';
import { SeededRandom } from '../verifier/seeded-random.js';
import type { GeneratedCase, GeneratedMap } from './generated-case.js';

const T = BPF_MAP_TYPE;
/** Bytes of a packet that the programs prove to be there. */
const PROVED = 64;
/** Registers and stack slots in which numbers are moved about. */
const NUMBERS = ['r4', 'r6', 'r7'] as const;
const SLOTS = [-8, -16, -24, -32] as const;
/** Slot for a pointer into the packet, and one for a value that may be NULL. */
const PACKET_SLOT = -40;
const VALUE_SLOT = -48;

const MAPS: readonly GeneratedMap[] = [
  {
    handle: 1,
    name: 'wide',
    attributes: { type: T.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 },
    initial: [{ key: new Uint8Array(4), value: Uint8Array.from({ length: 64 }, (_, at) => at) }],
  },
  {
    handle: 2,
    name: 'flows',
    attributes: { type: T.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 16, maxEntries: 4, flags: 0 },
    initial: [{ key: new Uint8Array(4), value: new Uint8Array(16).fill(3) }],
  },
  {
    handle: 3,
    name: 'programs',
    attributes: { type: T.BPF_MAP_TYPE_PROG_ARRAY, keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 },
    initial: [],
    programs: new Map([[0, 1]]),
  },
  {
    handle: 4,
    name: 'inner',
    attributes: {
      type: T.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 16,
      maxEntries: 2,
      flags: BPF_F_INNER_MAP,
    },
    initial: [],
  },
];
const HANDLES = new Map(MAPS.map(({ name, handle }) => [name, handle]));

/**
 * Makes programs that a verifier's pruning has to be right about: several ways lead to the same insns, with numbers
 * that are copies of one another plus constants on one way and unrelated on the next, spilled and filled again, pointers
 * of different reach, values that may be NULL; then come checks of one of them and accesses through another. Some
 * of it runs in a callback that keeps its numbers in its caller's frame, or in a local function that a tail call
 * may leave. The programs are not safe by construction: a verifier is to find out which are.
 */
export function generatePruningCase(seed: number, frames = 8): GeneratedCase {
  const random = new SeededRandom(seed * 0x85ebca6b + 7);
  const text = new PruningProgram(random).text();
  const program = (name: string, source: string): GeneratedCase['programs'][number] => ({
    name,
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(source, { maps: HANDLES, file: `seed ${seed}` }),
  });
  return {
    seed,
    // What the second returns is no number that the first one expects of its functions.
    programs: [program('main', text), program('other', `r0 = ${random.below(3) * 1000}\nexit`)],
    maps: MAPS,
    frames: Array.from({ length: frames }, () => ({
      packet: Uint8Array.from({ length: PROVED + random.below(8) }, () =>
        random.chance(50) ? random.below(4) : random.below(256),
      ),
      metadata: { ingressIfindex: 1 + random.below(3), rxQueueIndex: random.below(3) },
    })),
    mutations: [],
  };
}

type Shape = 'straight' | 'function' | 'callback';

/** Writes one program. R8 = data_end and R9 = data, or in a callback R9 = the context. */
class PruningProgram {
  #label = 0;

  constructor(readonly random: SeededRandom) {}

  text(): string {
    const shape = this.random.pick<Shape>(['straight', 'straight', 'function', 'callback']);
    if (shape === 'callback') return this.#callbackProgram();
    const head = [
      'r8 = *(u32 *)(r1 +4)',
      'r9 = *(u32 *)(r1 +0)',
      '*(u64 *)(r10 -64) = r1',
      'r2 = r9',
      `r2 += ${PROVED}`,
      'if r2 > r8 goto out',
      ...this.#initialise(),
    ];
    const body = [...this.#ways(), ...this.#uses('out')];
    const tail = ['goto out', 'out: r0 = 2', 'exit'];
    if (shape === 'straight') return [...head, ...body, ...tail].join('\n');
    return [
      ...head,
      ...body,
      'r1 = *(u64 *)(r10 -64)',
      'call sub',
      // The result of a function that a tail call may have left.
      'r6 = r0',
      ...this.#uses('out'),
      ...tail,
      'sub: r2 = map[programs]',
      `r3 = ${this.random.below(3)}`,
      'call bpf_tail_call',
      `r0 = ${this.random.below(64)}`,
      'exit',
    ].join('\n');
  }

  /** The body is a callback of bpf_loop that works on slots of its caller. */
  #callbackProgram(): string {
    const { random } = this;
    const slots = [0, 8, 16];
    const pick = (): number => random.pick(slots);
    const body: string[] = ['r9 = r2', 'r6 = *(u64 *)(r9 +0)', `r7 = *(u64 *)(r9 +${pick()})`];
    body.push(random.chance(50) ? 'r4 = r1' : 'r4 = r6');
    for (let i = 2 + random.below(4); i > 0; i--) body.push(...this.#step(false));
    if (random.chance(50)) {
      const skip = this.#newLabel();
      body.push(`if ${random.pick(NUMBERS)} > ${random.below(8)} goto ${skip}`);
      for (let i = 1 + random.below(3); i > 0; i--) body.push(...this.#step(false));
      body.push(`${skip}: r0 = 0`);
    }
    if (random.chance(60)) body.push(...this.#access('stop'));
    for (let i = 1 + random.below(2); i > 0; i--)
      body.push(`*(u64 *)(r9 +${pick()}) = ${random.pick(NUMBERS)}`);
    return [
      'r8 = r1',
      ...slots.map((_, at) => `*(u64 *)(r10 -${8 * (at + 1)}) = ${random.below(3)}`),
      `r1 = ${random.pick([1, 2, 5, 40])}`,
      'r2 = subprog[cb]',
      'r3 = r10',
      'r3 += -24',
      'r4 = 0',
      'call bpf_loop',
      'r6 = *(u64 *)(r10 -8)',
      'r7 = *(u64 *)(r10 -16)',
      'r4 = *(u64 *)(r10 -24)',
      ...this.#access('out'),
      'out: r0 = 2',
      'exit',
      `cb: ${body.join('\n')}`,
      'r0 = 0',
      'exit',
      'stop: r0 = 1',
      'exit',
    ].join('\n');
  }

  #newLabel(): string {
    return `l${this.#label++}`;
  }

  #initialise(): string[] {
    const lines = NUMBERS.map((register) => `${register} = *(u64 *)(r9 +${8 * this.random.below(8)})`);
    for (const slot of SLOTS) {
      // What is not written here may be on some of the ways.
      if (this.random.chance(10)) lines.push(`${this.#partOf(slot)} = 0`);
      else lines.push(`*(u64 *)(r10 ${slot}) = ${this.random.pick([...NUMBERS, '0'])}`);
    }
    lines.push(`*(u64 *)(r10 ${PACKET_SLOT}) = r9`, `*(u64 *)(r10 ${VALUE_SLOT}) = 0`);
    return lines;
  }

  /** Two to four ways to one place. */
  #ways(): string[] {
    const { random } = this;
    const join = this.#newLabel();
    const lines: string[] = [];
    for (let way = 1 + random.below(3); way > 0; way--) {
      const next = this.#newLabel();
      lines.push(
        `r1 = *(u8 *)(r9 +${random.below(8)})`,
        `if r1 ${random.pick(['==', '>', '!='])} ${random.below(4)} goto ${next}`,
      );
      lines.push(...this.#way(), `goto ${join}`, `${next}: r0 = 0`);
    }
    lines.push(...this.#way());
    lines.push(`${join}: r1 = 0`, 'r2 = 0', 'r3 = 0', 'r0 = 0', 'r5 = 0');
    // Jumps and insns enough that a state is stored here.
    for (let i = 0; i < 4; i++) {
      const next = this.#newLabel();
      lines.push(...new Array<string>(5).fill('r0 = 0'), `goto ${next}`, `${next}: r1 = 0`);
    }
    return lines;
  }

  #way(): string[] {
    const lines: string[] = [];
    for (let i = 1 + this.random.below(7); i > 0; i--) lines.push(...this.#step(true));
    return lines;
  }

  /** One change of a number, a slot or a pointer. */
  #step(hasPacket: boolean): string[] {
    const { random } = this;
    const to = random.pick(NUMBERS);
    const from = random.pick(NUMBERS);
    const slot = random.pick(SLOTS);
    switch (random.below(hasPacket ? 18 : 6)) {
      case 0:
      case 1:
        return [`${to} = ${from}`];
      case 2:
        return [`${to} += ${random.pick([1, 2, 4, 8, 31, -1, -4])}`];
      case 3:
        return [`${to} &= ${random.pick([1, 7, 15, 63, 255])}`];
      case 4:
        return [`${to} = ${random.below(70)}`];
      case 5:
        return [`w${to.slice(1)} ${random.pick(['+=', '&=', '='])} ${random.below(64)}`];
      case 6:
      case 7:
        return [`${to} = *(u64 *)(r9 +${8 * random.below(7)})`];
      case 8:
        return [`${to} = *(u8 *)(r9 +${random.below(60)})`];
      case 9:
        return [`*(u64 *)(r10 ${slot}) = ${from}`];
      case 10:
        return [`${to} = *(u64 *)(r10 ${slot})`];
      case 11:
        return [`*(u32 *)(r10 ${slot}) = ${random.chance(50) ? from : random.below(2)}`];
      case 12: {
        const reach = random.pick([65, 66, 68]);
        const past = this.#newLabel();
        return [
          'r2 = r9',
          ...(random.chance(50) ? [`r3 = *(u8 *)(r9 +${random.below(8)})`, 'r3 &= 3', 'r2 += r3'] : []),
          'r5 = r2',
          `r2 += ${reach}`,
          `if r2 ${random.pick(['>', '>='])} r8 goto ${past}`,
          `*(u64 *)(r10 ${PACKET_SLOT}) = r5`,
          `${past}: r5 = 0`,
        ];
      }
      case 13:
      case 14:
        return [`${this.#partOf(slot)} = ${random.chance(50) ? from : random.below(2)}`];
      case 15:
      case 16:
        return [`${to} = ${this.#partOf(slot)}`];
      default:
        return [
          `*(u64 *)(r10 -56) = ${random.below(2)}`,
          `*(u64 *)(r10 -72) = r4`,
          'r2 = r10',
          'r2 += -56',
          'r1 = map[flows]',
          'call bpf_map_lookup_elem',
          'r4 = *(u64 *)(r10 -72)',
          `*(u64 *)(r10 ${VALUE_SLOT}) = r0`,
        ];
    }
  }

  /** Some of the bytes of a slot, which have lives of their own. */
  #partOf(slot: number): string {
    const bytes = this.random.pick([1, 2, 4]);
    return `*(u${8 * bytes} *)(r10 ${slot + bytes * this.random.below(8 / bytes)})`;
  }

  /** Checks of numbers and accesses by numbers, in the order of a coin. */
  #uses(out: string): string[] {
    const { random } = this;
    const lines: string[] = [];
    for (let i = random.below(3); i > 0; i--) {
      const slot = random.pick(SLOTS);
      if (random.chance(40)) {
        // Some bytes are written, and others, or these, are read.
        if (random.chance(60)) lines.push(`${this.#partOf(slot)} = ${random.pick(NUMBERS)}`);
        lines.push(`${random.pick(NUMBERS)} = ${this.#partOf(slot)}`);
      } else if (random.chance(50)) lines.push(`${random.pick(NUMBERS)} = *(u64 *)(r10 ${slot})`);
      else lines.push(`*(u64 *)(r10 ${slot}) = ${random.pick(NUMBERS)}`);
    }
    lines.push(...this.#access(out));
    if (random.chance(30)) {
      lines.push(`r2 = *(u64 *)(r10 ${PACKET_SLOT})`, `r0 = *(u8 *)(r2 +${random.pick([60, 63, 64, 65])})`);
    }
    if (random.chance(30)) {
      lines.push(`r2 = *(u64 *)(r10 ${VALUE_SLOT})`);
      if (random.chance(80)) lines.push(`if r2 == 0 goto ${out}`);
      lines.push(`r0 = *(u8 *)(r2 +${random.pick([0, 15, 16])})`);
    }
    return lines;
  }

  /** A number is checked, and one, the same perhaps, is an index. */
  #access(out: string): string[] {
    const { random } = this;
    const checked = random.pick(NUMBERS);
    const index = random.chance(50) ? checked : random.pick(NUMBERS);
    const lines: string[] = [];
    for (let i = 1 + random.below(2); i > 0; i--) {
      const limit = random.pick([0, 1, 7, 31, 62, 63, 64]);
      lines.push(
        random.pick([
          `if ${checked} > ${limit} goto ${out}`,
          `if ${checked} > ${limit} goto ${out}`,
          `if ${checked} != ${limit} goto ${out}`,
          `if w${checked.slice(1)} > ${limit} goto ${out}`,
          `if ${checked} s> ${limit} goto ${out}`,
          `if ${random.pick(NUMBERS)} > ${checked} goto ${out}`,
        ]),
      );
    }
    lines.push('r2 = map[wide][0]+0', `r2 += ${index}`, `r0 = *(u8 *)(r2 +${random.pick([0, 0, 0, 1])})`);
    return lines;
  }
}
