import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BtfEncoder } from '../bpf/btf/btf-encoder.js';
import { KernelTypes } from './kernel-types.js';

/** `struct name { members }` with each member at its offset in bytes. */
function struct(
  btf: BtfEncoder,
  name: string,
  members: readonly [string, number, number][],
  kind: 'STRUCT' | 'UNION' = 'STRUCT',
): number {
  return btf.type(kind, {
    name,
    vlen: members.length,
    sizeOrType: 64,
    body: members.flatMap(([member, type, bytes]) => [btf.string(member), type, 8 * bytes]),
  });
}

describe('offsets of members', () => {
  const btf = new BtfEncoder();
  const int = btf.type('INT', { name: 'int', sizeOrType: 4, body: [32] });
  const inner = struct(btf, 'inner', [
    ['x', int, 0],
    ['y', int, 4],
  ]);
  const alias = btf.type('TYPEDEF', { name: 'inner_t', sizeOrType: inner });
  const unnamed = struct(btf, '', [['deep', int, 12]]);
  struct(btf, 'out', []);
  struct(btf, 'outer', [
    ['first', int, 0],
    ['', unnamed, 8],
    ['last', alias, 40],
  ]);
  const types = new KernelTypes(btf.bytes());

  it.each([
    ['outer', 'first', 0],
    ['outer', 'deep', 20],
    ['outer', 'last', 40],
    ['outer', 'last.y', 44],
    ['inner', 'y', 4],
  ])('%s.%s', (name, path, offset) => {
    expect(types.offsetOf(name, path)).toBe(offset);
  });

  it.each([
    ['outer', 'las'],
    ['outer', 'lastly'],
    ['oute', 'first'],
    ['outer', 'first.x'],
    ['out', 'first'],
  ])('%s has no %s', (name, path) => {
    expect(() => types.offsetOf(name, path)).toThrow(`struct ${name} of this kernel has no ${path}`);
  });

  it('are not looked for in what is no BTF', () => {
    expect(() => new KernelTypes(new Uint8Array(64))).toThrow('is no BTF');
  });
});

const vmlinux = '/sys/kernel/btf/vmlinux';
const skipped = existsSync(vmlinux) ? '' : ` (skipped: there is no ${vmlinux})`;

describe.skipIf(skipped !== '')(`of the running kernel${skipped}`, () => {
  it('are those of its ABI', () => {
    const types = new KernelTypes(readFileSync(vmlinux));
    // include/uapi/linux/bpf.h: neither can ever change.
    expect(types.offsetOf('xdp_md', 'rx_queue_index')).toBe(16);
    expect(types.offsetOf('__sk_buff', 'data_end')).toBe(80);
    expect(types.offsetOf('bpf_link_info', 'tcx.attach_type')).toBe(20);
  });
});
