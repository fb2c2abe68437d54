import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from '@sinclair/typebox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { WORKLOAD, type Workload } from '../../src/core/contract/workload.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { buildFrame, formatMac } from '../../src/packet/index.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

/** Redirects every frame to the interface of this index, as the guest counts its own: eth0 is 2, eth1 is 3. */
const redirectTo = (ifindex: number) => `.license GPL
.program away
  r1 = ${ifindex}
  r2 = 0
  call bpf_redirect
  exit
`;

const FRAMES = 100;
const ONE_QUEUE = '1, features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ]';
const FOUR_QUEUES = '4, features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ]';

/** Frames for the guest's first nic only. */
const toFirstNic: Workload = {
  name: 'to-first-nic',
  *frames({ targets, senderMac }) {
    const eth = { src: formatMac(senderMac), dst: formatMac(targets[0]!.mac) };
    const ipv4 = { src: '198.18.0.1', dst: '192.0.2.1' };
    for (let index = 0; index < FRAMES; index++) {
      const bytes = buildFrame({ eth, ipv4, udp: { srcPort: 1024 + index, dstPort: 9 } });
      yield { bytes, at: index * 1_000_000 };
    }
  },
};

const workload = definePlugin({
  name: 'to-first-nic',
  version: '1.0.0',
  role: 'workload',
  api: '^2',
  description: 'made for a test',
  configSchema: Type.Object({}),
  register: (scope) => scope.bindValue(WORKLOAD, toFirstNic),
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-sibling-'));
  await writeFile(join(folder, 'to_sibling.s'), redirectTo(3));
  await writeFile(join(folder, 'to_nobody.s'), redirectTo(9));
});
afterAll(() => rm(folder, { recursive: true }));

/** Each nic's tap is on a bridge of its own, with a NIC of its own: what leaves by eth1 goes out by host.eth1. */
async function run(program: string, queues = ONE_QUEUE) {
  const nic = `queues: ${queues}`;
  const text = `version: 1
name: sibling
programs: { away: { object: ${program}.s } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 }, eth1: { mac: 52:54:00:00:00:03 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0] }, br1: { ports: [eth1, tap1] } }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:00:02, ${nic}, program: away }
      eth1: { tap: tap1, mac: 52:54:00:00:00:04, ${nic} }
workload: { use: to-first-nic }
checks: [{ kind: conservation }]
`;
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, workload]);
  const resolved = await resolveTestbed(join(folder, 'sibling.testbed.yaml'), text, registry);
  return runTestbed(resolved, { version: '0' });
}

describe('a guest’s program that redirects to another nic of the guest', () => {
  it.each([
    ['one queue pair', ONE_QUEUE],
    ['several queue pairs', FOUR_QUEUES],
  ])('lets frames leave by that nic’s tap, with %s', async (_, queues) => {
    const { runs, checks } = await run('to_sibling', queues);
    const [result] = runs;
    expect(checks.flatMap((check) => check.problems)).toEqual([]);
    expect(result!.hooks).toMatchObject([
      { site: 'guest-driver', node: 'g0.eth0', frames: FRAMES, verdicts: { XDP_REDIRECT: FRAMES } },
    ]);
    expect(result!.ends).toEqual([{ place: 'host.eth1', fate: 'transmitted', frames: FRAMES }]);
    expect(
      result!.links.map(({ nic, framesToGuest, framesFromGuest }) => [nic, framesToGuest, framesFromGuest]),
    ).toEqual([
      ['eth0', FRAMES, 0],
      ['eth1', 0, FRAMES],
    ]);
  });

  it('ends them at the nic when the guest has none of that index', async () => {
    const { runs, checks } = await run('to_nobody');
    expect(checks.flatMap((check) => check.problems)).toEqual([]);
    expect(runs[0]!.ends).toEqual([{ place: 'g0.eth0', fate: 'redirect-failed', frames: FRAMES }]);
  });
});
