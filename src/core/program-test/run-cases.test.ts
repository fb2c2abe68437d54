import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { loadCases } from './load-cases.js';
import { runCases, type CaseResult } from './run-cases.js';
import { Workbench } from './workbench.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-run-cases-'));
  writeFileSync(
    join(folder, 'count.s'),
    `.map seen array key=4 value=8 entries=1024
.program count
  *(u32 *)(r10 -4) = 0
  r1 = map[seen]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
out:
  r0 = 2
  exit
.program other
  r0 = 1
  exit
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PACKET = `packet: { hex: '${'00'.repeat(14)}' }`;

/** Runs cases, and counts how often a bench was opened. */
async function run(
  text: string,
  { bail, signal, onResult }: { bail?: boolean; signal?: AbortSignal; onResult?: () => void } = {},
): Promise<{ results: CaseResult[]; opened: number; closed: number }> {
  const path = join(folder, 'run.cases.yaml');
  writeFileSync(path, `object: count.s\nprogram: count\ncases:\n${text}`);
  const registry = new PluginRegistry(BUILT_IN_PLUGINS);
  let [opened, closed] = [0, 0];
  const open = async (cpus: number) => {
    opened++;
    const bench = await Workbench.open(registry, {
      executor: 'wasm',
      verifiers: ['abstract'],
      runtime: { cpus },
    });
    return {
      party: bench.party,
      runtime: bench.runtime,
      close: () => {
        closed++;
        return bench.close();
      },
    };
  };
  const results: CaseResult[] = [];
  for await (const result of runCases(await loadCases(path), { open, bail, signal })) {
    results.push(result);
    onResult?.();
  }
  return { results, opened, closed };
}

describe('cases of a file', () => {
  it('load their program once, and each starts from the state after that', async () => {
    const one = (name: number): string =>
      `  - { name: n${name}, ${PACKET}, repeat: ${name}, expect: { whole-maps: { seen: [{ key: 0, value: ${name} }] } } }\n`;
    const { results, opened, closed } = await run(
      Array.from({ length: 300 }, (_, index) => one(index + 1)).join(''),
    );
    expect(results.filter(({ passed }) => passed)).toHaveLength(300);
    expect([opened, closed]).toEqual([1, 1]);
  });

  it('load again what they load otherwise, and keep only some of it', async () => {
    const sized = (size: number): string =>
      `  - { name: s${size}, max-entries: { seen: ${size} }, ${PACKET}, expect: { maps: { seen: [{ key: 0, value: 1 }] } } }\n`;
    const sizes = Array.from({ length: 12 }, (_, index) => sized(index + 1)).join('');
    const again = sizes.replaceAll('name: s', 'name: again');
    const { results, opened, closed } = await run(
      sizes + again + `  - { name: x, program: other, ${PACKET}, expect: { verdict: XDP_DROP } }\n`,
    );
    expect(results.every(({ passed }) => passed)).toBe(true);
    expect([opened, closed]).toEqual([25, 25]);
  });

  it('close what they opened when nobody wants the rest', async () => {
    const failing = `  - { name: a, ${PACKET}, expect: { verdict: XDP_DROP } }\n  - { name: b, ${PACKET}, expect: { verdict: XDP_PASS } }\n`;
    const { results, opened, closed } = await run(failing, { bail: true });
    expect(results.map(({ name, passed }) => [name, passed])).toEqual([['a', false]]);
    expect([opened, closed]).toEqual([1, 1]);
    expect(results[0]!.problems).toEqual([
      { at: expect.objectContaining({ line: 4 }) as unknown, message: 'verdict is XDP_PASS, not XDP_DROP' },
    ]);
  });

  it('end with the interruption, in the midst of a case', async () => {
    const controller = new AbortController();
    const one = `  - { name: a, ${PACKET}, expect: { verdict: XDP_PASS } }\n`;
    const long = `  - { name: b, ${PACKET}, repeat: 1000000, expect: { verdict: XDP_PASS } }\n`;
    const lasting = `  - name: c\n    steps:\n${`      - { ${PACKET}, repeat: 1000000, expect: { verdict: XDP_PASS } }\n`.repeat(50)}`;
    const { results, opened, closed } = await run(one + long + lasting + one.replace('a,', 'd,'), {
      signal: controller.signal,
      onResult: () => void setTimeout(() => controller.abort(), 20),
    });
    expect(results.map(({ name, passed }) => [name, passed]).slice(0, 1)).toEqual([['a', true]]);
    expect(results.map(({ name }) => name)).not.toContain('c');
    expect([opened, closed]).toEqual([1, 1]);
  });
});
