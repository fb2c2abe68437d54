import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Btf } from '../bpf/btf/btf.js';
import type { BtfComposite } from '../bpf/btf/btf-type.js';
import * as layout from './bpf-layout.js';
import { BPF_LINK_TYPE, LINK_ATTACH_TYPE } from './link-calls.js';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const skipped = existsSync(VMLINUX) ? '' : ` (skipped: this kernel does not show its BTF in ${VMLINUX})`;

/** Of `union bpf_attr`: the first field of each of its structs that has no name. */
const ANONYMOUS: Readonly<Record<string, string>> = {
  map_create: 'map_type',
  map_elem: 'map_fd',
  prog_load: 'prog_type',
  get_id: 'start_id',
  btf_load: 'btf',
};

describe.skipIf(skipped !== '')(`layouts in the BTF of the running kernel${skipped}`, () => {
  const btf = skipped === '' ? new Btf(readFileSync(VMLINUX)) : undefined!;

  function composite(id: number): BtfComposite | undefined {
    const type = btf.type(id);
    if (type.kind === 'TYPEDEF' || type.kind === 'CONST') return composite(type.type);
    return type.kind === 'STRUCT' || type.kind === 'UNION' ? type : undefined;
  }

  /** Byte offset of `a` or `a.b`; members of unnamed structs and unions belong to the one around them. */
  function offsetOf(type: BtfComposite, path: string): number | undefined {
    const [name, ...rest] = path.split('.');
    for (const member of type.members) {
      const at = member.bitOffset / 8;
      const inner = composite(member.type);
      if (member.name === name) {
        if (rest.length === 0) return at;
        const within = inner === undefined ? undefined : offsetOf(inner, rest.join('.'));
        if (within !== undefined) return at + within;
      } else if (member.name === '' && inner !== undefined) {
        const within = offsetOf(inner, path);
        if (within !== undefined) return at + within;
      }
    }
    return undefined;
  }

  function named(kind: 'STRUCT' | 'UNION', name: string): BtfComposite {
    return btf.find(kind, name)!.type;
  }

  function offsetsOf(type: BtfComposite, fields: object): Record<string, number | undefined> {
    return Object.fromEntries(Object.keys(fields).map((field) => [field, offsetOf(type, field)]));
  }

  it.each(Object.entries(layout.BPF_ATTR))('union bpf_attr: %s', (part, fields) => {
    const union = named('UNION', 'bpf_attr');
    const member = union.members.find(({ name, type }) =>
      ANONYMOUS[part] === undefined
        ? name === part
        : name === '' && offsetOf(composite(type)!, ANONYMOUS[part]) === 0,
    );
    expect(offsetsOf(composite(member!.type)!, fields)).toEqual(fields);
  });

  it.each([
    ['bpf_map_info', layout.BPF_MAP_INFO],
    ['bpf_prog_info', layout.BPF_PROG_INFO],
    ['bpf_link_info', layout.BPF_LINK_INFO],
    ['bpf_func_info', layout.BPF_FUNC_INFO],
    ['bpf_line_info', layout.BPF_LINE_INFO],
  ])('struct %s', (name, fields) => {
    expect(offsetsOf(named('STRUCT', name), fields)).toEqual(fields);
  });

  it.each([
    ['bpf_cmd', layout.BPF_CMD, ''],
    ['bpf_attach_type', LINK_ATTACH_TYPE, ''],
    ['bpf_link_type', BPF_LINK_TYPE, 'BPF_LINK_TYPE_'],
  ])('enum %s', (name, constants, prefix) => {
    const type = btf.find('ENUM', name)!.type;
    if (type.kind !== 'ENUM') throw new Error(`${name} is no enum`);
    const values = new Map(type.values.map((one) => [one.name, Number(one.value)]));
    expect(Object.keys(constants).map((key) => [key, values.get(prefix + key)])).toEqual(
      Object.entries(constants),
    );
  });
});
