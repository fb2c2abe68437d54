import { beforeEach, describe, expect, it } from 'vitest';
import { HelperAllowList } from '../../../plugins/policy-helper-allow-list/helper-allow-list.js';
import {
  EACCES,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOSPC,
  EOPNOTSUPP,
} from '../../bpf/errno.js';
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { FrameRing } from '../../bpf/runtime/frame-ring.js';
import { XDP_DROP } from '../../bpf/xdp.js';
import {
  encodeControlCommand,
  encodeVqPairsSet,
  featureSet,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
} from '../../virtio/index.js';
import { XdpbedError } from '../diagnostic.js';
import type { Party } from '../contract/party.js';
import type { Policy } from '../contract/policy.js';
import {
  XDP_FLAGS_DRV_MODE,
  XDP_FLAGS_HW_MODE,
  XDP_FLAGS_REPLACE,
  XDP_FLAGS_SKB_MODE,
  XDP_FLAGS_UPDATE_IF_NOEXIST,
} from './offload-netdev.js';
import { BPF_OFFLOAD } from './protocol/bpf-offload/bpf-offload.js';
import { readGuestMap } from './guest-map.js';
import { loadObjectProgram, requireAccepted } from './load-program.js';
import { programFromText } from '../../bpf/assembly-object.js';
import {
  mapSpec,
  OffloadRig,
  u32Key,
  type OffloadRigOptions,
} from '../../conformance/offload/offload-rig.js';
import { testingParty, type TestingParty } from './testing-party.js';

let host: TestingParty;
let guest: TestingParty;
beforeEach(() => {
  host = testingParty('host');
  guest = testingParty('guest');
});
const rig = (options: Partial<OffloadRigOptions> = {}): OffloadRig =>
  new OffloadRig({ host, guest, ...options });

const COUNTERS = mapSpec('counters', {}, [{ key: u32Key(1), value: Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0) }]);
const COUNT = programFromText(
  'count',
  `
    r1 = 1
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[counters]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
  out:
    r0 = 1
    exit`,
  [COUNTERS],
);
const PASS = programFromText('pass', 'r0 = 2\nexit');
const OBJECT = { maps: [COUNTERS], programs: [COUNT, PASS] };

describe('a program offloaded by the guest driver', () => {
  it('runs on the host, counts in the host’s map, and the guest reads it back', async () => {
    const r = rig();
    const installed = await r.netdev.install(OBJECT, COUNT, 'offload');
    expect(installed).toMatchObject({ ok: true });
    if (!installed.ok) return;
    const frames = new FrameRing(host.runtime.space, 1);
    frames.load(0, new Uint8Array(60));
    for (let i = 0; i < 3; i++) expect(r.place.program!.run(frames, 0).verdict).toBe(XDP_DROP);
    const map = installed.value.maps.get('counters')!;
    expect(map.readFrom).toBe('device');
    const entries = await readGuestMap(map);
    expect(entries.ok && entries.value.map(({ value }) => value[0])).toEqual([0, 10, 0, 0]);
    expect(r.netdev.query()).toMatchObject({ mode: 'offload', program: { name: 'count' } });
    expect(r.netdev.controlCounts).toMatchObject({
      commands: { 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_MAP/UPDATE_ELEM': 1, 'EBPF_PROG/SET_OFFLOAD': 1 },
    });
    // The only error ack is the end of the walk.
    expect(r.netdev.controlCounts.acks.err).toBe(1);
    expect(r.device.statistics.acks.err).toBe(1);
    expect(r.audit).toEqual([]);
    expect(await r.netdev.detach()).toEqual({ ok: true, value: undefined });
    expect(r.place.program).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
    expect(r.driverPlace.history).toEqual([]);
  });

  it('has more initial elements than the device takes at once for a trie', async () => {
    // A device refuses batches of more than 8192 bits of prefixes, here 256 elements.
    const prefixes = Array.from({ length: 1000 }, (_, i) => ({
      key: Uint8Array.of(32, 0, 0, 0, 10, 0, i >> 8, i & 0xff),
      value: new Uint8Array(8).fill(i & 0xff),
    }));
    const { BPF_MAP_TYPE_LPM_TRIE } = BPF_MAP_TYPE;
    const trie = { type: BPF_MAP_TYPE_LPM_TRIE, keySize: 8, flags: BPF_F_NO_PREALLOC };
    const install = async (maxEntries: number) => {
      const r = rig({ protocol: BPF_OFFLOAD });
      const blocked = mapSpec('blocked', { ...trie, maxEntries }, prefixes);
      const program = programFromText('pass', 'r1 = map[blocked]\nr0 = 2\nexit', [blocked]);
      return r.netdev.install({ maps: [blocked], programs: [program] }, program, 'offload');
    };
    const installed = await install(1000);
    if (!installed.ok) throw new Error(installed.message);
    const entries = await readGuestMap(installed.value.maps.get('blocked')!);
    if (!entries.ok) throw new Error(entries.message);
    const written = entries.value.map(({ key, value }) => [Buffer.from(key).readUInt16BE(6), value[7]]);
    expect(written.sort(([a], [b]) => a! - b!)).toEqual(prefixes.map((_, i) => [i, i & 0xff]));
    // A trie that is full is no matter of how many at once.
    expect(await install(900)).toMatchObject({
      ok: false,
      errno: ENOSPC,
      message: expect.stringContaining('blocked') as string,
    });
  });

  it('has its work counted where the host’s party says so', async () => {
    const r = rig({ host: { ...host, countWork: true } });
    expect(await r.netdev.install(OBJECT, COUNT, 'offload')).toMatchObject({ ok: true });
    const frames = new FrameRing(host.runtime.space, 1);
    frames.load(0, new Uint8Array(60));
    r.place.program!.run(frames, 0);
    const work = r.place.program!.work!;
    // Each line of the program but the label: the element is there.
    expect([work.insns, work.helpers, work.calls(1), work.bytes]).toEqual([12, [1], 1, 4]);
    const plain = rig();
    await plain.netdev.install(OBJECT, COUNT, 'offload');
    expect(plain.place.program!.work).toBeUndefined();
  });

  it('sends maps first, then a copy of the program with the device’s handles', async () => {
    const r = rig();
    const before = structuredClone(COUNT.insns);
    await r.netdev.install(OBJECT, COUNT, 'offload');
    expect(Object.keys(r.netdev.controlCounts.commands)).toEqual([
      'EBPF_MAP/CREATE_MAP',
      'EBPF_MAP/UPDATE_ELEM',
      'EBPF_PROG/SET_OFFLOAD',
    ]);
    expect(COUNT.insns).toEqual(before);
  });

  it('is replaced in one step: the old one goes after the new one is attached, and stays when that fails', async () => {
    const r = rig();
    await r.netdev.install(OBJECT, COUNT, 'offload');
    const old = r.place.program;
    expect(await r.netdev.install(OBJECT, PASS, 'offload')).toMatchObject({ ok: true });
    expect(r.place.program).not.toBe(old);
    expect(r.place.history).toEqual(['attach', 'replace']);
    expect(r.accounts.usageOf('guest0')).toMatchObject({ maps: 0, programs: 1, insns: 2 });

    const bad = programFromText('bad', 'r0 = 2\nagain:\ngoto again');
    const trusting = new OffloadRig({ host, guest, netdev: { verifyBeforeOffload: false } });
    await trusting.netdev.install(OBJECT, PASS, 'offload');
    const kept = trusting.place.program;
    expect(await trusting.netdev.install(OBJECT, bad, 'offload')).toMatchObject({ ok: false, errno: EFAULT });
    expect(trusting.place.program).toBe(kept);
    expect(trusting.audit.at(-1)).toMatchObject({ command: 'EBPF_PROG/SET_OFFLOAD', code: 'back-edge' });
  });

  it('is checked by the guest’s verifier and helper list before anything is sent', async () => {
    const r = rig();
    const loops = programFromText('loops', 'r0 = 2\nagain:\ngoto again');
    expect(await r.netdev.loadOffload(OBJECT, loops)).toMatchObject({
      ok: false,
      errno: EACCES,
      rejection: { code: 'back-edge', programName: 'loops' },
    });
    const fib = programFromText('fib', 'call bpf_fib_lookup\nr0 = 2\nexit');
    expect(await r.netdev.loadOffload(OBJECT, fib)).toMatchObject({
      ok: false,
      errno: EINVAL,
      message:
        "insn 0: helper bpf_fib_lookup cannot be offloaded: the guest's driver refused it, and did not ask the host (driver-helpers)",
    });
    const lru = mapSpec('lru', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH });
    const usesLru = programFromText('lru', 'r1 = map[lru]\nr0 = 2\nexit', [lru]);
    expect(await r.netdev.loadOffload({ maps: [lru], programs: [usesLru] }, usesLru)).toMatchObject({
      ok: false,
      message: expect.stringContaining('BPF_MAP_TYPE_LRU_HASH cannot be offloaded') as string,
    });
    expect(r.netdev.controlCounts.commands).toEqual({});
  });

  it('leaves nothing on the device when something on the way fails', async () => {
    const big = mapSpec('big', { maxEntries: 100_000_000 });
    const usesBoth = programFromText('both', 'r1 = map[counters]\nr1 = map[big]\nr0 = 2\nexit', [
      COUNTERS,
      big,
    ]);
    const r = rig();
    const before = host.runtime.space.bytesInUse;
    const result = await r.netdev.install(
      { maps: [COUNTERS, big], programs: [usesBoth] },
      usesBoth,
      'offload',
    );
    expect(result).toMatchObject({ ok: false, message: expect.stringContaining('map big') as string });
    expect(r.device.objectCount).toBe(0);
    expect(host.runtime.space.bytesInUse).toBe(before);
    const denied = rig({ policies: [new HelperAllowList({ base: 'none', allow: [], deny: [] })] });
    expect(await denied.netdev.install(OBJECT, COUNT, 'offload')).toMatchObject({ ok: false, errno: EFAULT });
    expect(denied.device.objectCount).toBe(0);
    expect(denied.accounts.guests).toEqual([]);
  });

  it('offloads global data, without the flag that only a loader has use for', async () => {
    const rodata = mapSpec('.rodata', { maxEntries: 1, flags: BPF_F_RDONLY_PROG | BPF_F_MMAPABLE }, [
      { key: u32Key(0), value: Uint8Array.of(1, 0, 0, 0, 9, 0, 0, 0) },
    ]);
    const reads = programFromText('reads', 'r1 = map[.rodata]\nr0 = 2\nexit', [rodata]);
    const spec = { ...reads, references: [{ ...reads.references[0]!, value: true, offset: 4 }] };
    const r = rig();
    const loaded = await r.netdev.install({ maps: [rodata], programs: [spec] }, spec, 'offload');
    expect(loaded).toMatchObject({ ok: true });
  });
});

describe('driver mode and offload mode', () => {
  it('exclude each other, with the RFC’s messages', async () => {
    const r = rig();
    await r.netdev.install(OBJECT, COUNT, 'driver');
    expect(r.driverPlace.program).toBeDefined();
    expect(await r.netdev.install(OBJECT, COUNT, 'offload')).toMatchObject({
      ok: false,
      errno: EBUSY,
      message: 'program already attached in driver mode',
    });
    expect(r.device.objectCount).toBe(0);
    await r.netdev.detach();
    await r.netdev.install(OBJECT, COUNT, 'offload');
    expect(await r.netdev.install(OBJECT, COUNT, 'driver')).toMatchObject({
      ok: false,
      message: 'program already attached in offload mode',
    });
    expect(guest.runtime.maps.size).toBe(0);
  });

  it('take only programs that were loaded for them', async () => {
    const r = rig();
    const other = rig();
    const plain = await r.netdev.loadDriver(OBJECT, PASS);
    const bound = await other.netdev.loadOffload(OBJECT, PASS);
    if (!plain.ok || !bound.ok) throw new Error('not loaded');
    expect(await r.netdev.attach(plain.value, { flags: XDP_FLAGS_HW_MODE })).toMatchObject({
      ok: false,
      message: 'xdpoffload of non-bound program',
    });
    expect(await r.netdev.attach(bound.value, { flags: XDP_FLAGS_HW_MODE })).toMatchObject({
      ok: false,
      message: 'program bound to different dev',
    });
    expect(await other.netdev.attach(bound.value, { flags: XDP_FLAGS_DRV_MODE })).toMatchObject({
      ok: false,
    });
    await plain.value.close();
    expect(await r.netdev.attach(plain.value)).toMatchObject({
      ok: false,
      message: 'the program is not loaded',
    });
  });

  it('honour the XDP flags', async () => {
    const r = rig();
    const first = await r.netdev.loadDriver(OBJECT, PASS);
    const second = await r.netdev.loadDriver(OBJECT, COUNT);
    if (!first.ok || !second.ok) throw new Error('not loaded');
    const attach = (program: typeof first.value, flags: number, expected?: typeof first.value) =>
      r.netdev.attach(program, { flags, expected });
    expect(await attach(first.value, 1 << 9)).toMatchObject({ ok: false, errno: EINVAL });
    expect(await attach(first.value, XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE)).toMatchObject({
      errno: EINVAL,
    });
    expect(await attach(first.value, XDP_FLAGS_SKB_MODE)).toMatchObject({ errno: EOPNOTSUPP });
    expect(await attach(first.value, XDP_FLAGS_UPDATE_IF_NOEXIST)).toMatchObject({ ok: true });
    expect(await attach(second.value, XDP_FLAGS_UPDATE_IF_NOEXIST)).toMatchObject({ errno: EBUSY });
    expect(await attach(second.value, XDP_FLAGS_REPLACE, second.value)).toMatchObject({ errno: EEXIST });
    expect(await attach(second.value, XDP_FLAGS_REPLACE, first.value)).toMatchObject({ ok: true });
    expect(r.netdev.query()?.program).toBe(second.value);
    expect(await r.netdev.detach({ flags: XDP_FLAGS_HW_MODE })).toMatchObject({ errno: ENOENT });
    expect(await r.netdev.close()).toMatchObject({ ok: true });
    expect(r.netdev.query()).toBeUndefined();
    expect(guest.runtime.maps.size).toBe(0);
  });

  it('keep a closed program as long as it is attached', async () => {
    const r = rig();
    const loaded = await r.netdev.loadDriver(OBJECT, COUNT);
    if (!loaded.ok) throw new Error('not loaded');
    await r.netdev.attach(loaded.value);
    await loaded.value.close();
    expect(guest.runtime.maps.size).toBe(1);
    const value = await loaded.value.maps.get('counters')!.lookup(u32Key(1));
    expect(value).toMatchObject({ ok: true });
    await r.netdev.detach();
    expect(guest.runtime.maps.size).toBe(0);
  });
});

describe('the guest driver and a device that misbehaves', () => {
  it('does not believe an answer that makes no sense, and does not throw', async () => {
    for (const answer of [[], [9], [1], [0, 0], new Array<number>(41).fill(0)]) {
      const r = new OffloadRig({
        host,
        guest,
        netdev: {
          control: { send: async () => Uint8Array.from(answer) },
        },
      });
      expect(await r.netdev.install(OBJECT, COUNT, 'offload')).toMatchObject({ ok: false, errno: EFAULT });
      expect(r.netdev.controlCounts.acks.err).toBe(1);
    }
  });

  it('reports a broken link as a device that is gone', async () => {
    const send = () => Promise.reject(new XdpbedError('virtio-violation', 'the link is broken'));
    const r = new OffloadRig({ host, guest, netdev: { control: { send } } });
    expect(await r.netdev.install(OBJECT, PASS, 'offload')).toMatchObject({ ok: false, errno: ENODEV });
  });
});

describe('the device', () => {
  it('records every ruling of every policy, also after a deny, and takes a throw for a deny', async () => {
    const policies: Policy[] = [
      { name: 'no', rule: () => ({ ruling: 'deny', reason: 'because' }) },
      {
        name: 'broken',
        rule: () => {
          throw new Error('boom');
        },
      },
      { name: 'yes', rule: () => ({ ruling: 'allow', reason: 'fine' }) },
      { name: 'mute', rule: () => undefined as never },
    ];
    const r = rig({ policies });
    await expect(r.createArray()).rejects.toThrow();
    await expect(r.createArray()).rejects.toThrow();
    expect(
      r.records.rulings.map(({ policy, ruling, reason, count }) => [policy, ruling, reason, count]),
    ).toEqual([
      ['no', 'deny', 'because', 2],
      ['broken', 'deny', 'the policy failed: boom', 2],
      ['yes', 'allow', 'fine', 2],
      ['mute', 'deny', 'the policy gave no ruling', 2],
    ]);
    expect(r.audit[0]).toEqual({
      request: 1,
      time: 0,
      guest: 'guest0',
      nic: 'eth0',
      command: 'EBPF_MAP/CREATE_MAP',
      outcome: 'error-ack',
      reason: 'denied: by no: because',
    });
  });

  it('answers whatever a plugin or a listener throws', async () => {
    const boom = (): never => {
      throw new Error('boom');
    };
    const broken: Party = {
      ...host,
      mapBackend: { name: 'broken', create: boom, memoryCost: () => 8 },
      verifier: { name: 'broken', verify: boom },
    };
    const r = rig({ host: broken, device: { events: { ruling: boom, audit: boom } } });
    await expect(r.createArray()).rejects.toThrow('CREATE_MAP ended in error');
    expect(
      await r.send({ kind: 'set-offload', insns: new Uint8Array(16), gplCompatible: true }),
    ).toMatchObject({
      kind: 'error',
    });
    expect(r.device.statistics.refusals.internal).toBe(2);
    expect(r.accounts.guests).toEqual([]);
  });

  it('knows the standard commands that were negotiated, and refuses the others', async () => {
    const features = featureSet(VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_MAC_ADDR);
    const r = rig({ device: { features, queuePairs: 4 } });
    expect(await r.netdev.setQueuePairs(4)).toMatchObject({ ok: true });
    expect(await r.netdev.setQueuePairs(5)).toMatchObject({ ok: false });
    expect(await r.netdev.setMacAddress(Uint8Array.of(2, 0, 0, 0, 0, 9))).toMatchObject({ ok: true });
    expect(await r.netdev.setMacAddress(Uint8Array.of(1, 0, 0, 0, 0, 9))).toMatchObject({ ok: false });
    expect(await r.netdev.setMacAddress(Uint8Array.of(2, 0))).toMatchObject({ ok: false });
    const plain = rig();
    const pairs = encodeControlCommand({ class: 4, command: 0, payload: encodeVqPairsSet(1) });
    expect(await plain.sendBytes(pairs, 1)).toEqual(Uint8Array.of(1));
    expect(await plain.sendBytes(Uint8Array.of(200, 7), 1)).toEqual(Uint8Array.of(1));
    expect(plain.audit.map(({ command }) => command)).toEqual(['MQ_VQ_PAIRS_SET', 'class 200 command 7']);
  });

  it('does not take notification coalescing for an eBPF command', async () => {
    const r = rig({ device: { features: featureSet(VIRTIO_NET_F_NOTF_COAL) } });
    await expect(r.createArray()).rejects.toThrow();
  });
});

describe('loadObjectProgram', () => {
  const options = { world: { trace: () => {} } };

  it('brings up only what the program needs, with its initial elements and those that were given', async () => {
    const before = guest.runtime.space.bytesInUse;
    const unused = mapSpec('unused');
    const object = { maps: [COUNTERS, unused], programs: [COUNT] };
    const initial = new Map([
      ['counters', [{ key: u32Key(2), value: new Uint8Array(8).fill(1) }]],
      ['unused', [{ key: u32Key(0), value: new Uint8Array(8) }]],
    ]);
    const result = requireAccepted(await loadObjectProgram(guest, object, COUNT, { ...options, initial }));
    expect([...result.maps.keys()]).toEqual(['counters']);
    expect(result.maps.get('counters')!.lookup(u32Key(1))).toEqual(Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0));
    expect(result.maps.get('counters')!.lookup(u32Key(2))).toEqual(new Uint8Array(8).fill(1));
    result.close();
    result.close();
    expect(guest.runtime.space.bytesInUse).toBe(before);
  });

  it('shares maps that are given, and leaves them open', async () => {
    const first = requireAccepted(await loadObjectProgram(guest, OBJECT, COUNT, options));
    const second = requireAccepted(
      await loadObjectProgram(guest, OBJECT, COUNT, { ...options, maps: first.maps }),
    );
    expect(second.maps.get('counters')).toBe(first.maps.get('counters'));
    second.close();
    expect(first.maps.get('counters')!.lookup(u32Key(1))).toBeInstanceOf(Uint8Array);
    first.close();
  });

  it('freezes .rodata after it was written and shows it to the verifier', async () => {
    const rodata = mapSpec('.rodata', { maxEntries: 1, flags: BPF_F_RDONLY_PROG, frozen: true }, [
      { key: u32Key(0), value: new Uint8Array(8).fill(5) },
    ]);
    const reads = programFromText('reads', 'r1 = map[.rodata]\nr0 = 2\nexit', [rodata]);
    let seen: Uint8Array | undefined;
    const curious: Party = {
      ...guest,
      verifier: {
        name: 'curious',
        verify: (request) => {
          seen = request.maps.get(1)!.frozenValue;
          return guest.verifier.verify(request);
        },
      },
    };
    const result = requireAccepted(
      await loadObjectProgram(curious, { maps: [rodata], programs: [reads] }, reads, options),
    );
    expect(seen).toEqual(new Uint8Array(8).fill(5));
    expect(result.maps.get('.rodata')!.update(u32Key(0), new Uint8Array(8), 0n)).toBeLessThan(0);
    result.close();
  });

  it('loads tail-called programs with the same maps and puts them into their PROG_ARRAY', async () => {
    const before = guest.runtime.space.bytesInUse;
    const jumps = mapSpec('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }, [
      { key: u32Key(3), programName: 'count' },
    ]);
    const main = programFromText('main', 'r2 = map[jumps]\nr3 = 3\ncall bpf_tail_call\nr0 = 2\nexit', [
      jumps,
    ]);
    const object = { maps: [jumps, COUNTERS], programs: [main, COUNT] };
    const result = requireAccepted(await loadObjectProgram(guest, object, main, options));
    expect([...result.maps.keys()].sort()).toEqual(['counters', 'jumps']);
    const frames = new FrameRing(guest.runtime.space, 1);
    frames.load(0, new Uint8Array(60));
    expect(result.loaded.run(frames, 0)).toMatchObject({ verdict: XDP_DROP });
    expect(result.maps.get('counters')!.lookup(u32Key(1))).toMatchObject({ 0: 8 });
    frames.close();
    result.close();
    expect(guest.runtime.space.bytesInUse).toBe(before);
  });

  it('refuses tail calls between programs with frags and without, as a kernel does', async () => {
    const before = guest.runtime.space.bytesInUse;
    const jumps = mapSpec('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }, [
      { key: u32Key(3), programName: 'count' },
    ]);
    const main = programFromText('main', 'r2 = map[jumps]\nr3 = 3\ncall bpf_tail_call\nr0 = 2\nexit', [
      jumps,
    ]);
    const load = (mainFrags: boolean, countFrags: boolean) => {
      const caller = { ...main, frags: mainFrags };
      const object = { maps: [jumps, COUNTERS], programs: [caller, { ...COUNT, frags: countFrags }] };
      return loadObjectProgram(guest, object, caller, options);
    };
    await expect(load(true, false)).rejects.toMatchObject({
      code: 'object-invalid',
      message: expect.stringContaining('only main is for frames in several buffers') as string,
    });
    await expect(load(false, true)).rejects.toThrow('only count is for frames in several buffers');
    const both = requireAccepted(await load(true, true));
    const frames = both.loaded.openFrames(1, 9000);
    frames.load(0, new Uint8Array(9000));
    expect(both.loaded.run(frames, 0)).toMatchObject({ verdict: XDP_DROP });
    frames.close();
    both.close();
    expect(guest.runtime.space.bytesInUse).toBe(before);
  });

  it('builds maps in maps, the inner one first', async () => {
    const before = guest.runtime.space.bytesInUse;
    const inner = mapSpec('inner');
    const outer = mapSpec(
      'outer',
      { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4, inner: mapSpec('template') },
      [{ key: u32Key(0), mapName: 'inner' }],
    );
    const uses = programFromText('uses', 'r1 = map[outer]\nr0 = 2\nexit', [outer]);
    const result = requireAccepted(
      await loadObjectProgram(guest, { maps: [outer, inner], programs: [uses] }, uses, options),
    );
    expect([...result.maps.keys()]).toEqual(['inner', 'outer']);
    result.close();
    expect(guest.runtime.space.bytesInUse).toBe(before);
  });

  it('leaves nothing behind when it is rejected or something is wrong', async () => {
    const before = guest.runtime.space.bytesInUse;
    const loops = programFromText('loops', 'r1 = map[counters]\nagain:\ngoto again', [COUNTERS]);
    expect(await loadObjectProgram(guest, OBJECT, loops, options)).toMatchObject({
      accepted: false,
      code: 'back-edge',
      programName: 'loops',
    });
    const bad = mapSpec('counters', { keySize: 3 });
    await expect(
      loadObjectProgram(guest, { maps: [bad], programs: [] }, COUNT, options),
    ).rejects.toMatchObject({
      code: 'map-invalid',
    });
    const badElement = mapSpec('counters', {}, [{ key: u32Key(99), value: new Uint8Array(8) }]);
    await expect(
      loadObjectProgram(guest, { maps: [badElement], programs: [] }, COUNT, options),
    ).rejects.toThrow('map counters: the element under key 63000000 cannot be set: E2BIG');
    const misnamed = { maps: [{ ...COUNTERS, name: 'counter' }], programs: [] };
    await expect(loadObjectProgram(guest, misnamed, COUNT, options)).rejects.toMatchObject({
      code: 'object-invalid',
    });
    expect(guest.runtime.space.bytesInUse).toBe(before);
  });
});
