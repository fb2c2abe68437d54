import { describe, expect, it } from 'vitest';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { possibleCpus, probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** Ten frames of 60 bytes; the host's maps are the kernel's, the guest's are those of this process. */
async function run(
  program: string,
  placement: string,
  checks: readonly string[] = [],
): Promise<ResultDocument> {
  const text = `version: 1
name: presets
plugins: { fabric: { use: linux }, executor: { use: wasm } }
programs:
  own: ${program}
  to-tap:
    object: ${objects}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: redirect
  cpus: 64
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    kind: tap-reader
    cpus: 2
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:00:02
        program: own
        placement: ${placement}
        features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]
workload: { use: udp-flood, config: { frames: 10, size: 60 } }
checks: [${checks.map((check) => `{ kind: expect, ${check} }`).join(', ')}]
`;
  const resolved = await resolveTestbed('/nowhere/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(resolved, { version: '0' });
  expect(result.failures ?? []).toEqual([]);
  return result;
}

const problems = async (...args: Parameters<typeof run>): Promise<string[]> =>
  (await run(...args)).checks.flatMap((check) => check.problems);

describe.skipIf(skipped !== '')(`content of maps on fabric linux${skipped}`, () => {
  it.each(['guest', 'host'])(
    'is there for a program in the %s',
    async (placement) => {
      const counters =
        '{ counters: [{ key: 0, value: { bytes: 7 } }, { key: 1, cpus: { 0: { packets: 40 } } }] }';
      const values = placement === 'host' ? possibleCpus() : 2;
      expect(
        await problems(`{ object: ${objects}blocklist.o, maps: ${counters} }`, placement, [
          'map: counters, key: 1, member: packets, cpu: 0, equals: 40',
          'map: counters, key: 1, member: packets, equals: 40',
          `map: counters, key: 0, member: bytes, equals: ${600 + 7 * values}`,
        ]),
      ).toEqual([]);
      const globals = '{ .data: { min_len: 61 }, .bss: { packets: 1000 }, .rodata: { log_first: 0 } }';
      expect(
        await problems(`{ object: ${objects}globals.o, maps: ${globals} }`, placement, [
          'map: .bss, member: packets, equals: 1010',
          'map: .rodata, member: log_first, equals: 0',
          'map: .rodata, member: drop_short, equals: 1',
          'value: ends.xdp-drop, equals: 10',
        ]),
      ).toEqual([]);
    },
    60_000,
  );

  it('is another map of the object for a program in the guest, or another program', async () => {
    const inner = `{ object: ${objects}map_in_map.o, maps: { by_family: [{ key: 0, value: counts_v6 }] } }`;
    expect(await problems(inner, 'guest', ['map: counts_v6, key: 17, equals: 10'])).toEqual([]);
    const chain = `{ object: ${objects}tail_chain.o, section: tail_entry, maps: { stages: [{ key: 0, value: stage3 }] } }`;
    const visits = [0, 0, 10, 10].map((count, index) => `map: visits, key: ${index + 1}, equals: ${count}`);
    expect(await problems(chain, 'guest', visits)).toEqual([]);
  }, 60_000);

  it.skipIf(skipped === '' && possibleCpus() > 63)(
    'is refused in words where the machine has not the CPU',
    async () => {
      const program = `{ object: ${objects}blocklist.o, maps: { counters: [{ key: 1, cpus: { 63: {} } }] } }`;
      const { runs } = await run(program, 'host');
      expect(runs[0]!.attachments).toMatchObject([
        {
          attached: false,
          reason: `initial element of map counters: there is no CPU 63: an element has values of CPUs 0 to ${possibleCpus() - 1}`,
        },
      ]);
    },
    60_000,
  );
});
