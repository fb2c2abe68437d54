import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import type { VerdictCounts } from '../../src/core/contract/result.js';
import {
  closeFd,
  KernelLoadedProgram,
  Ledger,
  loadKernelProgram,
  probeBpf,
  progLiveFrames,
} from '../../src/linux/index.js';
import { libc } from '../../src/linux/libc.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { buildFrame, type FrameSpec } from '../../src/packet/frame-builder.js';
import { AbstractVerifier } from '../verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../verifier-abstract/config.js';
import { EarlyBridge } from './early-bridge.js';
import { HostTap } from './host-tap.js';
import { HookMap, pair } from './landing.js';
import { Topology } from './topology.js';
import { Wire } from './wire.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const NIC = 2;
const TAP0 = 3;
const TAP1 = 4;
const GUEST0 = '52:54:00:00:00:02';
const GUEST1 = '52:54:00:00:00:03';
const SENDER = '52:54:00:00:00:99';
const NOBODY = '52:54:00:00:00:77';

const PLAN = {
  host: {
    case: 'bridge',
    hook: 'bridge-early',
    cpus: 1,
    nics: [{ name: 'eth0', ifindex: NIC, mac: '52:54:00:00:00:01', program: undefined }],
    taps: [
      { name: 'tap0', ifindex: TAP0, rxProgram: undefined, ring: 1000 },
      { name: 'tap1', ifindex: TAP1, rxProgram: undefined, ring: 1000 },
    ],
    bridges: [{ name: 'br0', ports: ['eth0', 'tap0', 'tap1'] }],
  },
  guests: [
    { nics: [{ tap: 'tap0', mac: GUEST0, queues: 1 }] },
    { nics: [{ tap: 'tap1', mac: GUEST1, queues: 1 }] },
  ],
} as unknown as RunPlan;

const xdp = (text: string): Program => ({
  name: 'guests',
  type: BPF_PROG_TYPE_XDP,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});
const PASS = xdp('r0 = 2\nexit');
const DROP = xdp('r0 = 1\nexit');
/** Adds one to the first byte behind the Ethernet header. */
const STAMP = xdp(`
    r0 = 1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 15
    if r4 > r3 goto out
    r4 = *(u8 *)(r2 +14)
    r4 += 1
    *(u8 *)(r2 +14) = r4
    r0 = 2
  out:
    exit`);
/** Swaps the addresses and sends the frame back. */
const BOUNCE = xdp(`
    r0 = 1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto out
    r3 = *(u32 *)(r2 +0)
    r4 = *(u16 *)(r2 +4)
    r5 = *(u32 *)(r2 +6)
    *(u32 *)(r2 +0) = r5
    r5 = *(u16 *)(r2 +10)
    *(u16 *)(r2 +4) = r5
    *(u32 *)(r2 +6) = r3
    *(u16 *)(r2 +10) = r4
    r0 = 3
  out:
    exit`);
/** Sends everything back to an address, by its last byte. */
const sendTo = (address: string): Program =>
  xdp(`
    r0 = 1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto out
    ${address
      .split(':')
      .map((byte, at) => `*(u8 *)(r2 +${at}) = 0x${byte}`)
      .join('\n')}
    r0 = 3
  out:
    exit`);

const frame = (eth: { src?: string; dst?: string } = {}, more: Partial<FrameSpec> = {}): Uint8Array =>
  buildFrame({ eth: { src: SENDER, dst: GUEST0, ...eth, type: 0x88b5 }, size: 60, ...more });

async function load(program: Program): Promise<KernelLoadedProgram> {
  const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program, maps: new Map() });
  if (!verification.accepted) throw new Error(verification.reason);
  const environment = {
    maps: new Map(),
    world: {} as never,
    facts: verification.facts,
    properties: verification.properties,
  };
  return KernelLoadedProgram.load(program, environment);
}

/** A bridge with a NIC and two taps, and what hook `bridge-early` has there. */
class Scene {
  readonly taps: HostTap[];
  readonly #programs: KernelLoadedProgram[] = [];
  readonly #buffer = new Uint8Array(2048);

  private constructor(
    readonly ledger: Ledger,
    readonly topology: Topology,
    readonly wire: Wire,
    readonly bridge: EarlyBridge,
  ) {
    this.taps = PLAN.host.taps.map(
      (plan, index) =>
        new HostTap({
          plan,
          index,
          device: topology.taps.get(plan.name)!,
          hook: 'bridge-early',
          guestIfindex: 2,
          guestMac: [GUEST0, GUEST1][index]!,
          guestNode: `g${index}.eth0`,
          nics: [],
          namespace: topology.host,
          shim: undefined,
          early: bridge.ports.get(plan.name),
        }),
    );
  }

  static async open(folder: string): Promise<Scene> {
    const ledger = Ledger.create(folder);
    const topology = await Topology.build({ plan: PLAN, ledger });
    const { nics, taps } = PLAN.host;
    const ifindex = topology.bridges.get('br0')!;
    const bridge = new EarlyBridge({ name: 'br0', ifindex, nics, taps, namespace: topology.host });
    return new Scene(ledger, topology, Wire.open(PLAN, topology.wire), bridge);
  }

  /** The bridge knows the sender, as after a frame of his. */
  knowSender(address = SENDER): void {
    this.fdb('replace', address, 'dev', 'eth0', 'master', 'static');
  }

  fdb(...words: string[]): string {
    const out = execFileSync('bridge', ['-n', this.topology.host.name, 'fdb', ...words], {
      encoding: 'utf8',
    });
    this.bridge.follow();
    return out;
  }

  set(...words: string[]): void {
    execFileSync('ip', ['-n', this.topology.host.name, 'link', 'set', ...words]);
  }

  async attach(tap: number, program: Program, place: 'offload' | 'rx' = 'offload') {
    const loaded = await load(program);
    this.#programs.push(loaded);
    return this.taps[tap]![place].attach(loaded);
  }

  /** What a tap's program returned on the NIC, and on the tap's egress. */
  counts(tap = 0): { nic: VerdictCounts | undefined; egress: VerdictCounts | undefined } {
    const { offload } = this.taps[tap]!;
    return { nic: offload.verdictsOf(0), egress: offload.verdictsOf(1) };
  }

  send(bytes: Uint8Array, count = 1): void {
    for (let sent = 0; sent < count; sent++) this.wire.send(bytes);
  }

  /** As frames that never were skbs before the NIC. */
  sendXdp(bytes: Uint8Array, count: number): void {
    const { wire } = this.topology;
    const devices = HookMap.devices('wire', 1, wire);
    devices.set(0, pair(NIC, -1));
    const program = xdp('r1 = map[fd:1]\nr2 = 0\nr3 = 0\ncall bpf_redirect_map\nexit');
    const verdict = loadKernelProgram(program, new Map([[1, devices.fd]]));
    if (!verdict.accepted) throw new Error(verdict.log);
    try {
      expect(wire.run(() => progLiveFrames(verdict.programFd, { data: bytes, repeat: count }))).toBe(0);
    } finally {
      closeFd(verdict.programFd);
      devices.close();
    }
  }

  /** Frames that come to the guest until there are so many, or none comes any more. */
  async received(tap: number, expected: number): Promise<Uint8Array[]> {
    const frames: Uint8Array[] = [];
    for (const until = Date.now() + (expected === 0 ? 50 : 2000); Date.now() < until;) {
      const length = this.taps[tap]!.options.device.read(0, this.#buffer);
      if (length >= 0) frames.push(this.#buffer.slice(0, length));
      else if (expected > 0 && frames.length >= expected) break;
      else await sleep(5);
    }
    return frames;
  }

  /** Waits for frames on the wire. */
  async transmitted(expected: number): Promise<number> {
    for (const until = Date.now() + 2000; Date.now() < until && this.wire.received('eth0') < expected;)
      await sleep(5);
    return this.wire.received('eth0');
  }

  async close(): Promise<void> {
    for (const tap of this.taps) tap.close();
    this.bridge.close();
    for (const program of this.#programs) program.close();
    this.wire.close();
    await this.topology.close();
    this.ledger.close();
  }
}

describe.skipIf(skipped !== '')(`hook bridge-early${skipped}`, () => {
  let folder: string;
  let scene: Scene;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'xdpbed-early-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  beforeEach(async () => {
    scene = await Scene.open(folder);
  });
  afterEach(() => scene.close());

  it('drops on the NIC, so that the bridge never has the frame', async () => {
    await scene.attach(0, DROP);
    scene.knowSender();
    scene.send(frame(), 10);
    expect(await scene.received(0, 0)).toEqual([]);
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 10 }, egress: { XDP_DROP: 0 } });
  });

  describe.each(['skbs', 'XDP frames'])('frames that came as %s', (kind) => {
    it.each([
      ['untagged', undefined],
      ['tagged', [{ id: 100 }]],
      ['tagged twice', [{ id: 100 }, { id: 7 }]],
    ])('meet the program once when it passes them: %s', async (_, vlan) => {
      await scene.attach(0, PASS);
      scene.knowSender();
      const bytes = frame({}, { vlan: vlan as FrameSpec['vlan'] });
      if (kind === 'skbs') scene.send(bytes, 10);
      else scene.sendXdp(bytes, 10);
      const received = await scene.received(0, 10);
      expect(received).toEqual(Array.from({ length: 10 }, () => bytes));
      expect(scene.counts()).toMatchObject({ nic: { XDP_PASS: 10 }, egress: { XDP_PASS: 0 } });
      expect(scene.taps[0]!.early!.passedEarly).toBe(10);
    });
  });

  it('knows the mark when somebody watches, so that the skb is shared', async () => {
    // A packet socket for all frames, in place of tcpdump. A program that writes has the kernel copy what is shared.
    const fd = scene.topology.host.run(() => libc().socket(17, 3, 0x0300));
    try {
      await scene.attach(0, STAMP);
      scene.knowSender();
      scene.send(frame(), 10);
      const stamped = frame();
      stamped[14] = 1;
      expect(await scene.received(0, 10)).toEqual(Array.from({ length: 10 }, () => stamped));
      expect(scene.counts()).toMatchObject({ nic: { XDP_PASS: 10 }, egress: { XDP_PASS: 0 } });
    } finally {
      closeFd(fd);
    }
  });

  it('lets the bridge see frames of senders that it does not know, until it does', async () => {
    await scene.attach(0, DROP);
    scene.send(frame());
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 1 } });
    expect(scene.fdb('show', 'dev', 'eth0')).toContain(SENDER);
    scene.send(frame(), 5);
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 5 }, egress: { XDP_DROP: 1 } });
  });

  it('does not take a guest’s address for a sender’s behind the NIC', async () => {
    await scene.attach(0, DROP);
    scene.send(frame({ src: GUEST1 }));
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 1 } });
  });

  it.each([
    ['for all', 'ff:ff:ff:ff:ff:ff'],
    ['for many', '01:00:5e:00:00:05'],
    ['for an address that nobody has', NOBODY],
  ])('has the program meet frames that the bridge floods: %s', async (_, dst) => {
    await scene.attach(0, DROP);
    scene.knowSender();
    scene.send(frame({ dst }), 5);
    expect(await scene.received(1, 5)).toHaveLength(5);
    expect(await scene.received(0, 0)).toEqual([]);
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 5 } });
  });

  it('has the program meet frames of other guests, whatever is in them', async () => {
    await scene.attach(0, DROP);
    const { secret, ifindex } = scene.taps[0]!.early!.passed;
    const forged = new Uint8Array(12 + 60);
    new Int32Array(forged.buffer, 0, 3).set([...secret, ifindex]);
    forged.set(frame({ src: GUEST1 }), 12);
    const { device } = scene.taps[1]!.options;
    expect(device.write(0, frame({ src: GUEST1 }))).toBe(60);
    // Where the mark would be there is the destination address: the bridge takes it for one that it does not know.
    device.write(0, forged);
    expect(await scene.received(0, 0)).toEqual([]);
    expect(scene.counts().egress!.XDP_DROP).toBeGreaterThan(0);
    expect(scene.taps[0]!.early!.passedEarly).toBe(0);
  });

  it('does not take the mark of one guest’s program for another’s', async () => {
    await scene.attach(0, PASS);
    await scene.attach(1, DROP);
    scene.knowSender();
    // As when the bridge knows since a moment ago that the address has moved from one to the other.
    const address = GUEST1.replaceAll(':', '');
    const bridge = scene.topology.bridges.get('br0')!;
    scene.bridge.addresses.apply({ bridge, port: TAP0, address, vlan: 0, local: false, gone: false });
    scene.send(frame({ dst: GUEST1 }), 5);
    expect(await scene.received(1, 0)).toEqual([]);
    expect(scene.counts(0)).toMatchObject({ nic: { XDP_PASS: 5 } });
    expect(scene.counts(1)).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 5 } });
  });

  it('follows an address that moves', async () => {
    await scene.attach(0, DROP);
    await scene.attach(1, DROP);
    scene.knowSender();
    scene.send(frame(), 2);
    scene.fdb('replace', GUEST0, 'dev', 'tap1', 'master', 'static');
    scene.send(frame(), 3);
    scene.fdb('del', GUEST0, 'dev', 'tap1', 'master');
    scene.send(frame(), 4);
    expect(scene.counts(0)).toMatchObject({ nic: { XDP_DROP: 2 }, egress: { XDP_DROP: 4 } });
    expect(scene.counts(1)).toMatchObject({ nic: { XDP_DROP: 3 }, egress: { XDP_DROP: 4 } });
  });

  it('forgets all when it has missed a change, and asks again', async () => {
    await scene.attach(0, DROP);
    scene.knowSender();
    const commands = Array.from({ length: 1500 }, (_, index) => {
      const last = index.toString(16).padStart(4, '0');
      return `fdb add 02:00:00:00:${last.slice(0, 2)}:${last.slice(2)} dev eth0 master static\n`;
    });
    // Nobody reads in the meantime: this process waits for the tool.
    const host = scene.topology.host.name;
    execFileSync('bridge', ['-n', host, '-batch', '-'], { input: commands.join('') });
    scene.bridge.follow();
    expect(scene.bridge.addresses.size).toBe(0);
    scene.send(frame());
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 1 } });
    for (const until = Date.now() + 5000; scene.bridge.addresses.size === 0 && Date.now() < until;)
      await sleep(10);
    expect(scene.bridge.addresses.size).toBe(1500 + 3);
    scene.send(frame());
    expect(scene.counts()).toMatchObject({ nic: { XDP_DROP: 1 }, egress: { XDP_DROP: 1 } });
  });

  describe('what a program sends back', () => {
    it('goes out of the NIC where the bridge would send it', async () => {
      await scene.attach(0, BOUNCE);
      scene.knowSender();
      scene.send(frame(), 10);
      expect(await scene.transmitted(10)).toBe(10);
      expect(scene.counts()).toMatchObject({ nic: { XDP_TX: 10 }, egress: { XDP_TX: 0 } });
      expect(scene.taps[0]!.early!.sentBackVerdicts).toMatchObject({ XDP_TX: 10, XDP_PASS: 0 });
    });

    it('meets the program of the tap’s Rx path first', async () => {
      await scene.attach(0, BOUNCE);
      const rx = await scene.attach(0, DROP, 'rx');
      scene.knowSender();
      scene.send(frame(), 10);
      expect(scene.taps[0]!.rx.verdictsOf(1)).toMatchObject({ XDP_DROP: 10 });
      await rx.replace(await load(PASS));
      scene.send(frame(), 4);
      expect(scene.taps[0]!.rx.verdictsOf(1)).toMatchObject({ XDP_DROP: 10, XDP_PASS: 4 });
      await rx.detach();
      scene.send(frame(), 3);
      expect(await scene.transmitted(7)).toBe(7);
    });

    it.each([
      ['for an address that nobody has', NOBODY],
      ['for all', 'ff:ff:ff:ff:ff:ff'],
    ])('is flooded as from the tap, and meets the others’ programs: %s', async (_, dst) => {
      await scene.attach(0, sendTo(dst));
      await scene.attach(1, DROP);
      scene.knowSender();
      scene.send(frame(), 5);
      expect(await scene.transmitted(5)).toBe(5);
      expect(await scene.received(0, 0)).toEqual([]);
      expect(await scene.received(1, 0)).toEqual([]);
      expect(scene.counts(0)).toMatchObject({ nic: { XDP_TX: 5 }, egress: { XDP_TX: 0 } });
      expect(scene.counts(1)).toMatchObject({ nic: { XDP_DROP: 0 }, egress: { XDP_DROP: 5 } });
      expect(scene.taps[0]!.early!.sentBackVerdicts).toMatchObject({ XDP_TX: 0, XDP_PASS: 5 });
    });

    it('goes to another guest through that guest’s program', async () => {
      await scene.attach(0, sendTo(GUEST1));
      await scene.attach(1, PASS);
      scene.knowSender();
      scene.send(frame(), 5);
      expect(await scene.received(1, 5)).toHaveLength(5);
      expect(scene.counts(1)).toMatchObject({ nic: { XDP_PASS: 0 }, egress: { XDP_PASS: 5 } });
      expect(await scene.transmitted(0)).toBe(0);
    });

    it('goes nowhere when it is for the guest itself', async () => {
      await scene.attach(0, sendTo(GUEST0));
      scene.knowSender();
      scene.send(frame(), 5);
      expect(await scene.received(0, 0)).toEqual([]);
      expect(await scene.transmitted(0)).toBe(0);
      expect(scene.taps[0]!.early!.sentBackVerdicts).toMatchObject({ XDP_PASS: 5 });
    });
  });

  it('leaves frames alone once the last program is gone', async () => {
    const first = await scene.attach(0, DROP);
    const second = await scene.attach(1, DROP);
    scene.knowSender();
    await first.detach();
    scene.send(frame(), 5);
    scene.send(frame({ dst: GUEST1 }), 5);
    expect(await scene.received(0, 5)).toHaveLength(5);
    expect(scene.counts(1)).toMatchObject({ nic: { XDP_DROP: 5 } });
    await second.detach();
    scene.send(frame({ dst: GUEST1 }), 5);
    expect(await scene.received(1, 5)).toHaveLength(5);
    const links = execFileSync('ip', ['-n', scene.topology.host.name, '-j', 'link', 'show', 'eth0'], {
      encoding: 'utf8',
    });
    expect(JSON.parse(links)).toMatchObject([{ ifname: 'eth0' }]);
    expect((JSON.parse(links) as object[])[0]).not.toHaveProperty('xdp');
  });

  it('keeps no more addresses behind a tap than it shall, and none of another bridge or VLAN', async () => {
    await scene.attach(0, DROP);
    const bridge = scene.topology.bridges.get('br0')!;
    const base = { bridge, port: TAP1, vlan: 0, local: false, gone: false };
    const { addresses } = scene.bridge;
    const before = addresses.size;
    for (let index = 0; index < 200; index++) {
      addresses.apply({ ...base, address: `0200000000${index.toString(16).padStart(2, '0')}` });
    }
    // One of the 64 is the guest's own.
    expect(addresses.size).toBe(before + 63);
    addresses.apply({ ...base, address: '020000000000', gone: true });
    addresses.apply({ ...base, address: '0200000000ff' });
    expect(addresses.portOf('0200000000ff')).toBe(TAP1);
    for (const other of [{ bridge: 7 }, { vlan: 5 }, { port: 99 }, { local: true }]) {
      addresses.apply({ ...base, port: TAP0, ...other, address: '040000000000' });
      expect(addresses.portOf('040000000000')).toBeUndefined();
    }
  });

  describe('is refused, with the reason,', () => {
    it.each([
      ['with a port apart', ['tap1', 'type', 'bridge_slave', 'isolated', 'on'], /port tap1 is isolated/],
      ['with a port that is down', ['tap1', 'down'], /port tap1 is disabled/],
      ['with a locked port', ['eth0', 'type', 'bridge_slave', 'locked', 'on'], /port eth0 is locked/],
      [
        'where iptables sees frames',
        ['br0', 'type', 'bridge', 'nf_call_iptables', '1'],
        /iptables look at its frames/,
      ],
    ])('%s', async (_, words, reason) => {
      scene.set(...words);
      await expect(scene.attach(0, DROP)).rejects.toThrow(reason);
      expect(scene.counts().nic).toBeUndefined();
    });

    it('where nft lists a table for bridges', async () => {
      const tools = mkdtempSync(join(folder, 'tools-'));
      const path = process.env.PATH;
      const nft = join(tools, 'nft');
      process.env.PATH = `${tools}:${path}`;
      try {
        writeFileSync(nft, '#!/bin/sh\necho table bridge filter\n');
        chmodSync(nft, 0o755);
        await expect(scene.attach(0, DROP)).rejects.toThrow(/table filter of nftables has its frames/);
        writeFileSync(nft, '#!/bin/sh\necho it is broken >&2\nexit 1\n');
        await expect(scene.attach(0, DROP)).rejects.toThrow(/nft cannot say .*: it is broken/);
        writeFileSync(nft, '#!/bin/sh\nexit 0\n');
        await (await scene.attach(0, DROP)).detach();
      } finally {
        process.env.PATH = path;
      }
    });

    it('for a program that moves its metadata', async () => {
      await expect(scene.attach(0, xdp('r2 = -8\ncall bpf_xdp_adjust_meta\nr0 = 2\nexit'))).rejects.toThrow(
        /bpf_xdp_adjust_meta has no twin/,
      );
      expect(scene.counts().nic).toBeUndefined();
    });
  });
});
