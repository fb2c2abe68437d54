import { FABRIC } from '../../src/core/contract/fabric.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { ModelConfig } from './model-config.js';

export default definePlugin({
  name: 'model',
  version: '0.1.0',
  role: 'fabric',
  api: '^2',
  description:
    'guest drivers, virtqueues, QEMU devices, taps, bridges and NICs in this process; needs nothing but Node',
  time: 'virtual',
  configSchema: ModelConfig,
  files: ({ calibration }) => (calibration === undefined ? [] : [calibration]),
  async checkFiles({ calibration, costs }, read) {
    if (calibration === undefined) return;
    const { costModel, readCalibration } = await import('../../src/core/cost-model/index.js');
    costModel(readCalibration(calibration, read(calibration)), costs);
  },
  async register(scope, config) {
    const { ModelFabric, MODEL_CONFIG } = await import('./model-fabric.js');
    scope.bindValue(MODEL_CONFIG, config);
    scope.bindClass(FABRIC, ModelFabric);
  },
});
