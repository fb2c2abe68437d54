import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import {
  BUILT_IN_PLUGINS,
  definePlugin,
  PluginRegistry,
  resolveTestbed,
  runTestbed,
  VirtualClock,
  WORKLOAD,
  type ControlChannel,
  type ControlChannelOptions,
  type Deployment,
  type LoadedProgram,
  type ResolvedTestbed,
  type RunResult,
  type Transport,
} from 'xdpbed';
import { fabricConformance } from 'xdpbed/conformance';
import { buildFrame, formatMac } from 'xdpbed/packet';
import plugin from './index.js';
import { Hook } from './hook.js';
import { VepaFabric } from './vepa-fabric.js';

const installed = dirname(createRequire(import.meta.url).resolve('xdpbed/package.json'));
const programs = join(installed, 'testbeds/programs/');

fabricConformance({ plugins: [...BUILT_IN_PLUGINS, plugin], fabric: 'vepa', programs });

const FRAMES = 8;

/** Frames to one address. */
const workload = definePlugin({
  name: 'to',
  version: '1.0.0',
  role: 'workload',
  api: '^2',
  description: 'made for a test',
  configSchema: Type.Object({ mac: Type.String(), size: Type.Integer({ default: 60 }) }),
  register: (scope, { mac, size }) =>
    scope.bindValue(WORKLOAD, {
      name: 'to',
      *frames({ senderMac }) {
        for (let index = 0; index < FRAMES; index++) {
          const eth = { src: formatMac(senderMac), dst: mac };
          const ipv4 = { src: '198.51.100.1', dst: '192.0.2.1' };
          const bytes = buildFrame({ eth, ipv4, udp: { srcPort: 1024 + index, dstPort: 9 }, size });
          yield { bytes, at: index * 1_000_000 };
        }
      },
    }),
});

interface Scene {
  readonly to: string;
  readonly size?: number;
  readonly programs?: string;
  readonly guest?: string;
  readonly sibling?: string;
  readonly tap?: string;
  readonly bridges?: string;
}

/** Three guests: the first and the last behind eth0, the other behind eth1, as is what else the first may have. */
function resolve(scene: Scene): Promise<ResolvedTestbed> {
  const text = `version: 1
name: vepa
plugins: { fabric: { use: vepa } }
programs:
  back: { object: ${programs}xdp2.o }
  drop: { object: ${programs}tap_drop.o }
  ${scene.programs ?? ''}
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 }, eth1: { mac: 52:54:00:00:00:02 } }
  taps: { tap0: { ${scene.tap ?? ''} }, tap1: {}, tap2: {}, tap3: {} }
  bridges: { br0: { ports: [eth0, tap0, tap2] }, br1: { ports: [eth1, tap1, tap3] } ${scene.bridges ?? ''} }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:00:10 ${scene.guest ?? ''} }
      ${scene.sibling ?? ''}
  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:11 } } }
  g2: { nics: { eth0: { tap: tap2, mac: 52:54:00:00:00:12 } } }
workload: { use: to, config: { mac: '${scene.to}', size: ${scene.size ?? 60} } }
checks: [{ kind: conservation }]
`;
  return resolveTestbed(
    join(programs, 'vepa.yaml'),
    text,
    new PluginRegistry([...BUILT_IN_PLUGINS, plugin, workload]),
  );
}

async function run(scene: Scene): Promise<RunResult> {
  const { runs, checks, failures = [] } = await runTestbed(await resolve(scene), { version: '0' });
  for (const { message } of failures) throw new Error(message);
  expect(checks.flatMap(({ problems }) => problems)).toEqual([]);
  return runs[0]!;
}

const ends = ({ ends }: RunResult) => ends.map(({ place, fate, frames }) => [place, fate, frames]);

describe('where frames end', () => {
  it('at the nic with the address, if it is behind the NIC that they came in by', async () => {
    expect(ends(await run({ to: '52:54:00:00:00:12' }))).toEqual([['g2.eth0', 'guest-stack', FRAMES]]);
    expect(ends(await run({ to: '52:54:00:00:00:11' }))).toEqual([['host.eth0', 'host-stack', FRAMES]]);
  });

  it('at each nic behind it and in the host, for a group', async () => {
    const result = await run({ to: 'ff:ff:ff:ff:ff:ff' });
    expect(ends(result)).toEqual([
      ['g0.eth0', 'guest-stack', FRAMES],
      ['g2.eth0', 'guest-stack', FRAMES],
      ['host.eth0', 'host-stack', FRAMES],
    ]);
    expect(result.framesCopied).toBe(2 * FRAMES);
  });

  it.each([
    ['guest', FRAMES],
    ['host', 0],
  ])('on the wire, when a program in the %s sends them back', async (placement, crossed) => {
    const result = await run({ to: '52:54:00:00:00:10', guest: `, program: back, placement: ${placement}` });
    expect(ends(result)).toEqual([['host.eth0', 'transmitted', FRAMES]]);
    const { framesToGuest, framesFromGuest } = result.links[0]!;
    expect([framesToGuest, framesFromGuest]).toEqual([crossed, crossed]);
  });

  it('at the NIC, when no hook can take them', async () => {
    const result = await run({ to: '52:54:00:00:00:10', size: 4000 });
    expect(ends(result)).toEqual([['host.eth0', 'frame-too-long', FRAMES]]);
  });
});

it('says what it does not have', async () => {
  await expect(run({ to: '52:54:00:00:00:10', tap: 'rx-program: drop' })).rejects.toThrow(
    'fabric vepa does not have a program in the Rx path of tap0',
  );
  await expect(run({ to: '52:54:00:00:00:10', bridges: ', br2: { ports: [br1] }' })).rejects.toThrow(
    'fabric vepa does not have br1, a bridge in a bridge',
  );
});

it('lets what a guest’s program redirects to another of its nics leave by that one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vepa-'));
  try {
    // As the guest counts its interfaces: eth0 is 2, eth1 is 3.
    for (const ifindex of [3, 9]) {
      const text = `.license GPL\n.program away\nr1 = ${ifindex}\nr2 = 0\ncall bpf_redirect\nexit\n`;
      await writeFile(join(folder, `to${ifindex}.s`), text);
    }
    const away = (file: string) =>
      run({
        to: '52:54:00:00:00:10',
        programs: `away: { object: ${join(folder, file)} }`,
        guest: ', program: away',
        sibling: 'eth1: { tap: tap3, mac: 52:54:00:00:00:13 }',
      });
    const result = await away('to3.s');
    expect(ends(result)).toEqual([['host.eth1', 'transmitted', FRAMES]]);
    expect(result.links.map(({ framesFromGuest }) => framesFromGuest)).toEqual([0, FRAMES, 0, 0]);
    expect(ends(await away('to9.s'))).toEqual([['g0.eth0', 'redirect-failed', FRAMES]]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('a deployment', () => {
  /** Channels of which only this is known: what breaks them, and how often each was closed. */
  class Channels implements Transport {
    readonly name = 'fake';
    readonly closed = new Map<string, number>();
    readonly broken: ((reason: string) => void)[] = [];

    /** @param limit how many can be opened */
    constructor(readonly limit = 9) {}

    async open({ label }: ControlChannelOptions): Promise<ControlChannel> {
      if (this.closed.size === this.limit) throw new Error('no more channels');
      this.closed.set(label, 0);
      return {
        connect: async () => ({}),
        onBroken: (handler: (reason: string) => void) => this.broken.push(handler),
        close: async () => this.closed.set(label, this.closed.get(label)! + 1),
      } as unknown as ControlChannel;
    }
  }

  async function deploy(channels: Channels): Promise<Deployment> {
    const { runs } = await resolve({ to: '52:54:00:00:00:10' });
    return new VepaFabric(new VirtualClock(), channels, new AbortController().signal).deploy(runs[0]!.plan);
  }
  const bytes = buildFrame({ eth: { src: '52:54:00:00:00:99', dst: '52:54:00:00:00:10', type: 0x88b5 } });

  it('keeps frames from a guest that is not up, or has broken its link', async () => {
    const channels = new Channels();
    const deployment = await deploy(channels);
    const last = async () => (await deployment.traffic([{ bytes, at: 0 }])).ends;
    expect(await last()).toEqual([{ place: 'host.tap0', fate: 'no-receive-buffer', frames: 1 }]);
    const { driver } = deployment.nics[0]!;
    if (driver.kind === 'local') await driver.up();
    expect(await last()).toContainEqual({ place: 'g0.eth0', fate: 'guest-stack', frames: 1 });
    for (const handler of channels.broken) handler('made for a test');
    expect(await last()).toContainEqual({ place: 'host.tap0', fate: 'link-broken', frames: 1 });
  });

  it('closes each channel once, however often it is taken down', async () => {
    const channels = new Channels();
    const deployment = await deploy(channels);
    await deployment.down();
    await deployment.down();
    expect([...channels.closed.values()]).toEqual([1, 1, 1]);
  });

  it('leaves nothing when it cannot be made', async () => {
    const channels = new Channels(2);
    await expect(deploy(channels)).rejects.toThrow('no more channels');
    expect([...channels.closed.values()]).toEqual([1, 1]);
  });
});

describe('a hook', () => {
  /** A program of one verdict, and how many slots of it are open. */
  function program(verdict: number) {
    const open = { slots: 0 };
    const loaded = {
      openFrames: () => {
        open.slots++;
        let bytes = new Uint8Array();
        return {
          load: (_: number, frame: Uint8Array) => (bytes = Uint8Array.from(frame)),
          packet: () => bytes,
          close: () => open.slots--,
        };
      },
      run: () => ({ verdict }),
    } as unknown as LoadedProgram;
    return { open, loaded };
  }
  const frame = Uint8Array.of(1, 2, 3);

  it('holds one program, which may be replaced, and counts verdicts of both', async () => {
    const hook = new Hook(2);
    const [drop, back] = [program(1), program(3)];
    const attachment = await hook.attach(drop.loaded);
    await expect(hook.attach(back.loaded)).rejects.toThrow('a program is attached already');
    expect(hook.run(frame).action).toBe('XDP_DROP');
    await attachment.replace(back.loaded);
    expect(hook.run(frame)).toEqual({ action: 'XDP_TX', bytes: frame, target: undefined });
    await attachment.detach();
    await attachment.detach();
    expect(hook.run(frame).action).toBe('XDP_PASS');
    expect(await attachment.counters()).toMatchObject({ XDP_DROP: 1, XDP_TX: 1, XDP_PASS: 0 });
    expect([drop.open.slots, back.open.slots]).toEqual([0, 0]);
  });

  it('keeps its program when another cannot take its place', async () => {
    const hook = new Hook(2);
    const attachment = await hook.attach(program(1).loaded);
    const full = {
      openFrames: () => {
        throw new Error('no room');
      },
    } as unknown as LoadedProgram;
    await expect(attachment.replace(full)).rejects.toThrow('no room');
    expect(hook.run(frame).action).toBe('XDP_DROP');
  });

  it('is not emptied by an attachment that was detached before', async () => {
    const hook = new Hook(2);
    const first = await hook.attach(program(1).loaded);
    await first.detach();
    await hook.attach(program(3).loaded);
    await first.detach();
    expect(hook.run(frame).action).toBe('XDP_TX');
  });
});
