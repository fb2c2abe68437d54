import { deviceConformance } from '../../src/conformance/device/index.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../verifier-structural/structural-verifier.js';
import { GuardedDevice } from './guarded-device.js';

deviceConformance('guarded', () => new GuardedDevice(), {
  party: (name) => {
    const runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
    return {
      name,
      cpus: 1,
      mapBackend: new MemoryMapBackend(runtime),
      executor: new InterpreterExecutor(runtime),
      verifier: new StructuralVerifier(),
    };
  },
});
