import { describe, expect, it } from 'vitest';
import { FunctionWriter, ModuleWriter, OP } from '../../src/bpf/wasm-encoder.js';
import { placeInText, wasmPlace } from './wasm-place.js';

describe('wasmPlace', () => {
  it('says where code lies, as stack traces of traps count', () => {
    const module = new ModuleWriter('traps');
    const type = { parameters: [], results: [] };
    const [first, second] = [module.declare(type), module.declare(type)];
    module.define(first, new FunctionWriter(type));
    const out = new FunctionWriter(type);
    for (let i = 0; i < 100; i++) out.i32(1_000_000).op(OP.drop);
    const at = out.code.length;
    out.op(OP.unreachable);
    module.define(second, out);
    module.export('trap', second);
    const { bytes, codeOffsets } = module.encode();
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
    try {
      (exports['trap'] as () => void)();
    } catch (error) {
      expect(wasmPlace(error as Error)).toEqual({ module: 'traps', offset: codeOffsets[1]! + at });
    }
    expect.assertions(1);
  });
});

describe('placeInText', () => {
  it('reads what V8 writes itself', () => {
    const stack =
      'RuntimeError: x\n    at wasm://wasm/bpf12-0e1f2a3b:wasm-function[3]:0x1e0\n    at file:///a.js:1:2';
    expect(placeInText(stack)).toEqual({ module: 'bpf12', offset: 0x1e0 });
    expect(placeInText('Error\n    at file:///a.js:1:2')).toBeUndefined();
  });
});
