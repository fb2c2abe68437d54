import { executorConformance } from '../../src/conformance/executor/index.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { WasmExecutor } from './wasm-executor.js';

for (const checked of [false, true]) {
  executorConformance(
    checked ? 'wasm, checked build' : 'wasm',
    (runtime) => new WasmExecutor(runtime, { checked }),
    {
      makeMapBackend: (runtime) => new MemoryMapBackend(runtime),
      checked,
      memoryBytes: 2 << 20,
    },
  );
}
