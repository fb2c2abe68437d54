import { expect, it } from 'vitest';
import { Value } from '@sinclair/typebox/value';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { BPF_RUNTIME, MAP_BACKEND } from '../../src/core/contract/map-backend.js';
import { Scope } from '../../src/core/plugin/scope.js';
import plugin, { DEFAULT_MEMORY_MAP_CONFIG } from './index.js';

it('binds a backend that serves the runtime of its scope', () => {
  const scope = new Scope('a testbed');
  const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  scope.bindValue(BPF_RUNTIME, runtime);
  void plugin.register(scope, { perfBufferBytes: 4096 });
  const backend = scope.resolve(MAP_BACKEND);
  const perf = { type: 4, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 };
  // Header, one event, one buffer.
  expect(backend.memoryCost(perf)).toBe(32 + 16 + 16 + 4096);
  const map = backend.create(perf, { name: 'events' });
  expect(typeof map).toBe('object');
  expect(runtime.maps.size).toBe(1);
});

it('states its role and a configuration with defaults', () => {
  expect(plugin).toMatchObject({ name: 'memory', role: 'map-backend', api: '^2' });
  expect(Value.Default(plugin.configSchema, {})).toEqual(DEFAULT_MEMORY_MAP_CONFIG);
  expect(Value.Check(plugin.configSchema, { perfBufferBytes: 5000 })).toBe(false);
});
