/** Programs and testbeds in unit tests (docs/unit-tests.md): entry point `xdpbed/test`. */
export { loadProgram, type LoadProgramOptions, type ProgramSource } from './load-program.js';
export { ProgramMap } from './program-map.js';
export { ProgramRejectedError } from './program-rejected.js';
export { TestProgram } from './test-program.js';
export type {
  ElementMap,
  ObjectMap,
  PerCpuMap,
  QueueMap,
  RecordMap,
  RecordOptions,
  Written,
} from './map-types.js';
export type { PacketInput, PacketOutcome, PacketRedirect } from '../core/program-test/program-session.js';
export type { MapInput } from '../core/testbed/map-input.js';
export { XdpbedError } from '../core/diagnostic.js';
export { runTestbedFile, type RunTestbedFileOptions, type TestbedOutcome } from './run-testbed-file.js';
export { TestbedError } from '../core/testbed/problem-list.js';
