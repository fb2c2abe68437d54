import { describe, expect, it } from 'vitest';
import { ByteWriter, FunctionWriter, I32, I64, ModuleWriter, OP } from './wasm-encoder.js';

describe('ByteWriter', () => {
  it.each([
    [0, [0x00]],
    [127, [0x7f]],
    [128, [0x80, 0x01]],
    [624485, [0xe5, 0x8e, 0x26]],
    [0xffffffff, [0xff, 0xff, 0xff, 0xff, 0x0f]],
  ])('writes %i as unsigned LEB128', (value, bytes) => {
    expect([...new ByteWriter().u32(value).bytes]).toEqual(bytes);
  });

  it.each([
    [0, [0x00]],
    [63, [0x3f]],
    [64, [0xc0, 0x00]],
    [-1, [0x7f]],
    [-64, [0x40]],
    [-65, [0xbf, 0x7f]],
    [-123456, [0xc0, 0xbb, 0x78]],
    [-0x80000000, [0x80, 0x80, 0x80, 0x80, 0x78]],
  ])('writes %i as signed LEB128', (value, bytes) => {
    expect([...new ByteWriter().s32(value).bytes]).toEqual(bytes);
  });

  it('writes 64-bit numbers modulo 2^64', () => {
    expect([...new ByteWriter().s64(2n ** 64n - 1n).bytes]).toEqual([0x7f]);
    expect([...new ByteWriter().s64(2n ** 31n).bytes]).toEqual([0x80, 0x80, 0x80, 0x80, 0x08]);
    expect(new ByteWriter().s64(2n ** 63n).length).toBe(10);
  });
});

describe('ModuleWriter', () => {
  it('writes modules that V8 accepts, with labels, locals and constants of every size', () => {
    const module = new ModuleWriter('sample');
    const index = module.declare({ parameters: [I64], results: [I64] });
    const out = new FunctionWriter({ parameters: [I64], results: [I64] });
    const [count, sum] = [out.local(I32), out.local(I64)];
    out.i32(10).set(count);
    const done = out.block();
    const again = out.loop();
    out.get(count).op(OP.i32_eqz).brIf(done);
    out
      .get(sum)
      .get(0)
      .op(OP.i64_add)
      .i64(-(2n ** 40n))
      .op(OP.i64_add)
      .set(sum);
    out.get(count).i32(-1).op(OP.i32_add).set(count);
    out.br(again);
    out.end();
    out.end();
    out.get(sum);
    module.define(index, out);
    module.export('sum', index);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode().bytes));
    expect((exports['sum'] as (x: bigint) => bigint)(2n ** 40n + 7n)).toBe(70n);
  });
});
