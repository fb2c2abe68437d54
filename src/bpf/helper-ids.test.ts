import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Btf } from './btf/btf.js';
import { helperId, helperName, HELPER_COUNT, HELPER_NAMES, knownHelperName } from './helper-ids.js';

const KERNEL_BTF = '/sys/kernel/btf/vmlinux';

function kernelBtf(): Uint8Array | undefined {
  try {
    return readFileSync(KERNEL_BTF);
  } catch {
    return undefined;
  }
}

describe('helper numbers', () => {
  it('go both ways', () => {
    expect(HELPER_COUNT).toBe(212);
    expect(helperName(1)).toBe('bpf_map_lookup_elem');
    expect(helperName(51)).toBe('bpf_redirect_map');
    expect(helperName(211)).toBe('bpf_cgrp_storage_delete');
    expect(helperName(999)).toBe('helper 999');
    expect(helperName(-1)).toBe('helper -1');
    expect(knownHelperName(212)).toBeUndefined();
    HELPER_NAMES.forEach((name, id) => expect(helperId(name)).toBe(id));
  });

  const bytes = kernelBtf();
  it.skipIf(bytes === undefined)(`are those of the running kernel (skipped without ${KERNEL_BTF})`, () => {
    const btf = new Btf(bytes!);
    const helpers = btf.find('ENUM', 'bpf_func_id')!.type.values;
    for (const { name, value } of helpers) {
      if (!name.startsWith('BPF_FUNC_')) continue;
      // A later kernel may know more.
      if (Number(value) < HELPER_COUNT)
        expect(helperName(Number(value))).toBe(name.replace('BPF_FUNC_', 'bpf_'));
    }
    // Every type of a real kernel can be described and measured.
    for (let id = 0; id < btf.typeCount; id += 7) {
      expect(btf.describe(id).length).toBeGreaterThan(0);
      btf.sizeOf(id);
    }
  });
});
