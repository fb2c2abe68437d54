import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import type { MapValueEntry } from '../../src/bpf/map-spec.js';
import { syscallValue, syscallValueSize } from '../../src/bpf/per-cpu-value.js';
import { exampleResult, exampleRun } from '../../src/conformance/reporter/index.js';
import type { RenderOptions } from '../../src/core/contract/reporter.js';
import type { MapResult, ResultDocument } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { elementWords } from '../../src/core/run/element-words.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { parseMapInput, type MapInput } from '../../src/core/testbed/map-input.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { TableReporter } from './table-reporter.js';

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** 30 frames through one program, in a guest with two CPUs, and what the table says of it. */
async function run(object: string, maps = '{}'): Promise<{ result: ResultDocument; text: string }> {
  const testbed = `version: 1
name: maps
programs: { own: { object: ${objects}${object}.o, maps: ${maps} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { cpus: 2, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: own } } } }
workload: { use: udp-flood, config: { frames: 30, flows: 30 } }
`;
  const resolved = await resolveTestbed('t.yaml', testbed, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(resolved, { version: '0' });
  return { result, text: render(result, elementWords(resolved)) };
}

function render(result: ResultDocument, words?: RenderOptions['words']): string {
  const text = new TableReporter().render(result, { color: false, words });
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  return text;
}

/** What is listed beneath the table, as YAML has it. */
function listed(text: string): MapInput[] {
  const [, ...blocks] = text.split(/^.* as presets and cases take it:$/m);
  return blocks.map((block) => (parse(block.split('\n\n')[0]!) as { maps: MapInput }).maps);
}

/** Elements as results have them, of a guest with two CPUs. */
function elementsOf(object: string, content: MapInput): { key: string; value: string }[] {
  const path = `${objects}${object}.o`;
  const spec = readObject(readFileSync(path), path);
  return [...parseMapInput(spec, content, { limit: { cpus: 2 } })].flatMap(([name, elements]) => {
    const map = spec.maps.find((each) => each.name === name)!;
    return elements.map((element) => {
      const value = syscallValue(map, element as MapValueEntry, syscallValueSize(map, 2)) as Uint8Array;
      return { key: Buffer.from(element.key).toString('hex'), value: Buffer.from(value).toString('hex') };
    });
  });
}

const NETWORKS = Array.from(
  { length: 12 },
  (_, n) => `{ key: { prefixlen: ${n + 1}, address: 128.0.0.0 }, value: ${n + 1} }`,
).join(', ');

describe('what the table has not all of', () => {
  it.each([
    ['blocklist', 'counters', '[{ key: 0, cpus: { 1: { bytes: 1000000000000 } } }]'],
    ['blocklist', 'blocked', `[${NETWORKS}]`],
    ['globals', '.bss', '{ buckets: [1, 2, 3, 4000000000] }'],
    ['flow_count', 'flows', '[]'],
  ])('of %s is beneath it and can be pasted: %s', async (object, name, content) => {
    const { result, text } = await run(object, `{ ${name}: ${content} }`);
    const [found] = listed(text).filter((each) => name in each);
    const { entries } = result.runs[0]!.maps.find((map) => map.name === name)!;
    expect(entries.length).toBeGreaterThan(0);
    expect(elementsOf(object, { [name]: found![name] })).toEqual(entries.slice(0, 20));
  });

  const map: MapResult = {
    guest: 'g0',
    nic: 'eth0',
    name: 'names',
    type: 'BPF_MAP_TYPE_HASH',
    readFrom: 'device',
    entries: [],
  };
  /** An element for each word, with its place as key. */
  const withWords = (...words: readonly string[]): string => {
    const entries = words.map((_, n) => ({ key: n.toString(16).padStart(2, '0'), value: '01' }));
    return render(exampleResult([{ ...exampleRun('a'), maps: [{ ...map, entries }] }]), (_, __, { key }) => ({
      key: String(Number.parseInt(key, 16)),
      value: words[Number.parseInt(key, 16)]!,
    }));
  };

  it('is not there where the table has all, or nothing but numbers', async () => {
    const short = withWords('1', 'ALLOW');
    expect(short).toContain('names: [0]=1 [1]=ALLOW');
    expect(listed(short)).toEqual([]);
    expect(listed((await run('xdp1')).text)).toEqual([]);
    const entries = Array.from({ length: 20 }, () => ({ key: '01000000', value: '01000000' }));
    expect(listed(render(exampleResult([{ ...exampleRun('a'), maps: [{ ...map, entries }] }])))).toEqual([]);
  });

  it('keeps blanks of text as they are, wherever a line is broken', () => {
    const value = ` a  b   c ${'dd '.repeat(80)} `;
    expect(listed(withWords(JSON.stringify(value)))).toEqual([{ names: [{ key: 0, value }] }]);
  });

  it('is at most so many elements, and of a long one the beginning', () => {
    const [long, word] = [`[${'1, '.repeat(400)}2]`, 'x'.repeat(150)];
    const text = withWords(long, word, ...Array.from({ length: 48 }, () => `[${'1, '.repeat(20)}2]`));
    // `- { key: 0, value: ` and ` }` are 21; the list is 400 times 3, and 3 for brackets and its end.
    expect(text).toMatch(/^ {6}# - \{ key: 0, value: \[1, 1, (1, )*1… \(1224 characters\)$/m);
    expect(text).toMatch(/^ {6}# - \{ key: 1, value: x+… \(171 characters\)$/m);
    expect(text).toContain('      # … 30 more');
    const keys = (listed(text)[0]!['names'] as { key: number }[]).map(({ key }) => key);
    expect(keys).toEqual(Array.from({ length: 18 }, (_, n) => n + 2));
  });

  it('is at most so many maps', () => {
    const runs = Array.from({ length: 30 }, (_, n) => ({
      ...exampleRun(`run${n}`),
      maps: [{ ...map, entries: [{ key: '01', value: '02' }] }],
    }));
    const text = render(exampleResult(runs), () => ({ value: 'x'.repeat(60) }));
    expect(text.match(/as presets and cases take it/g)).toHaveLength(20);
    expect(text).toContain('… more maps: --format json');
  });
});
