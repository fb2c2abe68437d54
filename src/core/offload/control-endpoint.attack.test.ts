import { describe, expect, it } from 'vitest';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { Value } from '@sinclair/typebox/value';
import { assemble } from '../../bpf/assembler.js';
import { EBADF, ENOENT, EOPNOTSUPP } from '../../bpf/errno.js';
import { encodeInsns, type Insn } from '../../bpf/insn.js';
import { OP_LDDW } from '../../bpf/opcodes.js';
import {
  featureSet,
  MAX_RESPONSE_BYTES,
  VIRTIO_NET_ERR,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_OK,
} from '../../virtio/index.js';
import { NO_USAGE, QuotaAccounts } from './quota-accounts.js';
import { OffloadRecords } from './offload-records.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import {
  OffloadRig,
  RIG_FEATURES,
  u32Key,
  type OffloadRigOptions,
} from '../../conformance/offload/offload-rig.js';
import { testingParty, type TestingParty } from './testing-party.js';

function rig(
  options: Partial<OffloadRigOptions> & { host?: TestingParty } = {},
): OffloadRig & { host: TestingParty } {
  const host = options.host ?? testingParty('host');
  return Object.assign(new OffloadRig({ host, guest: testingParty('guest'), ...options }), { host });
}

const PASS = encodeInsns(assemble('r0 = 2\nexit'));
const useMap = (handle: number): Uint8Array =>
  encodeInsns(assemble('r1 = map[m]\nr0 = 2\nexit', { maps: new Map([['m', handle]]) }));
const setOffload = (insns: Uint8Array, gplCompatible = true) =>
  ({ kind: 'set-offload', insns, gplCompatible }) as const;

/** A map command, byte by byte, for headers that no honest driver makes. */
function mapCommand(
  fields: Partial<Record<(typeof FIELDS)[number], number>>,
  buf = new Uint8Array(),
): Uint8Array {
  const bytes = new Uint8Array(2 + 40 + buf.length);
  bytes.set([6, 2]);
  const view = new DataView(bytes.buffer, 2);
  FIELDS.forEach((field, index) => view.setUint32(4 * index, fields[field] ?? 0, true));
  bytes.set(buf, 42);
  return bytes;
}
const FIELDS = [
  'bufLen',
  'cmd',
  'mapType',
  'keySize',
  'valueSize',
  'maxEntries',
  'mapFlags',
  'mapFd',
  'flags',
] as const;

describe('defect 1: map_fd comes from the guest and is used as it is', () => {
  it('a file descriptor is no handle: not to free, not to read, not to write, not to load', async () => {
    const r = rig();
    const own = { type: 2, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 };
    r.host.mapBackend.create(own, { name: 'the host’s own' });
    for (const handle of [0, 1, 2, 3, 17, 1023, 0x7fff_ffff, 0xffff_ffff]) {
      expect(await r.send({ kind: 'free-map', handle })).toMatchObject({ kind: 'error' });
      const key = u32Key(0);
      expect(await r.send({ kind: 'lookup-elem', handle, key, valueSize: 8 })).toEqual({
        kind: 'error',
        errno: EBADF,
      });
      const value = new Uint8Array(8);
      expect(await r.send({ kind: 'update-elem', handle, key, value, flags: 0n })).toMatchObject({
        kind: 'error',
      });
      expect(await r.send(setOffload(useMap(handle | 0)))).toMatchObject({ kind: 'error' });
    }
    expect(r.device.statistics.refusals.malformed).toBe(32);
  });

  it('another guest’s map is not within reach, and two devices of one guest do not share handles', async () => {
    const accounts = new QuotaAccounts();
    const victim = rig({ name: 'victim', accounts });
    const attacker = rig({ name: 'attacker', accounts });
    await attacker.createArray();
    const handles = [];
    for (let i = 0; i < 4; i++) handles.push(await victim.createArray());
    for (const handle of handles.slice(1)) {
      expect(await attacker.send({ kind: 'free-map', handle })).toMatchObject({ kind: 'error' });
      expect(await attacker.send(setOffload(useMap(handle)))).toMatchObject({ kind: 'error' });
    }
    // The same number may be a handle of both; it then names each guest's own map.
    await attacker.send({ kind: 'free-map', handle: handles[0]! });
    expect(victim.device.objectCount).toBe(4);
  });

  it('nothing else that a program can carry names something of the host', async () => {
    const r = rig();
    const lddw = (src: number): Insn[] => [
      { opcode: OP_LDDW, dst: 1, src, off: 0, imm: 1 },
      { opcode: 0, dst: 0, src: 0, off: 0, imm: 0 },
      ...assemble('r0 = 2\nexit'),
    ];
    for (const insns of [
      lddw(3),
      lddw(5),
      lddw(6),
      [{ opcode: 0x85, dst: 0, src: 2, off: 0, imm: 1 }, ...lddw(0)],
    ]) {
      expect(await r.send(setOffload(encodeInsns(insns)))).toMatchObject({ kind: 'error' });
    }
    expect(r.device.statistics.refusals.malformed).toBe(4);
  });
});

describe('defect 2: results are written into the device-readable buffer', () => {
  it('the answer is a new array; what the guest sent stays as it was', async () => {
    const r = rig();
    const handle = await r.createArray();
    for (const command of [
      { kind: 'lookup-elem', handle, key: u32Key(1), valueSize: 8 },
      { kind: 'get-first', handle, keySize: 4, valueSize: 8 },
    ] as const) {
      const readable = RFC_2019.encodeRequest(command);
      const before = readable.slice();
      const response = await r.sendBytes(readable, 40 + 12 + 1);
      expect(readable).toEqual(before);
      expect(response.at(-1)).toBe(VIRTIO_NET_OK);
      // Not a byte of it is one of what was sent.
      response.fill(0xee);
      expect(readable).toEqual(before);
    }
  });

  it('a chain without room for the answer gets no answer and does not take effect', async () => {
    const r = rig();
    const create = mapCommand({ cmd: 1, mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1 });
    for (const writable of [0, 1, 40, 42, 4096]) {
      const response = await r.sendBytes(create, writable);
      expect(response).toHaveLength(writable);
      if (writable > 0) expect(response.at(-1)).toBe(VIRTIO_NET_ERR);
    }
    expect(r.device.objectCount).toBe(0);
    expect(r.accounts.guests).toEqual([]);
  });
});

describe('defect 3: buf_len is read twice', () => {
  it('what changes while the command is under way is not seen: it was decoded before the first wait', async () => {
    const host = testingParty('host');
    let release = (): void => {};
    const verified: number[] = [];
    const gate = new Promise<void>((resolve) => (release = resolve));
    const slow: TestingParty = {
      ...host,
      verifier: {
        name: 'slow',
        verify: async (request) => {
          await gate;
          verified.push(request.program.insns.length);
          return host.verifier.verify(request);
        },
      },
    };
    const r = rig({ host: slow });
    const command = RFC_2019.encodeRequest(setOffload(PASS));
    const pending = r.sendBytes(command, 1);
    await new Promise((resolve) => setImmediate(resolve));
    command.fill(0xff);
    release();
    expect(await pending).toEqual(Uint8Array.of(VIRTIO_NET_OK));
    expect(verified).toEqual([2]);
  });
});

describe('defect 4: sizeof(header) + buf_len wraps, buf_len is unbounded', () => {
  it('lengths near 2^32 and lengths that promise what is not there are refused', async () => {
    const r = rig();
    const handle = await r.createArray();
    for (const bufLen of [0xffff_ffff, 0xffff_ffd8, 0xffff_ffe0, 0x8000_0000, 65_536, 13, 11, 1, 0]) {
      const command = mapCommand(
        { bufLen, cmd: 4, keySize: 4, valueSize: 8, mapFd: handle },
        new Uint8Array(12),
      );
      expect((await r.sendBytes(command, 53)).at(-1), String(bufLen)).toBe(VIRTIO_NET_ERR);
    }
    for (const len of [0xffff_fff8, 0x8000_0000, 32_776]) {
      const bytes = new Uint8Array(10);
      bytes.set([6, 1]);
      const view = new DataView(bytes.buffer, 2);
      view.setUint32(0, len, true);
      view.setUint16(4, 1, true);
      expect(await r.sendBytes(bytes, 1)).toEqual(Uint8Array.of(VIRTIO_NET_ERR));
    }
  });
});

describe('defect 5: key_size and value_size are not checked against buf_len', () => {
  it('sizes that disagree with the buffer or with the map are refused', async () => {
    const r = rig();
    const handle = await r.createArray();
    for (const [keySize, valueSize, bytes] of [
      [4, 4096, 12],
      [512, 8, 12],
      [0xffff_fff0, 0x20, 16],
      [8, 8, 16],
      [4, 16, 20],
      [4, 4, 8],
      [0, 8, 8],
      [4, 0, 8],
    ] as const) {
      for (const cmd of [3, 4, 5, 6, 7]) {
        const command = mapCommand(
          { bufLen: bytes, cmd, keySize, valueSize, mapFd: handle },
          new Uint8Array(bytes).fill(cmd === 6 ? 0 : 1),
        );
        for (const writable of [1, 41 + bytes]) {
          expect((await r.sendBytes(command, writable)).at(-1)).toBe(VIRTIO_NET_ERR);
        }
      }
    }
    const { acks, refusals } = r.device.statistics;
    expect(acks.ok).toBe(1);
    // The device itself sees it; no map backend is asked.
    expect(refusals.malformed).toBe(acks.err);
  });
});

describe('defect 6: DELETE_ELEM falls through to "not implemented"', () => {
  it('a delete that has deleted says so', async () => {
    const r = rig();
    const created = await r.send({
      kind: 'create-map',
      mapType: 1,
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      mapFlags: 0,
    });
    if (created.kind !== 'handle') throw new Error(created.kind);
    const { handle } = created;
    const key = u32Key(5);
    await r.send({ kind: 'update-elem', handle, key, value: new Uint8Array(8), flags: 0n });
    expect(await r.send({ kind: 'delete-elem', handle, key, valueSize: 8 })).toEqual({ kind: 'done' });
    expect(await r.send({ kind: 'lookup-elem', handle, key, valueSize: 8 })).toEqual({
      kind: 'error',
      errno: ENOENT,
    });
    expect(await r.send({ kind: 'delete-elem', handle, key, valueSize: 8 })).toMatchObject({ kind: 'error' });
  });
});

describe('defect 7: header fields and insns are used without endian conversion', () => {
  it('fields are little-endian on every host; a big-endian header makes no sense and is refused', async () => {
    const r = rig();
    const little = mapCommand({ cmd: 1, mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1 });
    expect(Buffer.from(little.subarray(6, 10)).toString('hex')).toBe('01000000');
    expect((await r.sendBytes(little, 41)).at(-1)).toBe(VIRTIO_NET_OK);
    const big = little.slice();
    for (let at = 2; at < 42; at += 4) big.subarray(at, at + 4).reverse();
    expect((await r.sendBytes(big, 41)).at(-1)).toBe(VIRTIO_NET_ERR);
  });
});

describe('defect 8: maps and the program outlive a device reset', () => {
  it('a reset detaches and frees everything; old handles stay invalid for good', async () => {
    const r = rig();
    const before = r.host.runtime.space.bytesInUse;
    const handle = await r.createArray();
    expect(await r.send(setOffload(useMap(handle)))).toEqual({ kind: 'done' });
    expect(r.place.program).toBeDefined();
    await r.device.reset();
    expect(r.place.program).toBeUndefined();
    expect(r.device.objectCount).toBe(0);
    expect(r.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(r.host.runtime.space.bytesInUse).toBe(before);
    expect(await r.createArray()).not.toBe(handle);
    expect(await r.send({ kind: 'free-map', handle })).toMatchObject({ kind: 'error' });
  });

  it('unplugging does the same, and nothing works afterwards', async () => {
    const r = rig();
    const before = r.host.runtime.space.bytesInUse;
    await r.createArray();
    await r.send(setOffload(PASS));
    await r.device.unplug();
    await r.device.unplug();
    await expect(r.createArray()).rejects.toThrow('CREATE_MAP ended in error');
    expect(r.accounts.guests).toEqual([]);
    expect(r.host.runtime.space.bytesInUse).toBe(before);
  });

  it('a command that was under way when the device was reset has no effect and leaves nothing', async () => {
    for (const stage of ['verify', 'load'] as const) {
      const host = testingParty('host');
      let release = (): void => {};
      let loads = 0;
      const gate = new Promise<void>((resolve) => (release = resolve));
      const gated: TestingParty = {
        ...host,
        verifier: {
          name: 'gated',
          verify: async (request) => {
            if (stage === 'verify') await gate;
            return host.verifier.verify(request);
          },
        },
        executor: {
          name: 'gated',
          load: async (program, environment) => {
            loads++;
            if (stage === 'load') await gate;
            return host.executor.load(program, environment);
          },
        },
      };
      const r = rig({ host: gated });
      const before = host.runtime.space.bytesInUse;
      const handle = await r.createArray();
      const pending = r.send(setOffload(useMap(handle)));
      const queued = r.send({ kind: 'free-map', handle });
      await new Promise((resolve) => setImmediate(resolve));
      await r.device.reset();
      // The new epoch does not wait for the old one, and is not touched by it.
      const fresh = await r.createArray();
      release();
      expect(await pending).toMatchObject({ kind: 'error' });
      expect(await queued).toMatchObject({ kind: 'error' });
      await r.device.idle();
      expect(r.place.program).toBeUndefined();
      expect(r.place.history).toEqual([]);
      expect(r.device.statistics.refusals.stale).toBe(2);
      expect(loads).toBe(stage === 'load' ? 1 : 0);
      expect(r.accounts.usageOf('guest0')).toMatchObject({ maps: 1, programs: 0 });
      await r.send({ kind: 'free-map', handle: fresh });
      expect(r.accounts.guests).toEqual([]);
      expect(host.runtime.space.bytesInUse).toBe(before);
    }
  });
});

describe('defect 9: no limit on maps, memory or commands', () => {
  const quota = (config: object) => new Quota(Value.Parse(QuotaConfig, Value.Default(QuotaConfig, config)));

  it('a quota ends it, before anything is allocated', async () => {
    const r = rig({ policies: [quota({ 'per-guest': { maps: 3 } })] });
    const before = r.host.runtime.space.bytesInUse;
    for (let i = 0; i < 3; i++) await r.createArray();
    const held = r.host.runtime.space.bytesInUse;
    await expect(r.createArray()).rejects.toThrow();
    await expect(r.createArray(0xffff_ffff)).rejects.toThrow();
    expect(r.host.runtime.space.bytesInUse).toBe(held);
    expect(held).toBeGreaterThan(before);
    expect(r.audit[0]).toMatchObject({
      command: 'EBPF_MAP/CREATE_MAP',
      reason: 'denied: by quota: 4 maps of guest guest0 exceed the quota of 3',
    });
  });

  it('freeing a map that a program uses does not free the quota', async () => {
    const r = rig({ policies: [quota({ 'per-guest': { maps: 1 } })] });
    const handle = await r.createArray();
    await r.send(setOffload(useMap(handle)));
    await r.send({ kind: 'free-map', handle });
    await expect(r.createArray()).rejects.toThrow();
    await r.send({ kind: 'unset-offload' });
    await r.createArray();
  });

  it('no map has a seed that the guest knows: its keys could all lie in one bucket', async () => {
    const r = rig();
    const map = { kind: 'create-map', mapType: 1, keySize: 8, valueSize: 4, maxEntries: 4096 } as const;
    expect(await r.send({ ...map, mapFlags: 1 << 6 })).toEqual({
      kind: 'error',
      errno: EOPNOTSUPP,
    });
    expect(await r.send({ ...map, mapFlags: 0 })).toMatchObject({ kind: 'handle' });
  });

  it('without a quota there is still an end: the table and the memory of the guest’s party', async () => {
    const r = rig({ device: { limits: { maxObjects: 8 } } });
    for (let i = 0; i < 8; i++) await r.createArray();
    await expect(r.createArray()).rejects.toThrow();
    expect(await r.send(setOffload(PASS))).toMatchObject({ kind: 'error' });
    const big = rig();
    await expect(big.createArray(100_000_000)).rejects.toThrow();
    expect(big.accounts.guests).toEqual([]);
  });

  it('maps that only a program keeps alive count as well', async () => {
    const r = rig({ device: { limits: { maxObjects: 4 } } });
    const handles = [await r.createArray(), await r.createArray(), await r.createArray()];
    const uses = handles.map((handle, i) => `r${i + 1} = map[m${handle}]`).join('\n');
    const maps = new Map(handles.map((handle) => [`m${handle}`, handle]));
    await r.send(setOffload(encodeInsns(assemble(`${uses}\nr0 = 2\nexit`, { maps }))));
    for (const handle of handles) await r.send({ kind: 'free-map', handle });
    await expect(r.createArray()).rejects.toThrow();
    expect(r.device.objectCount).toBe(4);
    await r.send({ kind: 'unset-offload' });
    expect(r.device.objectCount).toBe(0);
    await r.createArray();
  });

  it('commands that pile up are refused', async () => {
    const host = testingParty('host');
    const never: TestingParty = { ...host, verifier: { name: 'never', verify: () => new Promise(() => {}) } };
    const r = rig({ host: never, device: { limits: { maxPendingCommands: 4 } } });
    void r.send(setOffload(PASS));
    for (let i = 0; i < 3; i++) void r.createArray().catch(() => {});
    await expect(r.createArray()).rejects.toThrow();
    await r.device.reset();
    await expect(r.createArray(), 'what was under way still counts').rejects.toThrow();
  });
});

describe('defect 10: a multi-queue device attaches to the first queue only', () => {
  it('there is one place for all queues of a nic, however many the guest uses', async () => {
    const features = RIG_FEATURES | featureSet(VIRTIO_NET_F_MQ);
    const r = rig({ device: { features, queuePairs: 4 } });
    expect(await r.netdev.setQueuePairs(2)).toMatchObject({ ok: true });
    expect(await r.netdev.setQueuePairs(5)).toMatchObject({ ok: false });
    await r.send(setOffload(PASS));
    await r.send(setOffload(PASS));
    await r.send({ kind: 'unset-offload' });
    expect(r.place.history).toEqual(['attach', 'replace', 'detach']);
  });

  it('a place that cannot take a program keeps what it had', async () => {
    const r = rig();
    await r.send(setOffload(PASS));
    const old = r.place.program;
    const refusing = rig();
    refusing.place.attach = () => Promise.reject(new Error('no room'));
    expect(await refusing.send(setOffload(PASS))).toMatchObject({ kind: 'error' });
    expect(refusing.accounts.guests).toEqual([]);
    expect(refusing.audit.at(-1)!.reason).toBe(
      'failed: the program in front of the guest cannot be changed: no room',
    );
    r.place.onReplace = () => Promise.reject(new Error('no room'));
    expect(await r.send(setOffload(encodeInsns(assemble('r0 = 1\nexit'))))).toMatchObject({ kind: 'error' });
    expect(r.place.program).toBe(old);
    expect(r.device.attachedProgram).toBe(old);
    expect(r.accounts.usageOf('guest0')).toMatchObject({ programs: 1 });
    expect(r.audit.at(-1)!.reason).toBe(
      'failed: the program in front of the guest cannot be changed: no room',
    );
  });
});

describe('a place that takes its time', () => {
  /** Waits in each call until it is let go, and then does what it was asked. */
  function gatedRig(): { r: ReturnType<typeof rig>; release: () => void; calls: () => number } {
    let calls = 0;
    let waiting: (() => void)[] = [];
    const gate = (): Promise<void> => {
      calls++;
      return new Promise((resolve) => waiting.push(resolve));
    };
    const r = rig();
    r.place.onAttach = gate;
    r.place.onReplace = gate;
    r.place.onDetach = gate;
    const release = (): void => {
      for (const go of waiting.splice(0)) go();
      waiting = [];
    };
    return { r, release, calls: () => calls };
  }
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('waits for one reset while the place does not let go, however often the guest resets', async () => {
    const { r, release, calls } = gatedRig();
    const attached = r.send(setOffload(PASS));
    await turn();
    release();
    expect(await attached).toEqual({ kind: 'done' });
    const before = calls();
    const resets = new Set<Promise<void>>();
    const late: Promise<unknown>[] = [];
    for (let round = 0; round < 1000; round++) {
      resets.add(r.device.reset());
      // Belongs to what the next reset ends, so it makes nothing.
      if (round % 100 === 0) late.push(r.send(setOffload(PASS)));
    }
    resets.add(r.device.reset());
    expect(resets.size).toBe(1);
    await turn();
    expect(calls() - before).toBe(1);
    release();
    await Promise.all(resets);
    for (const answer of await Promise.all(late)) expect(answer).toEqual({ kind: 'error' });
    expect(r.place.program).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
    // The next one is another.
    expect(resets.has(r.device.reset())).toBe(false);
  });

  it('has nothing attached and nothing charged after a reset in the middle of attaching', async () => {
    const { r, release } = gatedRig();
    const pending = r.send(setOffload(PASS));
    await turn();
    const reset = r.device.reset();
    for (let i = 0; i < 4; i++) {
      release();
      await turn();
    }
    expect(await pending).toMatchObject({ kind: 'error' });
    await reset;
    expect(r.place.program).toBeUndefined();
    expect(r.device.attachedProgram).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
  });

  it('nor in the middle of replacing', async () => {
    const { r, release } = gatedRig();
    const first = r.send(setOffload(PASS));
    await turn();
    release();
    expect(await first).toEqual({ kind: 'done' });
    const pending = r.send(setOffload(PASS));
    await turn();
    const reset = r.device.reset();
    for (let i = 0; i < 4; i++) {
      release();
      await turn();
    }
    expect(await pending).toMatchObject({ kind: 'error' });
    await reset;
    expect(r.place.program).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
  });

  it('makes later commands wait, in order, and nothing is closed while it may still be called', async () => {
    const { r, release, calls } = gatedRig();
    const attach = r.send(setOffload(PASS));
    const detach = r.send({ kind: 'unset-offload' });
    const create = r.createArray();
    let created = false;
    void create.then(() => (created = true));
    await turn();
    expect([calls(), created]).toEqual([1, false]);
    release();
    await turn();
    expect([calls(), created]).toEqual([2, false]);
    expect(r.accounts.usageOf('guest0')).toMatchObject({ programs: 1 });
    release();
    expect(await attach).toEqual({ kind: 'done' });
    expect(await detach).toEqual({ kind: 'done' });
    await create;
    expect(r.accounts.usageOf('guest0')).toMatchObject({ programs: 0, maps: 1 });
  });
});

describe('a program that may still be called is not closed', () => {
  /** Tells of every program that is closed while it is in its place. */
  function watchedRig() {
    const host = testingParty('host');
    const closedInPlace: string[] = [];
    const watched: TestingParty = {
      ...host,
      executor: {
        name: 'watched',
        load: async (program, environment) => {
          const loaded = await host.executor.load(program, environment);
          const close = loaded.close.bind(loaded);
          loaded.close = () => {
            if (r.place.program === loaded) closedInPlace.push(loaded.name);
            close();
          };
          return loaded;
        },
      },
    };
    const r = rig({ host: watched });
    return { r, closedInPlace };
  }
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('by a reset in the middle of replacing, however long it takes to detach', async () => {
    const { r, closedInPlace } = watchedRig();
    await r.send(setOffload(PASS));
    const steps: (() => void)[] = [];
    const gate = (): Promise<void> => new Promise((resolve) => steps.push(resolve));
    r.place.onReplace = gate;
    r.place.onDetach = gate;
    const pending = r.send(setOffload(PASS));
    await turn();
    const reset = r.device.reset();
    steps.shift()!();
    expect(await pending).toMatchObject({ kind: 'error' });
    await turn();
    expect(closedInPlace).toEqual([]);
    steps.shift()!();
    await reset;
    expect(r.place.program).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
  });

  it('by a reset when the place does not let go: it stays charged, and goes when it can be taken away', async () => {
    for (const end of ['reset', 'unset-offload', 'set-offload'] as const) {
      const { r, closedInPlace } = watchedRig();
      const handle = await r.createArray();
      await r.createArray();
      await r.send(setOffload(useMap(handle)));
      r.place.onDetach = () => Promise.reject(new Error('busy'));
      await r.device.reset();
      expect(closedInPlace).toEqual([]);
      expect(r.audit.at(-1)).toMatchObject({
        command: 'reset',
        reason: 'internal: the program in front of the guest cannot be changed: busy',
      });
      // The map that it uses stays with it, the other goes.
      expect(r.accounts.usageOf('guest0')).toMatchObject({ maps: 1, programs: 1 });
      expect(await r.send({ kind: 'free-map', handle })).toEqual({ kind: 'error' });
      r.place.onDetach = undefined;
      if (end === 'reset') await r.device.reset();
      else if (end === 'unset-offload') expect(await r.send({ kind: end })).toEqual({ kind: 'done' });
      else {
        expect(await r.send(setOffload(PASS))).toEqual({ kind: 'done' });
        expect(r.accounts.usageOf('guest0')).toMatchObject({ maps: 0, programs: 1 });
        await r.device.reset();
      }
      expect(r.place.program).toBeUndefined();
      expect(r.accounts.guests).toEqual([]);
    }
  });

  it('by a reset in the middle of attaching to a place that then does not let go', async () => {
    const { r, closedInPlace } = watchedRig();
    let attach = (): void => {};
    r.place.onAttach = () => new Promise((resolve) => (attach = resolve));
    r.place.onDetach = () => Promise.reject(new Error('busy'));
    const pending = r.send(setOffload(PASS));
    await turn();
    const reset = r.device.reset();
    attach();
    expect(await pending).toMatchObject({ kind: 'error' });
    await reset;
    expect(closedInPlace).toEqual([]);
    expect(r.accounts.usageOf('guest0')).toMatchObject({ programs: 1 });
    r.place.onDetach = undefined;
    await r.device.unplug();
    expect(r.place.program).toBeUndefined();
    expect(r.accounts.guests).toEqual([]);
  });
});

describe('a feature that was not negotiated', () => {
  it('makes class 6 an unknown class', async () => {
    const r = rig({ device: { features: featureSet(VIRTIO_NET_F_MQ) } });
    await expect(r.createArray()).rejects.toThrow('CREATE_MAP ended in error');
    expect(r.audit).toMatchObject([
      { reason: 'malformed: EBPF_MAP: VIRTIO_NET_F_XDP_OFFLOAD is not negotiated' },
    ]);
    expect(r.device.objectCount).toBe(0);
  });
});

describe('a command of few bytes with much room', () => {
  const ROOM = 1 << 20;
  const denying = {
    name: 'closed',
    admit: () => ({ ruling: 'deny', reason: 'not now' }) as const,
    rule: () => ({ ruling: 'allow', reason: '' }) as const,
  };
  it.each([
    ['truncated', Uint8Array.of(6), {}, VIRTIO_NET_ERR],
    ['of no class', Uint8Array.of(99, 1), {}, VIRTIO_NET_ERR],
    ['malformed', Uint8Array.of(6, 2), {}, VIRTIO_NET_ERR],
    ['a map command that is denied', mapCommand({ cmd: 4 }), { policies: [denying] }, VIRTIO_NET_ERR],
    [
      'done',
      Uint8Array.of(4, 0, 1, 0),
      { device: { features: RIG_FEATURES | featureSet(VIRTIO_NET_F_MQ) } },
      VIRTIO_NET_OK,
    ],
  ])('is answered with an ack alone: %s', async (_what, command, options, ack) => {
    const { device } = rig({ protocol: RFC_2019, ...options });
    expect([...(await device.handle(command, ROOM))]).toEqual([ack]);
  });

  it('is one with more room than for the longest answer that a request within the limits has', () => {
    const { maxKeyBytes, maxValueBytes } = RFC_2019.limits;
    const lookup = {
      kind: 'lookup-elem',
      handle: 1,
      key: new Uint8Array(maxKeyBytes),
      valueSize: maxValueBytes,
    } as const;
    expect(MAX_RESPONSE_BYTES).toBe(RFC_2019.replyBytes(lookup));
  });
});

describe('records of a guest that asks without end', () => {
  it('are bounded and counted, and leave the other guests’ alone', () => {
    const records = new OffloadRecords(3);
    const audit = (guest: string, reason: string) =>
      records.addAudit({ time: 0, guest, nic: 'eth0', command: 'c', outcome: 'error-ack', reason });
    const ruling = (guest: string, reason: string) =>
      records.addRuling({
        request: 1,
        time: 0,
        guest,
        nic: 'eth0',
        operation: 'map-create',
        policy: 'p',
        ruling: 'deny',
        reason,
        count: 1,
      });
    for (let i = 0; i < 10; i++) {
      audit('loud', `reason ${i}`);
      ruling('loud', `reason ${i}`);
    }
    audit('quiet', 'once');
    ruling('quiet', 'once');
    ruling('quiet', 'once');
    expect(records.audit.map(({ guest }) => guest)).toEqual(['loud', 'loud', 'loud', 'quiet']);
    expect(records.rulings.map(({ guest, count }) => [guest, count])).toEqual([
      ['loud', 1],
      ['loud', 1],
      ['loud', 1],
      ['quiet', 2],
    ]);
    expect(records.dropped).toEqual({ rulings: 7, audit: 7 });
  });

  it('count a ruling that says what one of them says, also when there are no more', () => {
    const records = new OffloadRecords(2);
    const ruling = (request: number, ruling: 'allow' | 'deny', nic = 'eth0') =>
      records.addRuling({
        request,
        time: request * 10,
        guest: 'loud',
        nic,
        operation: 'map-create',
        policy: 'p',
        ruling,
        reason: ruling,
        count: 1,
      });
    for (let request = 1; request <= 100; request++) ruling(request, request % 2 === 1 ? 'allow' : 'deny');
    ruling(101, 'deny', 'eth1');
    expect(records.rulings).toMatchObject([
      { request: 1, time: 10, ruling: 'allow', count: 50 },
      { request: 2, time: 20, ruling: 'deny', count: 50 },
    ]);
    expect(records.dropped.rulings).toBe(1);
  });
});
