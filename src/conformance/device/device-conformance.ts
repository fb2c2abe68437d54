import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { ENOENT } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { VirtualClock } from '../../core/clock/virtual-clock.js';
import type { Device, NicDeviceOptions } from '../../core/contract/device.js';
import type { Party } from '../../core/contract/party.js';
import type { AuditRecord } from '../../core/contract/result.js';
import type { UnguardedChain } from '../../core/contract/transport.js';
import type { BpfReply, BpfRequest } from '../../core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../core/offload/protocol/rfc-2019/rfc-2019.js';
import { NO_USAGE, QuotaAccounts } from '../../core/offload/quota-accounts.js';
import { VIRTIO_NET_ERR, VIRTIO_NET_OK } from '../../virtio/index.js';
import { RecordingPlace, RIG_FEATURES, u32Key } from '../offload/offload-rig.js';
import { SeededRandom } from '../verifier/seeded-random.js';

export interface DeviceConformanceOptions {
  /** A new party of the host's: no other shares its memory. */
  readonly party: (name: string) => Party | Promise<Party>;
  /**
   * Also demands what a device that a host would use must do whatever it is sent: resets free everything, what is held is
   * charged for, one guest's handles mean nothing to another. Default true; a device that is meant to be weak says no.
   */
  readonly guarded?: boolean;
  /** Random commands that are sent; default 3000. */
  readonly commands?: number;
}

/**
 * What every device must do, as tests: it serves an honest guest, answers whatever it is sent within the room that there is,
 * never throws, and is gone when it is unplugged.
 */
export function deviceConformance(
  name: string,
  make: () => Device | Promise<Device>,
  { party, guarded = true, commands = 3000 }: DeviceConformanceOptions,
): void {
  const open = async (guest = 'guest0', shared?: { device: Device; accounts: QuotaAccounts }) => {
    const device = shared?.device ?? (await make());
    const accounts = shared?.accounts ?? new QuotaAccounts();
    const place = new RecordingPlace();
    const audit: AuditRecord[] = [];
    const options: NicDeviceOptions = {
      guest,
      nic: 'eth0',
      party: await party(`host for ${guest}.eth0`),
      policies: [],
      accounts,
      place,
      clock: new VirtualClock(),
      world: { trace: () => {} },
      events: { ruling: () => {}, audit: (record) => void audit.push(record) },
      features: RIG_FEATURES,
      queuePairs: 1,
    };
    const nic = await device.open(options);
    return { nic, device, accounts, place, audit, unguarded: device.unguarded === true };
  };
  type Opened = Awaited<ReturnType<typeof open>>;

  const sendBytes = async ({ nic, unguarded }: Opened, bytes: Uint8Array, room: number) =>
    nic.handle(bytes.slice(), room, unguarded ? chainOf(bytes) : undefined);
  const send = async (opened: Opened, request: BpfRequest): Promise<BpfReply> => {
    const bytes = RFC_2019.encodeRequest(request);
    const answer = await sendBytes(opened, bytes, RFC_2019.replyBytes(request));
    const decoded = RFC_2019.decodeReply(request, bytes, answer);
    if (!decoded.ok) throw new RangeError(decoded.detail);
    return decoded.reply;
  };
  const createMap = async (opened: Opened, mapType: number = BPF_MAP_TYPE.BPF_MAP_TYPE_HASH) => {
    const sizes = { keySize: 4, valueSize: 8, maxEntries: 4, mapFlags: 0 };
    const reply = await send(opened, { kind: 'create-map', mapType, ...sizes });
    if (reply.kind !== 'handle') throw new RangeError(`CREATE_MAP ended in ${reply.kind}`);
    return reply.handle;
  };
  const value = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

  describe(`device ${name} conforms`, () => {
    it('serves maps: what was put in is found, key after key, and an element that is not there is not', async () => {
      const opened = await open();
      const handle = await createMap(opened);
      expect(await send(opened, { kind: 'lookup-elem', handle, key: u32Key(7), valueSize: 8 })).toMatchObject(
        { kind: 'error' },
      );
      for (const index of [7, 9]) {
        const update = { kind: 'update-elem', handle, key: u32Key(index), value, flags: 0n } as const;
        expect(await send(opened, update)).toEqual({ kind: 'done' });
      }
      expect(await send(opened, { kind: 'lookup-elem', handle, key: u32Key(9), valueSize: 8 })).toEqual({
        kind: 'value',
        value,
      });
      const keys: Uint8Array[] = [];
      let reply = await send(opened, { kind: 'get-first', handle, keySize: 4, valueSize: 8 });
      while (reply.kind === 'key') {
        keys.push(reply.key);
        reply = await send(opened, { kind: 'get-next', handle, key: reply.key, valueSize: 8 });
      }
      expect(keys.map((key) => key[0]).sort()).toEqual([7, 9]);
      expect(opened.nic.inspect().held.maps).toBe(1);
      expect(await send(opened, { kind: 'free-map', handle })).toEqual({ kind: 'done' });
      expect(opened.nic.inspect().held).toMatchObject({ maps: 0, mapMemory: 0 });
    });

    it('puts a program that uses a map of the guest in its place, in place of the one before, and takes it away', async () => {
      const opened = await open();
      const handle = await createMap(opened, BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY);
      const insns = encodeInsns(assemble('r1 = map[m]\nr0 = 2\nexit', { maps: new Map([['m', handle]]) }));
      const set = { kind: 'set-offload', insns, gplCompatible: true } as const;
      expect(await send(opened, set)).toEqual({ kind: 'done' });
      expect(opened.place.program).toBeDefined();
      const first = opened.place.program;
      expect(await send(opened, set)).toEqual({ kind: 'done' });
      expect(opened.place.program).not.toBe(first);
      expect(opened.nic.inspect().held).toMatchObject({ maps: 1, programs: 1 });
      expect(await send(opened, { kind: 'unset-offload' })).toEqual({ kind: 'done' });
      expect(opened.place.program).toBeUndefined();
      expect(opened.nic.inspect().held).toMatchObject({ programs: 0 });
    });

    it('leaves out what the verifier rejects, and what was in place before stays', async () => {
      const opened = await open();
      const set = (text: string) =>
        send(opened, { kind: 'set-offload', insns: encodeInsns(assemble(text)), gplCompatible: true });
      expect(await set('r0 = 2\nexit')).toEqual({ kind: 'done' });
      const before = opened.place.program;
      // No exit: the program runs off its end.
      expect(await set('r0 = 2')).toMatchObject({ kind: 'error' });
      expect(opened.place.program).toBe(before);
    });

    it('answers anything, within its room, at least with VIRTIO_NET_ERR, and never throws', async () => {
      const opened = await open();
      const random = new SeededRandom(20191126);
      const handle = await createMap(opened);
      let answered = 0;
      for (let n = 0; n < commands; n++) {
        const bytes = randomCommand(random, handle);
        const room = random.u32() % 4 === 0 ? 1 + (random.u32() % 4) : 41 + (random.u32() % 64);
        const answer = await sendBytes(opened, bytes, room);
        expect(answer.length, `command ${n}`).toBeLessThanOrEqual(room);
        expect(answer.length, `command ${n}`).toBeGreaterThan(0);
        expect([VIRTIO_NET_OK, VIRTIO_NET_ERR]).toContain(answer.at(-1));
        answered++;
      }
      expect(answered).toBe(commands);
      expect(await sendBytes(opened, Uint8Array.of(6, 2), 0)).toHaveLength(0);
    });

    it('is gone when it is unplugged, once or twice', async () => {
      const opened = await open();
      await createMap(opened);
      const insns = encodeInsns(assemble('r0 = 2\nexit'));
      await send(opened, { kind: 'set-offload', insns, gplCompatible: true });
      await opened.nic.unplug();
      await opened.nic.unplug();
      await opened.nic.idle();
      expect(opened.place.program).toBeUndefined();
      expect(opened.nic.inspect().held).toMatchObject({ maps: 0, programs: 0, mapMemory: 0 });
      expect(await send(opened, { kind: 'unset-offload' })).toMatchObject({ kind: 'error' });
    });

    it('says of a broken rule of the transport that there was one', async () => {
      const opened = await open();
      opened.nic.transportBroken('the avail index jumped');
      expect(opened.audit).toMatchObject([{ outcome: 'violation', reason: 'the avail index jumped' }]);
    });

    if (!guarded) return;

    it('does not take a look at the guest’s memory', async () => {
      const device = await make();
      expect(device.unguarded ?? false).toBe(false);
      const nic = await device.open({
        guest: 'guest0',
        nic: 'eth0',
        party: await party('host'),
        policies: [],
        accounts: new QuotaAccounts(),
        place: new RecordingPlace(),
        clock: new VirtualClock(),
        world: { trace: () => {} },
        events: { ruling: () => {}, audit: () => {} },
        features: RIG_FEATURES,
        queuePairs: 1,
      });
      const touched: string[] = [];
      const forbidden = new Proxy({} as UnguardedChain, {
        get: (_, key) => {
          touched.push(String(key));
          return undefined;
        },
      });
      const request: BpfRequest = {
        kind: 'create-map',
        mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
        keySize: 4,
        valueSize: 8,
        maxEntries: 4,
        mapFlags: 0,
      };
      const answer = await nic.handle(
        RFC_2019.encodeRequest(request),
        RFC_2019.replyBytes(request),
        forbidden,
      );
      expect(answer.at(-1)).toBe(VIRTIO_NET_OK);
      expect(touched).toEqual([]);
    });

    it('charges for what it holds, and gives all of it back with a reset', async () => {
      const opened = await open();
      const handle = await createMap(opened);
      const { maps, programs, mapMemory } = opened.accounts.usageOf('guest0');
      expect(opened.nic.inspect().held).toMatchObject({ maps, programs, mapMemory });
      expect(mapMemory).toBeGreaterThan(0);
      const insns = encodeInsns(assemble('r0 = 2\nexit'));
      await send(opened, { kind: 'set-offload', insns, gplCompatible: true });
      await opened.nic.reset();
      expect(opened.place.program).toBeUndefined();
      const { held } = opened.nic.inspect();
      expect(held).toMatchObject({ maps: 0, programs: 0, mapMemory: 0 });
      expect([held.names ?? 0, held.btfMemory ?? 0]).toEqual([0, 0]);
      expect(opened.accounts.totalUsage()).toEqual(NO_USAGE);
      expect(await send(opened, { kind: 'free-map', handle })).toMatchObject({ kind: 'error' });
      expect(await createMap(opened)).not.toBe(handle);
    });

    it('does not know what another guest calls its own', async () => {
      const victim = await open('victim');
      const attacker = await open('attacker', victim);
      const handles = [await createMap(victim), await createMap(victim)];
      const key = u32Key(1);
      for (const handle of handles) {
        await send(victim, { kind: 'update-elem', handle, key, value, flags: 0n });
      }
      for (const handle of [...handles, ...Array.from({ length: 64 }, (_, fd) => fd)]) {
        const requests: BpfRequest[] = [
          { kind: 'lookup-elem', handle, key, valueSize: 8 },
          { kind: 'update-elem', handle, key, value: new Uint8Array(8), flags: 0n },
          { kind: 'delete-elem', handle, key, valueSize: 8 },
          { kind: 'free-map', handle },
        ];
        for (const request of requests) {
          expect(await send(attacker, request), request.kind).toMatchObject({ kind: 'error' });
        }
      }
      for (const handle of handles) {
        expect(await send(victim, { kind: 'lookup-elem', handle, key, valueSize: 8 })).toEqual({
          kind: 'value',
          value,
        });
        await send(victim, { kind: 'delete-elem', handle, key, valueSize: 8 });
        expect(await send(victim, { kind: 'lookup-elem', handle, key, valueSize: 8 })).toEqual({
          kind: 'error',
          errno: ENOENT,
        });
      }
    });
  });
}

/** A guest's memory that nobody changes. */
function chainOf(bytes: Uint8Array): UnguardedChain {
  return {
    readableBytes: bytes.length,
    read: (offset, length) => bytes.slice(offset, offset + length),
    overwrite: (offset, written) => {
      const room = Math.max(0, bytes.length - offset);
      bytes.set(written.subarray(0, room), Math.min(offset, bytes.length));
    },
  };
}

/** Mostly shaped like a command of class 6, with fields that are now and then right. */
function randomCommand(random: SeededRandom, handle: number): Uint8Array {
  const isMap = random.u32() % 4 !== 0;
  const payload = new Uint8Array(random.u32() % 96);
  for (let i = 0; i < payload.length; i++) payload[i] = random.u32() % 3 === 0 ? random.u32() & 0xff : 0;
  const view = new DataView(payload.buffer);
  const u32 = (at: number, chosen: number): void => {
    if (at + 4 <= payload.length && random.u32() % 8 !== 0) view.setUint32(at, chosen, true);
  };
  if (isMap) {
    u32(0, random.u32() % 2 === 0 ? Math.max(0, payload.length - 40) : random.u32());
    u32(4, 1 + (random.u32() % 7));
    u32(8, 1 + (random.u32() % 2));
    u32(12, random.u32() % 2 === 0 ? 4 : random.u32() % 600);
    u32(16, random.u32() % 2 === 0 ? 8 : random.u32() % 600);
    u32(20, random.u32() % 64);
    u32(28, random.u32() % 2 === 0 ? handle : random.u32() % 16);
  } else u32(0, random.u32() % 2 === 0 ? Math.max(0, payload.length - 8) : random.u32());
  return Uint8Array.of(6, isMap ? 2 : 1, ...payload);
}
