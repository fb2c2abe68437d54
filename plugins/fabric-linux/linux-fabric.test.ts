import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { fabricConformance } from '../../src/conformance/fabric/fabric-conformance.js';
import {
  LOSSES,
  type ExchangeResult,
  type ResultDocument,
  type RunResult,
} from '../../src/core/contract/result.js';
import { buildFrame, writePcap } from '../../src/packet/index.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { Ledger, probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const programs = fileURLToPath(new URL('../../testbeds/programs/', import.meta.url));

/** Of the namespaces that these tests have made, those that are there: others make some at the same time. */
function left(made: readonly string[]): string[] {
  const there = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  return there.filter((name) => made.includes(name));
}

/** 4096 times 4096 rounds: some 120 ms of a CPU for each frame. */
const NESTED = `.license GPL
.program nested
  r1 = 4096
  r2 = subprog[outer]
  r3 = 0
  r4 = 0
  call bpf_loop
  r0 = 2
  exit
outer:
  r1 = 4096
  r2 = subprog[inner]
  r3 = 0
  r4 = 0
  call bpf_loop
  r0 = 0
  exit
inner:
  r0 = 0
  exit
`;

/**
 * Of ingress_ifindex and of what bpf_xdp_load_bytes returns the hooks make constants, so that the kernel knows that the
 * loop is not reached: its callback, the last function, goes, and the `lddw` of its address stays.
 */
const DEAD_CALLBACKS = {
  'an ifindex': `.license GPL
.program dead
  r6 = *(u32 *)(r1 +12)
  call live
  r2 = subprog[cb]
  if r6 != 0x12345 goto out
  r1 = 3
  r3 = 0
  r4 = 0
  call bpf_loop
out:
  r0 = 2
  exit
live:
  r0 = 0
  exit
cb:
  r0 = 0
  exit
`,
  'an error': `.license GPL
.program dead
  r6 = r1
  call live
  r1 = r6
  r2 = 0x10000
  r3 = r10
  r3 += -8
  r4 = 8
  call bpf_xdp_load_bytes
  r6 = r0
  r2 = subprog[cb]
  if r6 != 0 goto out
  r1 = 3
  r3 = 0
  r4 = 0
  call bpf_loop
out:
  r0 = 2
  exit
live:
  r0 = 0
  exit
cb:
  r0 = 0
  exit
`,
};

interface Scene {
  /** Of g0. */
  readonly kind?: 'tap-reader' | 'qemu';
  readonly case?: 'redirect' | 'bridge';
  readonly hook?: string;
  readonly program?: string;
  readonly rx?: string;
  readonly placement?: 'guest' | 'host';
  readonly queues?: number;
  readonly ports?: string;
  readonly workload?: string;
  readonly extra?: string;
  /** Guests with addresses of their own. */
  readonly addresses?: boolean;
  /** Further programs. */
  readonly objects?: string;
}

async function runScene(scene: Scene, signal?: AbortSignal): Promise<ResultDocument> {
  const { case: hostCase = 'redirect', hook, program, rx, placement = 'host', queues = 1 } = scene;
  const { kind = 'tap-reader' } = scene;
  const attach = program === undefined ? '' : `, program: ${program}, placement: ${placement}`;
  const features =
    queues === 1
      ? ''
      : ', features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_XDP_OFFLOAD]';
  const text = `version: 1
name: linux
plugins: { fabric: { use: linux }, executor: { use: wasm } }
programs:
  ${scene.objects ?? ''}
  xdp1: { object: ${programs}xdp1.o }
  xdp2: { object: ${programs}xdp2.o }
  pass: { object: ${programs}pass.o }
  drop: { object: ${programs}tap_drop.o }
  to-tap:
    object: ${programs}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }, { key: { mac: g1.eth0 }, value: 7 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }, { key: 7, value: { ifindex: tap1 } }]
host:
  case: ${hostCase}
  ${hook === undefined ? '' : `hook: ${hook}`}
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: { ${rx === undefined ? '' : `rx-program: ${rx}`} }, tap1: {} }
  bridges: { br0: { ports: ${scene.ports ?? '[eth0, tap0, tap1]'} } }
guests:
  g0: { kind: ${kind}, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, ${scene.addresses === true ? 'ipv4: 192.0.2.10, ' : ''}queues: ${queues} ${features} ${attach} } } }
  g1: { kind: tap-reader, nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03 } } }
workload: ${scene.workload ?? '{ use: udp-flood, config: { frames: 100 } }'}
checks: [{ kind: conservation }]
${scene.extra ?? ''}
`;
  const testbed = await resolveTestbed('linux.testbed.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  return runTestbed(testbed, { version: '0.0.0', signal });
}

async function run(scene: Scene): Promise<RunResult> {
  const result = await runScene(scene);
  expect(result.failures ?? []).toEqual([]);
  const conservation = result.checks.find(({ check }) => check === 'conservation');
  expect(conservation).toMatchObject({ passed: true, problems: [] });
  return result.runs[0]!;
}

const ends = (result: RunResult): [string, string, number][] =>
  result.ends.map(({ place, fate, frames }) => [place, fate, frames]);
const verdicts = (result: RunResult, site: string): object | undefined =>
  result.hooks.find((hook) => hook.site === site && hook.node.startsWith('g0'))?.verdicts;

describe.skipIf(skipped !== '')(`fabric linux${skipped}`, () => {
  const state = mkdtempSync(join(tmpdir(), 'xdpbed-state-'));
  const adding = vi.spyOn(Ledger.prototype, 'add');
  const made = (): string[] => adding.mock.calls.filter(([kind]) => kind === 'netns').map(([, id]) => id);
  beforeAll(() => {
    process.env.XDPBED_STATE = state;
  });
  afterEach(() => {
    expect(left(made())).toEqual([]);
    expect(readdirSync(state)).toEqual([]);
  });
  afterAll(() => {
    expect(made().length).toBeGreaterThan(0);
    adding.mockRestore();
    delete process.env.XDPBED_STATE;
    rmSync(state, { recursive: true });
  });

  fabricConformance({ plugins: BUILT_IN_PLUGINS, fabric: 'linux', guests: 'tap-reader', programs });

  // Frames alternate between the two guests: 50 for each.
  describe.each(['tail-call', 'devmap', 'cpumap', 'veth-shim'])('hook %s', (hook) => {
    it('drops what the program drops, and lets the other guest alone', async () => {
      const result = await run({ hook, program: 'xdp1' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.tap0', 'xdp-drop', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_DROP: 50, XDP_PASS: 0, XDP_TX: 0 });
      // UDP is protocol 17: the guest reads its map over the control channel.
      expect(result.maps[0]!.entries).toMatchObject([{ key: '11000000', value: '3200000000000000' }]);
    });

    it('passes what the program passes on to the guest', async () => {
      const result = await run({ hook, program: 'pass' });
      expect(ends(result)).toEqual([
        ['g0.eth0', 'guest-stack', 50],
        ['g1.eth0', 'guest-stack', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_PASS: 50 });
    });
  });

  describe.each(['tail-call', 'cpumap', 'veth-shim'])('hook %s', (hook) => {
    it('has what is sent back meet the program of the tap’s Rx path', async () => {
      const result = await run({ hook, program: 'xdp2', rx: 'drop' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.tap0', 'xdp-drop', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_TX: 50 });
      const rx = result.hooks.find(({ site }) => site === 'tap-rx')!;
      expect(rx.verdicts).toMatchObject({ XDP_DROP: 50 });
    });

    it('hands what is sent back to the host’s stack where the tap has none', async () => {
      const result = await run({ hook, program: 'xdp2' });
      expect(ends(result)).toContainEqual(['host.tap0', 'host-stack', 50]);
    });
  });

  /** Runs with a program that makes frames of 1514 bytes longer, and with one for the Rx path that sends all back. */
  async function growing(bytes: number, verdict: number, scene: Scene): Promise<RunResult> {
    const grow = join(state, `grow-${process.pid}.s`);
    const back = join(state, `back-${process.pid}.s`);
    writeFileSync(
      grow,
      `.license GPL
.program grow
  r2 = -${bytes}
  call bpf_xdp_adjust_head
  if r0 == 0 goto grown
  r0 = 0
  exit
grown:
  r0 = ${verdict}
  exit
`,
    );
    writeFileSync(back, '.license GPL\n.program back\n  r0 = 3\n  exit\n');
    try {
      return await run({
        program: 'grow',
        objects: `grow: { object: ${grow} }\n  back: { object: ${back} }`,
        workload: '{ use: udp-flood, config: { frames: 8, size: 1514 } }',
        ...scene,
      });
    } finally {
      rmSync(grow);
      rmSync(back);
    }
  }

  // An MTU of 1500, an Ethernet header, and room for a VLAN tag (xdp_ok_fwd_dev, net/core/dev.h): 1518 bytes.
  describe.each(['tail-call', 'cpumap', 'veth-shim'])(
    'hook %s, of frames that a program makes longer,',
    (hook) => {
      it('gives the tap those that it takes', async () => {
        expect(ends(await growing(4, 2, { hook }))).toEqual([
          ['g0.eth0', 'guest-stack', 4],
          ['g1.eth0', 'guest-stack', 4],
        ]);
      });

      it('knows where those end that it does not', async () => {
        expect(ends(await growing(5, 2, { hook }))).toEqual([
          ['g1.eth0', 'guest-stack', 4],
          ['host.tap0', 'frame-too-long', 4],
        ]);
      });

      it('knows that of those, too, that the Rx path’s program sends back', async () => {
        const result = await growing(100, 3, { hook, rx: 'back' });
        expect(verdicts(result, 'offload')).toMatchObject({ XDP_TX: 4 });
        expect(ends(result)).toEqual([
          ['g1.eth0', 'guest-stack', 4],
          ['host.tap0', 'frame-too-long', 4],
        ]);
      });
    },
  );

  it('does not ask a program on the device map’s entry how long it has made a frame', async () => {
    expect(ends(await growing(100, 2, { hook: 'devmap' }))).toEqual([
      ['g0.eth0', 'guest-stack', 4],
      ['g1.eth0', 'guest-stack', 4],
    ]);
  });

  it('refuses a program at hook devmap that sends frames back, with the reason', async () => {
    const result = await run({ hook: 'devmap', program: 'xdp2' });
    expect(result.attachments).toMatchObject([{ attached: false }]);
    expect(result.audit[0]!.reason).toMatch(/may return XDP_TX, which a device map's entry drops/);
    expect(ends(result)).toEqual([
      ['g0.eth0', 'guest-stack', 50],
      ['g1.eth0', 'guest-stack', 50],
    ]);
  });

  it.each(['redirect', 'bridge'] as const)(
    'refuses a program that the kernel would not end: bpf_loop within bpf_loop, case %s',
    async (hostCase) => {
      const object = join(state, '..', `nested-${process.pid}.s`);
      writeFileSync(object, NESTED);
      try {
        const result = await run({
          case: hostCase,
          program: 'nested',
          objects: `nested: { object: ${object} }`,
        });
        expect(result.attachments).toMatchObject([{ attached: false }]);
        expect(result.audit.map(({ reason }) => reason).join()).toMatch(
          /may run \d+ insns for one frame, the limit/,
        );
        expect(ends(result)).toContainEqual(['g0.eth0', 'guest-stack', 50]);
      } finally {
        rmSync(object);
      }
    },
  );

  it.each(
    Object.entries(DEAD_CALLBACKS).flatMap(([what, text]) =>
      (
        [
          ['tail-call', 'redirect'],
          ['veth-shim', 'redirect'],
          ['tcx-egress', 'bridge'],
          ['bridge-early', 'bridge'],
        ] as const
      ).map(([hook, hostCase]) => ({ what, text, hook, hostCase })),
    ),
  )('takes a callback that only $what keeps from being called, hook $hook', async (scene) => {
    const object = join(state, '..', `dead-${process.pid}.s`);
    writeFileSync(object, scene.text);
    try {
      const result = await run({
        case: scene.hostCase,
        hook: scene.hook,
        program: 'dead',
        objects: `dead: { object: ${object} }`,
      });
      expect(result.audit.map(({ reason }) => reason).join()).toBe('');
      expect(result.attachments).toMatchObject([{ attached: true }]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_PASS: 50 });
    } finally {
      rmSync(object);
    }
  });

  describe('hook tcx-egress', () => {
    it('drops on the way out of the bridge', async () => {
      const result = await run({ case: 'bridge', program: 'xdp1' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.tap0', 'xdp-drop', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_DROP: 50 });
    });

    it('puts what is sent back into the bridge, which sends it out by the NIC', async () => {
      const result = await run({ case: 'bridge', program: 'xdp2' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.eth0', 'transmitted', 50],
      ]);
    });

    it('refuses a program that could send frames past that of the tap’s Rx path', async () => {
      const refused = await run({ case: 'bridge', program: 'xdp2', rx: 'drop' });
      expect(refused.attachments).toMatchObject([{ attached: false }]);
      expect(refused.audit[0]!.reason).toMatch(/would get past drop, the program of the Rx path of tap0/);
      expect(ends(refused)).toContainEqual(['g0.eth0', 'guest-stack', 50]);
      const taken = await run({ case: 'bridge', program: 'xdp1', rx: 'drop' });
      expect(taken.attachments).toMatchObject([{ attached: true }]);
    });

    it('drops what is sent back from an skb with hook bridge-early, where the tap’s Rx path has a program', async () => {
      // For everybody: the bridge floods it, so that the NIC's program has not seen it for the guest.
      const frame = buildFrame({
        eth: { src: '52:54:00:ff:00:01', dst: 'ff:ff:ff:ff:ff:ff' },
        ipv4: { src: '198.18.0.1', dst: '192.0.2.255' },
        udp: { srcPort: 1, dstPort: 9 },
      });
      const broadcast = join(tmpdir(), `broadcast-${process.pid}.pcap`);
      writeFileSync(broadcast, writePcap(Array.from({ length: 5 }, () => ({ data: frame }))));
      const workload = `{ use: pcap-replay, config: { file: ${broadcast}, rewrite: none } }`;
      const result = await run({
        case: 'bridge',
        hook: 'bridge-early',
        program: 'xdp2',
        rx: 'drop',
        workload,
      });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 5],
        ['host.tap0', 'redirect-failed', 5],
      ]);
      const rx = result.hooks.find(({ site }) => site === 'tap-rx')!;
      expect(rx.frames).toBe(0);
      rmSync(broadcast);
    });

    it('shows the program VLAN tags that the stack has taken off', async () => {
      const workload = '{ use: udp-flood, config: { frames: 40, vlan: 100 } }';
      const guest = await run({ case: 'bridge', program: 'xdp1', placement: 'guest', workload });
      const host = await run({ case: 'bridge', program: 'xdp1', placement: 'host', workload });
      expect(host.maps[0]!.entries).toEqual(guest.maps[0]!.entries);
      expect(verdicts(host, 'offload')).toEqual(verdicts(guest, 'guest-driver'));
    });
  });

  describe('hook bridge-early', () => {
    const early = { case: 'bridge', hook: 'bridge-early' } as const;

    it('drops', async () => {
      const result = await run({ ...early, program: 'xdp1' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.tap0', 'xdp-drop', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_DROP: 50 });
    });

    it('passes, and counts once what it passes', async () => {
      const result = await run({ ...early, program: 'pass' });
      expect(ends(result)).toEqual([
        ['g0.eth0', 'guest-stack', 50],
        ['g1.eth0', 'guest-stack', 50],
      ]);
      expect(verdicts(result, 'offload')).toMatchObject({ XDP_PASS: 50 });
    });

    it('sends back', async () => {
      const result = await run({ ...early, program: 'xdp2' });
      expect(ends(result)).toEqual([
        ['g1.eth0', 'guest-stack', 50],
        ['host.eth0', 'transmitted', 50],
      ]);
    });

    it('shows the program VLAN tags, whichever way frames come', async () => {
      const workload = '{ use: udp-flood, config: { frames: 400, vlan: 100 } }';
      const guest = await run({ ...early, program: 'xdp1', placement: 'guest', workload });
      const host = await run({ ...early, program: 'xdp1', placement: 'host', workload });
      expect(host.maps[0]!.entries).toEqual(guest.maps[0]!.entries);
      expect(verdicts(host, 'offload')).toEqual(verdicts(guest, 'guest-driver'));
    });

    it('is refused for a tap that is in no bridge', async () => {
      const result = await run({ ...early, program: 'xdp1', ports: '[eth0, tap1]' });
      expect(result.attachments).toMatchObject([{ attached: false }]);
      expect(result.audit[0]!.reason).toMatch(/tap0 is no port of a bridge/);
    });

    it.each(['xdp1', 'xdp2', 'pass'])(
      'measures rates of %s and knows where every frame ended',
      async (program) => {
        const extra = 'measure: { seconds: 0.2, samples: 3, warm-up: 0.1, flows: 4 }';
        const { rates } = await run({ ...early, program, extra });
        expect(rates).toMatchObject([{ node: 'g0.eth0', hook: 'bridge-early', unexplained: 0 }]);
        expect(rates![0]!.framesSent).toBeGreaterThan(1000);
      },
    );
  });

  it('serves all queues of a nic', async () => {
    const result = await run({
      program: 'pass',
      queues: 2,
      workload: '{ use: udp-flood, config: { frames: 200, flows: 16 } }',
    });
    expect(ends(result)).toEqual([
      ['g0.eth0', 'guest-stack', 100],
      ['g1.eth0', 'guest-stack', 100],
    ]);
  });

  it('runs the guest’s program in this process, and takes from the tap what it sends', async () => {
    const result = await run({ program: 'xdp2', placement: 'guest', rx: 'drop' });
    expect(ends(result)).toEqual([
      ['g1.eth0', 'guest-stack', 50],
      ['host.tap0', 'xdp-drop', 50],
    ]);
    expect(result.links[0]).toMatchObject({ framesToGuest: 50, framesFromGuest: 50 });
  });

  it('measures rates and knows where every frame of it ended', async () => {
    const extra = 'measure: { seconds: 0.2, samples: 3, warm-up: 0.1, flows: 4 }';
    for (const placement of ['guest', 'host'] as const) {
      const { rates } = await run({ program: 'xdp1', placement, extra });
      const [rate] = rates!;
      expect(rate).toMatchObject({ node: 'g0.eth0', program: 'xdp1', placement, flows: 4, unexplained: 0 });
      expect(rate!.samples).toHaveLength(3);
      expect(rate!.framesPerSecond.median).toBeGreaterThan(1000);
      expect(rate!.framesSent).toBeGreaterThan(rate!.framesPerSecond.min * 0.6);
    }
  });

  it('sends as many frames as are wanted, and says how many that were', async () => {
    const extra = 'measure: { seconds: 0.3, samples: 3, warm-up: 0.2, rate: 20000, flows: 4 }';
    const { rates } = await run({ program: 'xdp1', extra });
    const [rate] = rates!;
    expect(rate).toMatchObject({ rate: 20_000, flows: 4, unexplained: 0 });
    expect(rate!.ceiling).toBeUndefined();
    // What a busy machine gives the generator no time for is not sent, but nothing is sent that is not due.
    expect(rate!.offeredPerSecond).toBeLessThan(20_000 * 1.25);
    expect(rate!.offeredPerSecond).toBeGreaterThan(500);
  });

  it.each([undefined, 30_000])('sends the frames of the workload over and over, at rate %s', async (rate) => {
    // Per VLAN tag and length others: what the program counts by protocol tells them apart.
    const workload =
      '{ use: imix, config: { frames: 300, mix: [{ weight: 2, size: 64, protocol: udp }, { weight: 1, size: 1514, protocol: tcp, vlan: 100 }, { weight: 1, size: 590, protocol: icmp }] } }';
    const paced = rate === undefined ? '' : `, rate: ${rate}`;
    const extra = `measure: { seconds: 0.2, samples: 2, warm-up: 0.1, frames: workload${paced} }`;
    const { rates, maps } = await run({ program: 'xdp1', workload, extra });
    const [measured] = rates!;
    expect(measured).toMatchObject({ unexplained: 0, ends: [{ place: 'host.tap0', fate: 'xdp-drop' }] });
    expect(measured!.flows).toBeUndefined();
    // Half of the frames are g0's.
    expect(measured!.workloadFrames).toBe(150);
    expect(measured!.size).toBeGreaterThan(64);
    expect(measured!.size).toBeLessThan(1518);
    expect(maps).toHaveLength(1);
  });

  it('sends frames of the workload for everybody, to each its copy', async () => {
    const frame = buildFrame({
      eth: { src: '52:54:00:ff:00:01', dst: 'ff:ff:ff:ff:ff:ff' },
      ipv4: { src: '198.18.0.1', dst: '192.0.2.255' },
      udp: { srcPort: 1, dstPort: 9 },
    });
    const broadcast = join(tmpdir(), `broadcasts-${process.pid}.pcap`);
    writeFileSync(broadcast, writePcap([{ data: frame }]));
    try {
      const workload = `{ use: pcap-replay, config: { file: ${broadcast}, rewrite: none } }`;
      const extra = 'measure: { seconds: 0.2, samples: 2, warm-up: 0.1, frames: workload, rate: 2000 }';
      const { rates } = await run({ case: 'bridge', program: 'xdp1', workload, extra });
      const [measured] = rates!;
      expect(measured).toMatchObject({ workloadFrames: 1, unexplained: 0 });
      expect(measured!.framesCopied).toBe(measured!.framesSent);
      expect(measured!.ends).toEqual([
        { place: 'g1.eth0', fate: 'guest-stack', frames: measured!.framesSent },
        { place: 'host.tap0', fate: 'xdp-drop', frames: measured!.framesSent },
      ]);
    } finally {
      rmSync(broadcast);
    }
  });

  describe('exchanges with a guest that is no machine', () => {
    const measuring = (...exchanges: string[]): string =>
      `measure: { seconds: 0.2, samples: 2, warm-up: 0.1, exchanges: [${exchanges.join(', ')}] }`;
    const exchangesOf = async (scene: Scene, ...exchanges: string[]): Promise<ExchangeResult[]> => {
      const { exchanges: found = [] } = await run({ ...scene, extra: measuring(...exchanges) });
      expect(new Set(found.map(({ node }) => node))).toEqual(new Set(['g0.eth0', 'g1.eth0']));
      expect(found).toHaveLength(2 * exchanges.length);
      return found.filter(({ node }) => node === 'g0.eth0');
    };

    it('are streams and requests of UDP, counted and turned round', async () => {
      const [stream, requests, tcp] = await exchangesOf(
        { case: 'bridge', addresses: true },
        '{ kind: udp-stream, size: 18 }',
        '{ kind: udp-rr, streams: 2 }',
        '{ kind: tcp-stream }',
      );
      expect(stream).toMatchObject({ kind: 'udp-stream', size: 18, streams: 1, seconds: 0.2 });
      expect(stream!.unmeasured).toBeUndefined();
      expect(stream!.guest).toMatch(/^tap-reader in C, which counts frames: no stack/);
      expect(stream!.samples).toHaveLength(2);
      // 18 bytes of each message are counted, and nothing else.
      const { bitsPerSecond, messagesReceivedPerSecond: got } = stream!;
      expect(bitsPerSecond!.min).toBeLessThanOrEqual(got! * 18 * 8 * 1.001);
      expect(bitsPerSecond!.max).toBeGreaterThanOrEqual(got! * 18 * 8 * 0.999);
      expect(got).toBeGreaterThan(100);

      expect(requests).toMatchObject({ kind: 'udp-rr', size: 1, streams: 2, unanswered: 0 });
      expect(requests!.transactionsPerSecond!.median).toBeGreaterThan(100);
      const { p50, p90, p99, max } = requests!.latency!;
      expect([p50, p90, p99, max]).toEqual([p50, p90, p99, max].sort((a, b) => a - b));
      // Two at a time: none can have waited for fewer than half of those in its time.
      expect(p50).toBeGreaterThan(1);

      expect(tcp).toMatchObject({ unmeasured: 'a tap-reader has no stack to speak TCP', samples: [] });
      expect(tcp!.bitsPerSecond).toBeUndefined();
    });

    it('get there through the NIC’s program, from where nothing comes back', async () => {
      const [stream, requests] = await exchangesOf(
        { addresses: true },
        '{ kind: udp-stream }',
        '{ kind: udp-rr }',
      );
      expect(stream!.messagesReceivedPerSecond).toBeGreaterThan(100);
      expect(requests!.unmeasured).toMatch(/^no answer came to any of \d+ requests$/);
    });

    it('are not had where an offloaded program drops them', async () => {
      const [stream] = await exchangesOf(
        { case: 'bridge', program: 'xdp1', addresses: true },
        '{ kind: udp-stream }',
      );
      expect(stream!.unmeasured).toBe('nothing of what was sent came to a receiver in the guest');
    });
  });

  it.each([
    ['tail-call', 'drop'],
    ['cpumap', 'drop'],
    ['veth-shim', 'drop'],
  ])('sends every frame anew, whatever programs wrote into the one before: hook %s', async (hook, rx) => {
    const extra = 'measure: { seconds: 0.1, samples: 2, warm-up: 0.1 }';
    const { rates } = await run({ hook, program: 'xdp2', rx, extra });
    expect(rates![0]!.unexplained).toBe(0);
    const notLost = rates![0]!.ends.filter(({ fate }) => !LOSSES.has(fate));
    expect(notLost.map(({ place, fate }) => [place, fate])).toEqual([['host.tap0', 'xdp-drop']]);
  });

  it('sends what comes back through a bridge out by the NIC, at any rate', async () => {
    const extra = 'measure: { seconds: 0.1, samples: 2, warm-up: 0.1 }';
    const { rates } = await run({ case: 'bridge', program: 'xdp2', extra });
    expect(rates![0]).toMatchObject({ hook: 'tcx-egress', unexplained: 0 });
    const notLost = rates![0]!.ends.filter(({ fate }) => !LOSSES.has(fate));
    expect(notLost.map(({ place, fate }) => [place, fate])).toEqual([['host.eth0', 'transmitted']]);
  });

  it('tells a program’s drops on the device map’s entry from the tap’s', async () => {
    const extra = 'measure: { seconds: 0.1, samples: 2, warm-up: 0.1 }';
    const { rates } = await run({ hook: 'devmap', program: 'xdp1', extra });
    expect(rates![0]).toMatchObject({ unexplained: 0, ends: [{ place: 'host.tap0', fate: 'xdp-drop' }] });
  });

  it.each(['', 'exchanges: [{ kind: udp-stream }]'])(
    'leaves nothing behind when it is interrupted while it measures: %s',
    async (exchanges) => {
      const interruption = new AbortController();
      // A process in the ledger is the reader of the tap, which is there only while something is measured.
      const looking = setInterval(() => {
        const ledgers = readdirSync(state).filter((name) => name.endsWith('.ledger'));
        const measuring = ledgers.some((name) =>
          readFileSync(join(state, name), 'utf8').includes('"process"'),
        );
        if (measuring) interruption.abort();
      }, 20);
      const program = exchanges === '' ? { program: 'pass' } : {};
      const extra = `measure: { seconds: 30, samples: 1, ${exchanges} }`;
      try {
        const scene: Scene = { case: 'bridge', addresses: true, ...program, extra };
        const { runs, interrupted } = await runScene(scene, interruption.signal);
        expect(runs).toEqual([]);
        expect(interrupted).toMatchObject({ index: 0 });
      } finally {
        clearInterval(looking);
      }
    },
  );

  it('leaves no program, map, link or file descriptor behind', async () => {
    // What the kernel keeps lives as long as somebody holds on to it: namespaces and file descriptors.
    const count = (): number => readdirSync('/proc/self/fd').length;
    // The first run starts what the process keeps: judges that wait for the next program.
    await run({ program: 'xdp2', rx: 'drop' });
    const first = count();
    await run({ program: 'xdp2', rx: 'drop' });
    await run({ program: 'xdp1', case: 'bridge' });
    await run({ program: 'xdp2', case: 'bridge', hook: 'bridge-early' });
    const exchanges = '[{ kind: udp-stream }, { kind: udp-rr, streams: 2 }, { kind: tcp-rr }]';
    const extra = `measure: { seconds: 0.1, samples: 1, warm-up: 0.1, frames: workload, rate: 1000, exchanges: ${exchanges} }`;
    await run({ program: 'pass', case: 'bridge', addresses: true, extra });
    expect(count()).toBe(first);
  });

  it.each([
    ['hook: tun_recvmsg', 'fabric linux has no hook tun_recvmsg in case redirect'],
    ['hook: tcx-egress', 'fabric linux has no hook tcx-egress in case redirect'],
  ])('does not take %s', async (hook, message) => {
    await expect(run({ hook: hook.slice('hook: '.length) })).rejects.toThrow(message);
  });
});
