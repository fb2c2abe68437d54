import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../../src/bpf/map-spec.js';
import { runForTest } from '../../../src/cli/testing-terminal.js';
import type { VerifierMap } from '../../../src/core/contract/verifier.js';
import { TWINS } from './index.js';
import { type Twin, TWIN_MAPS } from './twin.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-twins-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A twin's program as a file that `prog verify` reads. */
function write(twin: Twin, form: 'rejected' | 'accepted'): string {
  const lines = [`.license ${twin.gpl === false ? 'Proprietary' : 'GPL'}`];
  for (const map of TWIN_MAPS)
    if (map.inner !== undefined)
      lines.push(directive({ ...map, ...map.inner, name: `inner_of_${map.name}`, inner: undefined }));
  for (const map of TWIN_MAPS) lines.push(directive(map));
  const file = join(folder, `${form}.s`);
  writeFileSync(file, `${lines.join('\n')}\n.program twin\n${twin[form]}\n`);
  return file;
}

function directive({
  name,
  type,
  keySize,
  valueSize,
  maxEntries,
  flags,
  inner,
  frozenValue,
}: VerifierMap): string {
  const typeName = Object.entries(BPF_MAP_TYPE).find(([, number]) => number === type)![0];
  const rest = [
    ...(inner === undefined ? [] : [`inner=inner_of_${name}`]),
    ...(frozenValue === undefined ? [] : ['frozen', `data=${Buffer.from(frozenValue).toString('hex')}`]),
  ];
  return [
    `.map ${name} ${typeName.replace('BPF_MAP_TYPE_', '').toLowerCase()}`,
    `key=${keySize} value=${valueSize} entries=${maxEntries} flags=${flags}`,
    ...rest,
  ].join(' ');
}

/** Assembler text says nothing of types; and a reference to a map that no object declares cannot be written down in one. */
const typed = TWIN_MAPS.filter((map) => map.btf !== undefined).map((map) => `map[${map.name}]`);
const writable = TWINS.filter(
  (twin) =>
    twin.code !== 'map-unknown' &&
    !typed.some((map) => twin.rejected.includes(map) || twin.accepted.includes(map)),
);

describe('xdpbed prog verify explains each unsafe program', () => {
  it.each(writable.map((twin) => [twin.name, twin] as const))('%s', async (_, twin) => {
    const rejected = await runForTest(['prog', 'verify', write(twin, 'rejected')]);
    expect(rejected.out).toContain(`[${twin.code}]`);
    expect(rejected.out).toContain('what would help:');
    expect(rejected.exit).toBe(1);
    const accepted = await runForTest(['prog', 'verify', write(twin, 'accepted')]);
    expect(accepted.out).toContain('accepted by abstract');
    expect(accepted.exit).toBe(0);
  });
});
