import { describe, expect, it, vi } from 'vitest';
import { probeBpf } from './bpf-probe.js';
import { libc } from './libc.js';

// koffi is an optional dependency: this is how Node says that it is not there.
vi.mock('node:module', () => ({
  createRequire: () => (name: string) => {
    throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' });
  },
}));

describe.skipIf(process.platform !== 'linux')('without koffi (skipped but on linux)', () => {
  it('bpf(2) is unsupported, with what would help', () => {
    expect(() => libc()).toThrow(
      expect.objectContaining({
        code: 'host-unsupported',
        message: 'koffi, through which bpf(2) is called, is not installed',
        hint: 'npm install koffi',
      }),
    );
  });

  it('the probe says so instead of failing', () => {
    expect(probeBpf()).toEqual({
      status: 'unsupported',
      reason: 'koffi, through which bpf(2) is called, is not installed',
      remedy: 'npm install koffi',
    });
  });
});
