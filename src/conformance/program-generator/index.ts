/** Valid XDP programs at random, from a seed: to compare executors, and to try verifiers. */
export { generateCase } from './generate-case.js';
export { generateObjectCase } from './generate-object-case.js';
export { generatePruningCase } from './generate-pruning-case.js';
export type { GeneratedCase, GeneratedFrame, GeneratedMap, GeneratorOptions } from './generated-case.js';
export { clearSlot, loadCase, openRing, type LoadCaseOptions, type LoadedCase } from './load-case.js';
export { mutateProgram } from './mutate-program.js';
