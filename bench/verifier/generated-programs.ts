import {
  generateCase,
  generateObjectCase,
  generatePruningCase,
  type GeneratedCase,
  type GeneratorOptions,
} from '../../src/conformance/program-generator/index.js';

/** Programs of each kind in turn: of any insns, about what a program can hold, and made to prune. */
export function generateOfEachKind(seed: number, options: GeneratorOptions): GeneratedCase {
  switch (seed % 3) {
    case 0:
      return generateCase(seed, options);
    case 1:
      return generateObjectCase(seed, { ...options, statements: undefined });
    default:
      return generatePruningCase(seed, options.frames);
  }
}
