import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { writePcap, buildFrame } from '../../packet/index.js';
import type { TimedEvent } from '../contract/event.js';
import type { RunResult } from '../contract/result.js';
import type { RunSpec } from '../contract/run-spec.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed, type ResolvedTestbed } from '../testbed/resolve-testbed.js';
import { executeRun } from './execute-run.js';
import { decodeRunSpec, encodeRunSpec, hashRunSpec } from './run-spec-codec.js';

const root = new URL('../../../', import.meta.url).pathname;
const objects = join(root, 'testbeds/programs/');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-run-'));
  const frame = buildFrame({
    eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' },
    ipv4: { src: '198.51.100.1', dst: '192.0.2.10' },
    udp: { srcPort: 4000, dstPort: 53 },
  });
  writeFileSync(
    join(folder, 'some.pcap'),
    writePcap(Array.from({ length: 20 }, (_, at) => ({ data: frame, timestampNs: BigInt(at) * 1000n }))),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Everything that a spec can hold: presets, several policies, a capture, executors made of others. */
function resolve(): Promise<ResolvedTestbed> {
  const text = `version: 1
name: spec
seed: 9007199254740881
plugins: { executor: { use: differential } }
policies: [{ use: helper-allow-list }, { use: quota }]
programs:
  count: { object: ${objects}xdp1.o }
  to-tap:
    object: ${objects}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: redirect
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: {} }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count, placement: host } } }
workload: { use: pcap-replay, config: { file: some.pcap, loop: 3 } }
`;
  return resolveTestbed(join(folder, 'spec.testbed.yaml'), text, new PluginRegistry(BUILT_IN_PLUGINS));
}

async function runHere(testbed: ResolvedTestbed, spec: RunSpec) {
  const events: TimedEvent[] = [];
  const result = await executeRun(spec, {
    registry: testbed.registry,
    folder: testbed.folder,
    object: (hash) => testbed.objects.get(hash)!,
    emit: (event) => void events.push(event),
  });
  return { result, events };
}

describe('a run spec', () => {
  it('is the same after it was text, and has one hash for one run', async () => {
    const { runs } = await resolve();
    const text = encodeRunSpec(runs[0]!);
    expect(decodeRunSpec(text)).toEqual(runs[0]);
    expect(encodeRunSpec(decodeRunSpec(text))).toBe(text);
    expect(hashRunSpec(decodeRunSpec(text))).toBe(hashRunSpec(runs[0]!));
    expect(hashRunSpec({ ...runs[0]!, seed: runs[0]!.seed + 1n })).not.toBe(hashRunSpec(runs[0]!));
    // Nothing of this machine: a path in it would make the same run another one elsewhere.
    expect(text.replaceAll(objects, '')).not.toContain(folder);
  });

  it('refuses text that is none', () => {
    for (const text of ['', '{', 'null', '{"schema":"xdpbed.run-spec/9"}']) {
      expect(() => decodeRunSpec(text)).toThrow(expect.objectContaining({ code: 'usage' }));
    }
  });

  it('is carried out in another process, from its text and the files by their hashes, with the same result', async () => {
    const testbed = await resolve();
    const spec = testbed.runs[0]!;
    const here = await runHere(testbed, spec);
    // All of the capture's frames, three times over, seen and dropped in the host.
    expect(here.result.ends).toEqual([{ place: 'host.tap0', fate: 'xdp-drop', frames: 60 }]);

    const store = join(folder, 'store');
    mkdirSync(store);
    for (const [hash, bytes] of testbed.objects) writeFileSync(join(store, hash), bytes);
    writeFileSync(join(folder, 'spec.json'), encodeRunSpec(spec));
    // The built package, in a process that has never seen the testbed nor its folder.
    const script = `
      const { readFileSync } = await import('node:fs');
      const { BUILT_IN_PLUGINS, decodeRunSpec, executeRun, PluginRegistry } = await import(${JSON.stringify(join(root, 'dist/src/index.js'))});
      const [specFile, store] = process.argv.slice(1);
      const events = [];
      const result = await executeRun(decodeRunSpec(readFileSync(specFile, 'utf8')), {
        registry: new PluginRegistry(BUILT_IN_PLUGINS),
        folder: '/',
        object: (hash) => readFileSync(store + '/' + hash),
        emit: (event) => events.push(event),
      });
      console.log(JSON.stringify({ result, events }));
    `;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '--eval', script, join(folder, 'spec.json'), store],
      { cwd: '/' },
    );
    const there = JSON.parse(stdout) as { result: RunResult; events: TimedEvent[] };
    expect(there.result).toEqual(here.result);
    expect(there.events).toEqual(here.events);
  });

  it('refuses a file that is not the one it names', async () => {
    const testbed = await resolve();
    await expect(
      executeRun(testbed.runs[0]!, {
        registry: testbed.registry,
        folder: testbed.folder,
        object: () => new Uint8Array(3),
      }),
    ).rejects.toMatchObject({ code: 'file-unreadable' });
  });
});

describe('events', () => {
  it('are numbered and timed by the run’s clock', async () => {
    const testbed = await resolve();
    const { events } = await runHere(testbed, testbed.runs[0]!);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index));
    const times = events.map(({ time }) => time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    // Before the traffic, and after it: the maps are read when the last frame has come, 20 frames a microsecond
    // apart, three times over.
    expect(times[0]).toBe(0);
    expect(times.at(-1)).toBe(59_000_000);
  });
});
