import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { mapBackendConformance } from '../../src/conformance/map-backend/map-backend-suite.js';
import { residentMapConformance } from '../../src/conformance/map-backend/resident-map-suite.js';
import { MemoryMapBackend } from './memory-map-backend.js';

mapBackendConformance('memory', () => {
  const runtime = new BpfRuntime({ memoryBytes: 16 << 20, cpus: 2 });
  return { backend: new MemoryMapBackend(runtime), cpus: runtime.cpus };
});

residentMapConformance('memory', () => {
  const runtime = new BpfRuntime({ memoryBytes: 4 << 20, cpus: 2, seed: 7n });
  return { runtime, backend: new MemoryMapBackend(runtime) };
});
