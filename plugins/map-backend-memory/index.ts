import { Type } from '@sinclair/typebox';
import { MAP_BACKEND } from '../../src/core/contract/map-backend.js';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { DEFAULT_MEMORY_MAP_CONFIG, MEMORY_MAP_CONFIG, MemoryMapBackend } from './memory-map-backend.js';

export {
  DEFAULT_MEMORY_MAP_CONFIG,
  MEMORY_MAP_CONFIG,
  MemoryMapBackend,
  SUPPORTED_MAP_TYPES,
  type MemoryMapConfig,
} from './memory-map-backend.js';

export default definePlugin({
  name: 'memory',
  version: '0.1.0',
  role: 'map-backend',
  api: '^2',
  description: 'maps in the address space of the in-process engine, with the errno behaviour of Linux 6.18',
  configSchema: Type.Object(
    {
      perfBufferBytes: Type.Integer({
        description: 'bytes of the buffer that each CPU has in a PERF_EVENT_ARRAY',
        minimum: 4096,
        maximum: 16 * 1024 * 1024,
        multipleOf: 4096,
        default: DEFAULT_MEMORY_MAP_CONFIG.perfBufferBytes,
      }),
    },
    { additionalProperties: false },
  ),
  register(scope, config) {
    scope.bindValue(MEMORY_MAP_CONFIG, config);
    scope.bindClass(MAP_BACKEND, MemoryMapBackend);
  },
});
