import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import { fabricConformance } from '../../src/conformance/fabric/fabric-conformance.js';
import { definePlugin, type Plugin } from '../../src/core/contract/plugin.js';
import type { RunResult } from '../../src/core/contract/result.js';
import { WORKLOAD } from '../../src/core/contract/workload.js';
import { readGuestMap } from '../../src/core/offload/guest-map.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

fabricConformance({ plugins: BUILT_IN_PLUGINS, fabric: 'model', programs: objects });

interface Wiring {
  readonly case?: string;
  readonly hook?: string;
  readonly reader?: string;
  readonly tap?: string;
  readonly nic?: string;
  readonly guest?: string;
  readonly more?: string;
}

function testbed(wiring: Wiring): string {
  return `version: 1
name: model
programs:
  xdp1: { object: ${objects}xdp1.o }
  xdp2: { object: ${objects}xdp2.o }
  pass: { object: ${objects}pass.o }
  drop: { object: ${objects}tap_drop.o }
  to-tap:
    object: ${objects}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: ${wiring.case ?? 'bridge'}
  hook: ${wiring.hook ?? 'tun_recvmsg'}
  reader: ${wiring.reader ?? '{}'}
  nics: { eth0: { mac: 52:54:00:00:00:01 ${wiring.nic ?? ''} } }
  taps: { tap0: { ${wiring.tap ?? ''} } }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:00:02 ${wiring.guest ?? ''} }
workload: { use: udp-flood, config: { frames: 200 } }
${wiring.more ?? ''}`;
}

async function run(text: string, plugins: readonly Plugin[] = []): Promise<RunResult> {
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const resolved = await resolveTestbed('/nowhere/t.yaml', text, registry);
  const { runs } = await runTestbed(resolved, { version: '0' });
  const ended = runs[0]!.ends.reduce((sum, end) => sum + end.frames, 0);
  expect(ended).toBe(runs[0]!.framesSent + runs[0]!.framesCopied);
  return runs[0]!;
}

const ends = (result: RunResult) => result.ends.map(({ place, fate, frames }) => [place, fate, frames]);

describe('where frames end', () => {
  it('without a program they reach the guest’s stack, through either case', async () => {
    expect(ends(await run(testbed({})))).toEqual([['g0.eth0', 'guest-stack', 200]]);
    expect(ends(await run(testbed({ case: 'redirect', nic: ', program: to-tap' })))).toEqual([
      ['g0.eth0', 'guest-stack', 200],
    ]);
  });

  it('in case redirect a NIC without a program leaves them to the host', async () => {
    expect(ends(await run(testbed({ case: 'redirect' })))).toEqual([['host.eth0', 'host-stack', 200]]);
  });

  it.each([
    ['tun_recvmsg', 'bridge'],
    ['tun_net_xmit', 'bridge'],
    ['tun_recvmsg', 'redirect'],
    ['tun_xdp_xmit', 'redirect'],
  ])('an offloaded program at %s drops them in case %s before the virtqueue', async (hook, hostCase) => {
    const result = await run(
      testbed({ case: hostCase, hook, nic: ', program: to-tap', guest: ', program: xdp1, placement: host' }),
    );
    expect(ends(result)).toEqual([['host.tap0', 'xdp-drop', 200]]);
    expect(result.links[0]!.framesToGuest).toBe(0);
  });

  it('what an offloaded program sends back meets the Rx-path program, then the bridge', async () => {
    const offloaded = { guest: ', program: xdp2, placement: host' };
    expect(ends(await run(testbed(offloaded)))).toEqual([['host.eth0', 'transmitted', 200]]);
    const dropped = await run(testbed({ ...offloaded, tap: 'rx-program: drop' }));
    expect(ends(dropped)).toEqual([['host.tap0', 'xdp-drop', 200]]);
    expect(dropped.hooks.find((hook) => hook.site === 'tap-rx')!.verdicts.XDP_DROP).toBe(200);
  });

  it('an offloaded program that passes lets the guest’s driver and stack have them', async () => {
    const result = await run(testbed({ guest: ', program: pass, placement: host' }));
    expect(ends(result)).toEqual([['g0.eth0', 'guest-stack', 200]]);
    expect(result.links[0]!.framesToGuest).toBe(200);
  });

  it('a frame from the wire that no hook can take ends at the NIC', async () => {
    const giant = definePlugin({
      name: 'giant',
      version: '1.0.0',
      role: 'workload',
      api: '^2',
      description: 'one frame that is too long',
      configSchema: Type.Object({}),
      register: (scope) =>
        scope.bindValue(WORKLOAD, { name: 'giant', frames: () => [{ bytes: new Uint8Array(9000), at: 0 }] }),
    });
    const text = testbed({ case: 'redirect', nic: ', program: to-tap', more: '' }).replace(
      /workload: .*/,
      'workload: { use: giant }',
    );
    expect(ends(await run(text, [giant]))).toEqual([['host.eth0', 'frame-too-long', 1]]);
  });

  it('a hostile guest asks for map types that a well-behaved driver would not', async () => {
    const result = await run(
      testbed({
        guest: ', program: ring, placement: host, hostile: true',
        more: 'checks: [{ kind: expect, value: attachments.refused, equals: 1 }]',
      }).replace('programs:', `programs:\n  ring: { object: ${objects}events.o, section: ring_output }`),
    );
    expect(result.audit).toMatchObject([
      {
        command: 'EBPF_MAP/CREATE_MAP',
        reason: expect.stringContaining('BPF_MAP_TYPE_RINGBUF is not among the types') as string,
      },
    ]);
  });

  it('a ptr_ring that is too short for a burst drops the rest of it', async () => {
    // 200 frames come in bursts of 64, 64, 64 and 8; without polling the reader runs after each burst.
    const result = await run(testbed({ tap: 'ring: 10' }));
    expect(ends(result)).toEqual([
      ['g0.eth0', 'guest-stack', 38],
      ['host.tap0', 'ring-full', 162],
    ]);
    const polled = await run(testbed({ tap: 'ring: 10', reader: '{ polling: true }' }));
    expect(ends(polled)).toEqual([['g0.eth0', 'guest-stack', 200]]);
  });

  it('a plain reader of the tap’s file takes them one by one, and runs the program too', async () => {
    const result = await run(
      testbed({ reader: '{ kind: read }', guest: ', program: xdp1, placement: host' }),
    );
    expect(ends(result)).toEqual([['host.tap0', 'xdp-drop', 200]]);
  });

  it('a guest and a host program that send a frame to each other for ever are stopped', async () => {
    const loop = { tap: 'rx-program: xdp2', guest: ', program: xdp2, placement: ' };
    expect(ends(await run(testbed({ ...loop, guest: `${loop.guest}host` })))).toEqual([
      ['host.tap0', 'hop-limit', 200],
    ]);
    const throughGuest = await run(testbed({ ...loop, guest: `${loop.guest}guest` }));
    expect(throughGuest.ends.map((end) => end.fate)).toEqual(expect.arrayContaining(['hop-limit']));
  });

  it('a redirect by an offloaded program goes nowhere', async () => {
    const result = await run(
      testbed({
        guest: ', program: away, placement: host, hostile: true',
        more: `policies: []`,
      }).replace('  xdp1:', `  away: { object: ${objects}redirect_kinds.o, section: to_ifindex }\n  xdp1:`),
    );
    // Whether it may be offloaded at all is the policies' and the device's business; no frame may get lost.
    const attached = result.attachments[0]!.attached;
    expect(ends(result)).toEqual(
      attached ? [['host.tap0', 'redirect-failed', 200]] : [['g0.eth0', 'guest-stack', 200]],
    );
  });
});

describe('several guests', () => {
  const two = `version: 1
name: two
programs: { xdp1: { object: ${objects}xdp1.o }, xdp2: { object: ${objects}xdp2.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: host } } }
  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, program: xdp2, placement: host } } }
workload: { use: udp-flood, config: { frames: 200 } }
`;

  it('each gets its own frames, and counts them in its own maps', async () => {
    const result = await run(two);
    expect(ends(result)).toEqual([
      ['host.eth0', 'transmitted', 100],
      ['host.tap0', 'xdp-drop', 100],
    ]);
    const udp = (100).toString(16).padStart(2, '0') + '00'.repeat(7);
    expect(result.maps.map(({ guest, entries }) => [guest, entries.map((entry) => entry.value)])).toEqual([
      ['g0', [udp]],
      ['g1', [udp]],
    ]);
  });

  it('what one of them is denied does not touch the other', async () => {
    // Each xdp program needs one map; the total admits one.
    const result = await run(`${two}policies: [{ use: quota, config: { total: { maps: 1 } } }]\n`);
    expect(result.attachments.map(({ node, attached }) => [node, attached])).toEqual([
      ['g0.eth0', true],
      ['g1.eth0', false],
    ]);
    expect(ends(result)).toEqual([
      ['g1.eth0', 'guest-stack', 100],
      ['host.tap0', 'xdp-drop', 100],
    ]);
  });
});

describe('several queues', () => {
  it('an offloaded program sees the frames of each', async () => {
    const features = '[VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_XDP_OFFLOAD]';
    const result = await run(
      testbed({ guest: `, queues: 4, features: ${features}, program: xdp1, placement: host` }).replace(
        'frames: 200',
        'frames: 200, flows: 16',
      ),
    );
    expect(ends(result)).toEqual([['host.tap0', 'xdp-drop', 200]]);
    expect(result.control[0]!.commands).toMatchObject({ MQ_VQ_PAIRS_SET: 1 });
    // The one error ack is the end of the walk over the map's keys.
    expect(result.control[0]!.acks.err).toBe(1);
    expect(result.audit).toEqual([]);
  });
});

describe('rates of several nics', () => {
  const calibration = new URL('../../testbeds/calibration/rfc-2019.yaml', import.meta.url).pathname;
  const two = (frames: string): string =>
    testbed({ guest: ', program: xdp1, placement: host' })
      .replace('taps: { tap0: {', 'taps: { tap1: {}, tap0: {')
      .replace('ports: [eth0, tap0]', 'ports: [eth0, tap0, tap1]')
      .replace(
        'name: model',
        `name: model\nplugins: { fabric: { use: model, config: { calibration: ${calibration} } } }`,
      )
      .replace(
        /workload: .*/,
        `  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, program: xdp1, placement: host } } }
workload: { use: udp-flood, config: { frames: 200, size: 200, flows: 3 } }
measure: { seconds: 0.05, samples: 1, frames: ${frames}, flows: 2 }`,
      );

  it('are each of the frames of the workload that are for it, of which there is only one', async () => {
    const { rates } = await run(two('workload'));
    expect(rates!.map(({ node, size, workloadFrames }) => [node, size, workloadFrames])).toEqual([
      ['g0.eth0', 200, 100],
      ['g1.eth0', 200, 100],
    ]);
    expect(
      rates!.map(({ ends }) => ends.filter(({ fate }) => fate === 'xdp-drop').map(({ place }) => place)),
    ).toEqual([['host.tap0'], ['host.tap1']]);
    expect(rates!.map(({ unexplained }) => unexplained)).toEqual([0, 0]);
  });

  it('are of equal frames where nothing else is said', async () => {
    const { rates } = await run(two('uniform'));
    expect(rates!.map(({ size, flows }) => [size, flows])).toEqual([
      [60, 2],
      [60, 2],
    ]);
  });
});

describe('reading a big map back', () => {
  it('can be ended between two keys', async () => {
    const answers = { ok: true, value: new Uint8Array(4) } as const;
    let looked = 0;
    const map = {
      spec: { maxEntries: 1_000_000 },
      readFrom: 'device',
      getFirst: async () => answers,
      getNext: async () => answers,
      lookup: async () => (looked++, answers),
    };
    const between = () => {
      if (looked < 10) return undefined;
      return Promise.reject(new Error('interrupted'));
    };
    await expect(readGuestMap(map as never, between)).rejects.toThrow('interrupted');
    expect(looked).toBe(10);
  });
});
