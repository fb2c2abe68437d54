import { Type } from '@sinclair/typebox';
import { EXECUTOR } from '../../src/core/contract/executor.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { InterpreterExecutor } from './interpreter-executor.js';

export default definePlugin({
  name: 'interpreter',
  version: '1.0.0',
  role: 'executor',
  countsWork: true,
  api: '^2',
  description: 'The reference executor: interprets programs and checks every access.',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindClass(EXECUTOR, InterpreterExecutor);
  },
});

export { InterpretedProgram } from './interpreted-program.js';
export { InterpreterExecutor } from './interpreter-executor.js';
export { ProgramDebugger } from './program-debugger.js';
