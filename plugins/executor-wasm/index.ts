import { Type } from '@sinclair/typebox';
import { EXECUTOR } from '../../src/core/contract/executor.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { WASM_EXECUTOR_OPTIONS, WasmExecutor } from './wasm-executor.js';

export {
  UNKNOWN_INSN,
  WASM_EXECUTOR_OPTIONS,
  WasmExecutor,
  type WasmExecutorOptions,
} from './wasm-executor.js';

export default definePlugin({
  name: 'wasm',
  version: '0.1.0',
  role: 'executor',
  countsWork: true,
  api: '^2',
  description: 'compiles programs to WebAssembly; as fast as the JIT of the kernel',
  configSchema: Type.Object(
    {
      checked: Type.Optional(
        Type.Boolean({
          description:
            'check each access against the bounds of the object it is for, and arguments of helpers: slow. Left out: of programs of which no verifier has shown that it is needless (`abstract` and `kernel` do)',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  register(scope, config) {
    scope.bindValue(WASM_EXECUTOR_OPTIONS, config);
    scope.bindClass(EXECUTOR, WasmExecutor);
  },
});
