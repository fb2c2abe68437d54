import { executorConformance } from '../../src/conformance/executor/executor-suite.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { InterpreterExecutor } from './interpreter-executor.js';

executorConformance('interpreter', (runtime) => new InterpreterExecutor(runtime), {
  makeMapBackend: (runtime) => new MemoryMapBackend(runtime),
  checked: true,
});
