import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;
const FRAMES = 10;
const SIZE = 9014;

/** Returns `verdict` for a frame of SIZE bytes whose last byte it could change, else XDP_ABORTED. */
const program = (name: string, verdict: number): string => `.program ${name} frags
  r6 = r1
  call bpf_xdp_get_buff_len
  r1 = r0
  r0 = 0
  if r1 != ${SIZE} goto out
  *(u64 *)(r10 -8) = 0x55
  r1 = r6
  r2 = ${SIZE - 1}
  r3 = r10
  r3 += -8
  r4 = 1
  call bpf_xdp_store_bytes
  r1 = r0
  r0 = 0
  if r1 != 0 goto out
  r0 = ${verdict}
out:
  exit
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-long-'));
  const toTap = '.program totap frags\n  r1 = 3\n  r2 = 0\n  call bpf_redirect\n  exit\n';
  await writeFile(join(folder, 'long.s'), program('pass', 2) + program('tx', 3) + program('drop', 1) + toTap);
});
afterAll(() => rm(folder, { recursive: true }));

interface Wiring {
  readonly guest?: string;
  readonly tap?: string;
  readonly nic?: string;
  readonly hostCase?: string;
  readonly features?: string;
  readonly refused?: number;
}

async function run({
  guest = '',
  tap = '',
  nic = '',
  hostCase = 'bridge',
  features = MERGEABLE,
  refused = 0,
}: Wiring) {
  const text = `version: 1
name: long-frames
programs:
  xdp1: { object: ${objects}xdp1.o }
  host-pass: { object: ${objects}pass.o }
  pass: { object: long.s, section: pass }
  tx: { object: long.s, section: tx }
  drop: { object: long.s, section: drop }
  to-tap: { object: long.s, section: totap }
host:
  case: ${hostCase}
  nics: { eth0: { mac: 52:54:00:00:00:01 ${nic} } }
  taps: { tap0: { ${tap} } }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, features: [${features}] ${guest} } } }
workload: { use: udp-flood, config: { frames: ${FRAMES}, size: ${SIZE} } }
checks: [{ kind: conservation }, { kind: expect, value: attachments.refused, equals: ${refused} }]
`;
  const file = join(folder, 'long-frames.testbed.yaml');
  const resolved = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs, checks } = await runTestbed(resolved, { version: '0' });
  expect(checks.flatMap((check) => check.problems)).toEqual([]);
  return runs[0]!;
}

const PLAIN = 'VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_XDP_OFFLOAD';
const MERGEABLE = `${PLAIN}, VIRTIO_NET_F_MRG_RXBUF`;

describe('frames of more than a page in the model', () => {
  it.each<[string, Wiring, string, string]>([
    ['go to the guest’s stack when there is no program', {}, 'g0.eth0', 'guest-stack'],
    ['do not reach a guest without merged buffers', { features: PLAIN }, 'g0.eth0', 'frame-too-long'],
    ['meet a guest’s program in xdp.frags', { guest: ', program: drop' }, 'g0.eth0', 'xdp-drop'],
    ['go on from there to the stack', { guest: ', program: pass' }, 'g0.eth0', 'guest-stack'],
    ['come back from there to the bridge', { guest: ', program: tx' }, 'host.br0', 'bridge-filtered'],
    [
      'meet the Rx path’s program on the way back',
      { guest: ', program: tx', tap: 'rx-program: drop' },
      'host.tap0',
      'xdp-drop',
    ],
    [
      'are dropped before a guest’s program of one buffer',
      { guest: ', program: xdp1' },
      'g0.eth0',
      'frame-too-long',
    ],
    [
      'are dropped at the tap before an offloaded program, which is one of one buffer',
      { guest: ', program: xdp1, placement: host' },
      'host.tap0',
      'frame-too-long',
    ],
    [
      'are dropped at the host’s NIC before a program of one buffer',
      { nic: ', program: host-pass', hostCase: 'redirect' },
      'host.eth0',
      'frame-too-long',
    ],
    [
      'cannot be redirected to a tap',
      { nic: ', program: to-tap', hostCase: 'redirect' },
      'host.eth0',
      'redirect-failed',
    ],
  ])('%s', async (_, wiring, place, fate) => {
    expect((await run(wiring)).ends).toEqual([{ place, fate, frames: FRAMES }]);
  });

  it('a program in xdp.frags is not offloaded, and the guest is told why', async () => {
    const result = await run({ guest: ', program: pass, placement: host', refused: 1 });
    expect(result.attachments).toMatchObject([
      { node: 'g0.eth0', attached: false, reason: expect.stringContaining('xdp.frags') as string },
    ]);
    expect(result.ends).toEqual([{ place: 'g0.eth0', fate: 'guest-stack', frames: FRAMES }]);
  });
});
