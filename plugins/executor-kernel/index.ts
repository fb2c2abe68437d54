import { EXECUTOR } from '../../src/core/contract/executor.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { KERNEL_EXECUTOR_CONFIG, KernelExecutor, KernelExecutorConfig } from './kernel-executor.js';

export { KernelExecutor } from './kernel-executor.js';

export default definePlugin({
  name: 'kernel',
  version: '0.1.0',
  role: 'executor',
  api: '^2',
  description: 'runs programs in the kernel that this runs on, by BPF_PROG_TEST_RUN; needs root',
  configSchema: KernelExecutorConfig,
  register(scope, config) {
    scope.bindValue(KERNEL_EXECUTOR_CONFIG, config);
    scope.bindClass(EXECUTOR, KernelExecutor);
  },
});
