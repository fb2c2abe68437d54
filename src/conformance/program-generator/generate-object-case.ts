import { assemble } from '../../bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { SeededRandom } from '../verifier/seeded-random.js';
import type { GeneratedCase, GeneratedFrame, GeneratorOptions } from './generated-case.js';
import { mutateObjectProgram } from './mutate-program.js';
import { ObjectFunction, type ObjectProgramParts } from './object-function.js';
import { OBJECT_MAPS } from './object-maps.js';
import { writeObjectEnd, writeObjectStatements } from './object-statements.js';

const HANDLES = new Map(OBJECT_MAPS.map(({ name, handle }) => [name, handle]));
/** Statements of a program at most, those of its functions included. */
const STATEMENTS = 24;

/**
 * Makes programs about what a program can hold: values of maps with all their flags, inner maps, keys and values that a
 * callback is given, ring buffer records and sockets that have to be given back, numbers of one origin, pointers into the
 * packet and to the stack of a caller. They are copied, spilled and filled, compared, passed to helpers, functions and
 * callbacks, which may exchange them behind the back of who called. Most programs keep to the rules; some places do not,
 * and with `unsafePercent` some insns are changed: a verifier is to find out.
 */
export function generateObjectCase(seed: number, options: GeneratorOptions = {}): GeneratedCase {
  const random = new SeededRandom(seed * 0xc2b2ae35 + 11);
  const mutations: string[] = [];
  let main = programOf('main', mainText(random, options.statements ?? STATEMENTS), seed, random);
  const frames = Array.from({ length: options.frames ?? 3 }, () => frameOf(random));
  if (random.chance(options.unsafePercent ?? 0)) {
    const { program, changes } = mutateObjectProgram(main, random, OBJECT_MAPS.length);
    main = program;
    mutations.push(...changes);
  }
  return {
    seed,
    programs: [main, programOf('other', `r0 = ${random.below(3) * 1000}\nexit`, seed)],
    maps: OBJECT_MAPS,
    frames,
    mutations,
  };
}

function mainText(random: SeededRandom, statements: number): string {
  const parts: ObjectProgramParts = { random, functions: [], labels: 0, left: 1 + random.below(statements) };
  const main = new ObjectFunction(parts, 'main', 0);
  const home = main.freeHome()!;
  main.keep(home, 'r1');
  main.things.push({ kind: 'context', home, size: 0 });
  // Slots that a callee may read whatever is there.
  for (const slot of [-8, -16, -24, -32, -40, -48]) {
    if (!('slot' in home && home.slot === slot)) main.emit(`*(u64 *)(r10 ${slot}) = 0`);
  }
  while (parts.left > 0) writeObjectStatements(main, parts.left);
  writeObjectEnd(main);
  return [...main.lines, ...parts.functions].join('\n');
}

function programOf(name: string, text: string, seed: number, random?: SeededRandom): Program {
  return {
    name,
    type: BPF_PROG_TYPE_XDP,
    attachType: random?.chance(5) === true ? 'BPF_XDP_DEVMAP' : 'BPF_XDP',
    gplCompatible: random?.chance(3) !== true,
    insns: assemble(text, { maps: HANDLES, file: `seed ${seed}` }),
  };
}

function frameOf(random: SeededRandom): GeneratedFrame {
  return {
    packet: Uint8Array.from({ length: random.pick([14, 34, 60, 64, 128]) }, () =>
      random.chance(50) ? random.below(4) : random.below(256),
    ),
    metadata: { ingressIfindex: 1 + random.below(3), rxQueueIndex: random.below(3) },
  };
}
