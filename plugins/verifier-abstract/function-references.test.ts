import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Verification } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

const verify = (text: string): Promise<Verification> =>
  new AbstractVerifier(DEFAULT_CONFIG).verify({
    program: { name: 'test', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns: assemble(text) },
    maps: new Map(),
  });

/** Not among the twins, which are given to the running kernel: it takes such a program for a bug of its own. */
describe('addresses of functions', () => {
  it.each([
    ['that nothing calls', 'r2 = subprog[cb]\ncall f\nexit\nf: r0 = 2\nexit\ncb: r0 = 0\nexit', 0],
    [
      'that are taken in a function of their own',
      'call f\nexit\nf: r3 = subprog[cb]\nr0 = 2\nexit\ncb: r0 = 0\nexit',
      2,
    ],
  ])('%s are rejected', async (_, text, insn) => {
    expect(await verify(text)).toMatchObject({ accepted: false, code: 'callback-invalid', insn });
  });

  it.each([
    [
      'that a loop runs',
      'r1 = 4\nr2 = subprog[cb]\nr3 = 0\nr4 = 0\ncall bpf_loop\nr0 = 2\nexit\ncb: r0 = 0\nexit',
    ],
    [
      'on a path that nothing takes',
      'r1 = 1\nif r1 == 1 goto out\nr2 = subprog[cb]\nout: r0 = 2\nexit\ncb: r0 = 0\nexit',
    ],
    ['that are called as well', 'r2 = subprog[f]\ncall f\nexit\nf: r0 = 2\nexit'],
  ])('%s are accepted', async (_, text) => {
    expect(await verify(text)).toMatchObject({ accepted: true });
  });
});
