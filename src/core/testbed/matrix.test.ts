import { describe, expect, it } from 'vitest';
import { assign, expandPath } from './matrix.js';
import { TestbedSchema } from './testbed-schema.js';

const set = (data: object, path: string, value: unknown) => assign(data, path, value, TestbedSchema);

describe('assign', () => {
  it('makes the maps of a plugin’s config that are not there: what may be in it, its schema knows', () => {
    const data = { plugins: { fabric: { use: 'model' } } };
    expect(set(data, 'plugins.fabric.config.costs.insn', 3)).toBeUndefined();
    expect(data).toEqual({ plugins: { fabric: { use: 'model', config: { costs: { insn: 3 } } } } });
    expect(set({ config: {} }, 'config.a.b', 1)).toBeUndefined();
    expect(set({}, 'configs.a', 1)).toBe("there is no 'configs'");
  });

  it('puts a value where it belongs', () => {
    const data = { host: { case: 'bridge' }, policies: [{ use: 'quota' }] };
    expect(set(data, 'host.case', 'redirect')).toBeUndefined();
    expect(set(data, 'policies.0.use', 'other')).toBeUndefined();
    expect(data).toEqual({ host: { case: 'redirect' }, policies: [{ use: 'other' }] });
  });

  it('makes the sections that a file may leave out, with their defaults', () => {
    const data = {};
    expect(set(data, 'plugins.executor.use', 'wasm')).toBeUndefined();
    expect(set(data, 'workload.config.frames', 5)).toBeUndefined();
    expect(data).toEqual({
      plugins: { executor: { use: 'wasm' } },
      workload: { use: 'udp-flood', config: { frames: 5 } },
    });
  });

  it.each([
    ['plugins.exector.use', "there is no 'plugins.exector'"],
    ['guests.g1.cpus', "there is no 'guests.g1'"],
    ['policies.1', 'the list has no item 1'],
    ['policies.-1', 'the list has no item -1'],
    ['policies.length', 'the list has no item length'],
    ['name.x', "'name' is not a map or list"],
    ['__proto__.x', "'__proto__.x' is not a path"],
    ['host..case', "'host..case' is not a path"],
  ])('%s: %s', (path, problem) => {
    const data = { name: 'x', plugins: {}, guests: {}, policies: [{}], host: {} };
    expect(set(data, path, 1)).toBe(problem);
    expect(data).toEqual({ name: 'x', plugins: {}, guests: {}, policies: [{}], host: {} });
  });
});

describe('a path with * for a step', () => {
  const data = { guests: { a: { kind: 'x' }, b: {} }, policies: [{ use: 'q' }, { use: 'r' }] };

  it.each([
    ['guests.*.kind', ['guests.a.kind', 'guests.b.kind']],
    ['policies.*.use', ['policies.0.use', 'policies.1.use']],
    ['guests.*', ['guests.a', 'guests.b']],
    ['guests.a.kind', ['guests.a.kind']],
    ['hosts.*.kind', []],
    ['guests.a.*.kind', ['guests.a.kind.kind']],
  ])('%s', (path, paths) => {
    expect(expandPath(data, path)).toEqual(paths);
  });
});
