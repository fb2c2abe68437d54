import { describe, expect } from 'vitest';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { assemble } from '../../bpf/assembler.js';
import { EBADF, EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { hex, normative } from '../../conformance/offload/normative.js';
import { u32Key, type OffloadRigOptions } from '../../conformance/offload/offload-rig.js';
import { featureSet, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../virtio/index.js';
import { encodeNetConfig } from '../../virtio/net-config.js';
import { readCapabilities } from './protocol/bpf-offload/config-space.js';
import type { BpfRequest } from './protocol/control-protocol.js';
import { NO_USAGE, QuotaAccounts } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(name: string): TestingParty {
  return testingParty(name, { cpus: 2, mebibytes: 16, verifier: new AbstractVerifier(DEFAULT_CONFIG) });
}

function guest(options: Partial<OffloadRigOptions> = {}): BpfOffloadGuest {
  return new BpfOffloadGuest({ host: party('host'), guest: party('guest'), ...options });
}

const PASS = encodeInsns(assemble('r0 = 2\nexit'));
const lookup = (handle: number): BpfRequest => ({
  kind: 'lookup-elem',
  handle,
  key: u32Key(0),
  valueSize: 8,
});
/** A `.BTF` section with no types. */
const BTF = hex('9feb 01 00 18000000 00000000 00000000 00000000 01000000 00');

/** One of each kind, and what a command needs that names it. */
async function oneOfEach(g: BpfOffloadGuest) {
  const map = await g.map({ name: 'm' });
  const btf = await g.handle({ kind: 'load-btf', bytes: BTF });
  const program = await g.program(PASS, { name: 'p' });
  const link = await g.link(program);
  return { map, btf, program, link };
}

describe('an answer', () => {
  normative(
    ['dev-ack-first', 'dev-answer-bounded'],
    'begins with the ack and never exceeds the room, whatever was asked and whatever state the device is in',
    async () => {
      const asked: readonly Uint8Array[] = [
        new Uint8Array(),
        hex('f0'),
        hex('f0 00'),
        hex('f0 1a'),
        hex('f0 63'),
        hex('06 01 00'),
        hex('04 00 01 00'),
        hex('04 00 63 00'),
        hex('f0 19 01 10 00 00'),
        hex('f0 19 01 10 00 00 00'),
      ];
      const states: readonly ((g: BpfOffloadGuest) => Promise<unknown> | undefined)[] = [
        () => undefined,
        (g) => g.device.reset(),
        (g) => g.device.unplug(),
      ];
      for (const prepare of states) {
        const g = guest();
        await prepare(g);
        for (const readable of asked) {
          for (const room of [0, 1, 2, 15, 16, 17, 40, 4096]) {
            const written = await g.sendBytes(readable, room);
            expect(written.length).toBeLessThanOrEqual(room);
            if (room === 0) expect(written).toHaveLength(0);
            else expect([0, 1]).toContain(written[0]);
          }
        }
      }
    },
  );

  normative('dev-waiting', 'is an error when too many commands wait, and nothing else is lost', async () => {
    const g = guest({ device: { limits: { maxPendingCommands: 2 } } });
    let letGo = (): void => {};
    g.place.onAttach = () => new Promise((resolve) => (letGo = resolve));
    const program = await g.program(PASS);
    const link = g.link(program);
    const second = g.send({ kind: 'get-capabilities' });
    const refused = await g.sendBytes(hex('f0 00'), 256);
    expect([...refused.subarray(0, 8)]).toEqual([...hex('01 00 00 00 | 10 00 00 00')]);
    expect(await g.errno({ kind: 'get-report' })).toBe(EBUSY);
    letGo();
    expect(await link).toBeGreaterThan(0);
    expect((await second).kind).toBe('capabilities');
  });

  normative('dev-order', 'is given in the order of the commands', async () => {
    const g = guest();
    const order: string[] = [];
    const log = (what: string) => (): void => void order.push(what);
    g.place.onAttach = async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const program = await g.program(PASS);
    await Promise.all([
      g.link(program).then(log('link')),
      g.map().then(log('map')),
      g.program(PASS).then(log('program')),
      g.send({ kind: 'get-report' }).then(log('report')),
    ]);
    expect(order).toEqual(['link', 'map', 'program', 'report']);
  });

  normative('dev-not-negotiated', 'is EOPNOTSUPP when the feature is not negotiated', async () => {
    const g = guest({ device: { features: featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ) } });
    for (const request of [{ kind: 'get-capabilities' }, { kind: 'close', handle: 4096 }] as const) {
      expect(await g.errno(request)).toBe(EOPNOTSUPP);
    }
    expect(await g.send({ kind: 'get-report' })).toMatchObject({
      message: expect.stringContaining('VIRTIO_NET_F_BPF_OFFLOAD') as string,
    });
  });

  normative('dev-extack', 'says in words why a command failed', async () => {
    const g = guest();
    const failures: readonly BpfRequest[] = [
      { kind: 'close', handle: 4097 },
      { kind: 'open-pinned', name: 'x' },
      { kind: 'load-btf', bytes: Uint8Array.of(1, 2, 3) },
      {
        kind: 'load-program',
        name: '',
        insns: encodeInsns(assemble('exit')),
        gplCompatible: true,
        frags: false,
      },
      { kind: 'create-link', program: 1, hook: 0 },
    ];
    for (const request of failures) {
      const reply = await g.send(request);
      expect(reply.kind === 'error' && (reply.message ?? '').length > 8, request.kind).toBe(true);
    }
  });

  normative('dev-capabilities', 'to CAPABILITIES is what configuration space says', async () => {
    const g = guest();
    const { capabilities } = await g.expect('capabilities', { kind: 'get-capabilities' });
    const said = g.device.capabilities;
    for (const key of Object.keys(capabilities) as (keyof typeof capabilities)[]) {
      expect(said[key], key).toEqual(capabilities[key]);
    }
    const space = encodeNetConfig(
      { mac: new Uint8Array(6), status: 1, maxVirtqueuePairs: 1, mtu: 1500 },
      g.device.configuration,
    );
    const readConfig = (offset: number, length: number) => space.slice(offset, offset + length);
    expect(readCapabilities({ readConfig })).toEqual(capabilities);
    expect(capabilities).toMatchObject({ cpus: 2, maxKeyBytes: 512, hookPoints: 1n });
    // HASH and ARRAY, and not DEVMAP (14).
    expect(capabilities.mapTypes & 0b110n).toBe(0b110n);
    expect((capabilities.mapTypes >> 14n) & 1n).toBe(0n);
    await oneOfEach(g);
    expect((await g.expect('capabilities', { kind: 'get-capabilities' })).capabilities).toEqual(capabilities);
  });
});

describe('a handle', () => {
  normative('dev-handle-range', 'is from 4096 to 2^31 - 1', async () => {
    const g = guest();
    for (const handle of Object.values(await oneOfEach(g))) {
      expect(handle).toBeGreaterThanOrEqual(4096);
      expect(handle).toBeLessThan(2 ** 31);
    }
  });

  normative('dev-handle-own', 'of another device is none here', async () => {
    const accounts = new QuotaAccounts();
    const victim = guest({ name: 'victim', accounts });
    const attacker = guest({ name: 'attacker', accounts });
    await victim.map();
    const handles = Object.values(await oneOfEach(victim));
    for (const handle of handles) {
      expect(await attacker.errno({ kind: 'close', handle })).toBe(EBADF);
      expect(await attacker.errno({ kind: 'get-info', handle })).toBe(EBADF);
      expect(await attacker.errno({ kind: 'pin', handle, name: 'mine' })).toBe(EBADF);
    }
    expect(attacker.device.objectCount).toBe(0);
    expect(victim.device.objectCount).toBe(5);
  });

  normative('dev-handle-once', 'is never given again, not after CLOSE and not after a reset', async () => {
    const g = guest();
    const seen = new Set<number>();
    for (let round = 0; round < 200; round++) {
      const handle = await g.map();
      expect(seen.has(handle)).toBe(false);
      seen.add(handle);
      if (round % 50 === 49) await g.device.reset();
      else await g.close(handle);
    }
  });

  normative(
    ['dev-handle-kind', 'dev-handle-unknown'],
    'is EBADF where it names nothing of the kind',
    async () => {
      const g = guest();
      const { map, btf, program, link } = await oneOfEach(g);
      const key = u32Key(0);
      const value = new Uint8Array(8);
      const wrong: readonly [readonly number[], (handle: number) => BpfRequest][] = [
        [[btf, program, link], (handle) => lookup(handle)],
        [[btf, program, link], (handle) => ({ kind: 'update-elem', handle, key, value, flags: 0n })],
        [[btf, program, link], (handle) => ({ kind: 'delete-elem', handle, key, valueSize: 8 })],
        [[btf, program, link], (handle) => ({ kind: 'get-first', handle, keySize: 4, valueSize: 8 })],
        [[btf, program, link], (handle) => ({ kind: 'freeze-map', handle })],
        [[btf, program, link], (handle) => ({ kind: 'read-records', handle, bytes: 16 })],
        [[map, program, link], (handle) => ({ kind: 'read-btf', handle, offset: 0, length: 1 })],
        [[map, btf, link], (program_) => ({ kind: 'create-link', program: program_, hook: 0 })],
        [[map, btf, program], (handle) => ({ kind: 'detach-link', link: handle })],
        [[map, btf, program], (handle) => ({ kind: 'update-link', link: handle, program })],
        [[map, btf, link], (handle) => ({ kind: 'update-link', link, program: handle })],
        [[map, btf, link], (handle) => ({ kind: 'update-link', link, program, expected: handle })],
      ];
      for (const [handles, request] of wrong) {
        for (const handle of [...handles, 0, 3, 4095, map + 4096, 0xffff_ffff])
          expect(await g.errno(request(handle)), request(1).kind).toBe(EBADF);
      }
      for (const handle of [0, 3, map + 4096, 0xffff_ffff]) {
        expect(await g.errno({ kind: 'close', handle })).toBe(EBADF);
        expect(await g.errno({ kind: 'get-info', handle })).toBe(EBADF);
        expect(await g.errno({ kind: 'pin', handle, name: 'x' })).toBe(EBADF);
      }
    },
  );

  normative(
    ['dev-handle-several', 'dev-close', 'dev-close-twice'],
    'is one of several of an object, which lives as long as one of them',
    async () => {
      const g = guest();
      const first = await g.map({ name: 'flows' });
      const { id } = await g.info('map', first);
      const second = await g.handle({ kind: 'open-by-id', object: 'map', id });
      expect(second).not.toBe(first);
      await g.expect('done', {
        kind: 'update-elem',
        handle: first,
        key: u32Key(1),
        value: hex('0102030405060708'),
        flags: 0n,
      });
      await g.close(first);
      expect(await g.errno({ kind: 'close', handle: first })).toBe(EBADF);
      expect(await g.errno(lookup(first))).toBe(EBADF);
      const { value } = await g.expect('value', {
        kind: 'lookup-elem',
        handle: second,
        key: u32Key(1),
        valueSize: 8,
      });
      expect([...value]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(g.accounts.usageOf('guest0').maps).toBe(1);
      await g.close(second);
      expect(g.device.objectCount).toBe(0);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
      expect(await g.errno({ kind: 'open-by-id', object: 'map', id })).toBe(ENOENT);
    },
  );

  normative('dev-object-limit', 'is refused with ENOSPC when max_objects are there', async () => {
    const g = guest({ device: { limits: { maxObjects: 3 } } });
    expect(g.device.capabilities.maxObjects).toBe(3);
    const program = await g.program(PASS);
    await g.map();
    const map = await g.map();
    const more: readonly BpfRequest[] = [
      { kind: 'create-map', mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1, mapFlags: 0 },
      { kind: 'load-btf', bytes: BTF },
      { kind: 'load-program', name: '', insns: PASS, gplCompatible: true, frags: false },
      { kind: 'create-link', program, hook: 0 },
      { kind: 'open-by-id', object: 'map', id: 1 },
    ];
    const before = g.accounts.usageOf('guest0');
    for (const request of more) expect(await g.errno(request), request.kind).toBe(ENOSPC);
    expect(g.accounts.usageOf('guest0')).toEqual(before);
    expect(g.place.program).toBeUndefined();
    await g.close(map);
    expect(await g.map()).toBeGreaterThan(0);
  });
});

describe('ids', () => {
  normative(
    ['dev-id', 'dev-next-id', 'dev-open-id'],
    'name objects of a kind, ascending, and are never given twice',
    async () => {
      const g = guest();
      const maps = [await g.map({ name: 'a' }), await g.map({ name: 'b' }), await g.map({ name: 'c' })];
      const ids = await Promise.all(maps.map(async (map) => (await g.info('map', map)).id));
      expect(ids).toEqual([1, 2, 3]);
      await g.close(maps[1]!);
      const next = async (after: number) =>
        (await g.expect('id', { kind: 'next-id', object: 'map', after })).id;
      expect([await next(0), await next(1), await next(2)]).toEqual([1, 3, 3]);
      expect(await g.errno({ kind: 'next-id', object: 'map', after: 3 })).toBe(ENOENT);
      expect(await g.errno({ kind: 'next-id', object: 'map', after: 0xffff_ffff })).toBe(ENOENT);
      expect(await g.errno({ kind: 'open-by-id', object: 'map', id: 2 })).toBe(ENOENT);
      expect(await g.errno({ kind: 'open-by-id', object: 'program', id: 1 })).toBe(ENOENT);
      const again = await g.handle({ kind: 'open-by-id', object: 'map', id: 3 });
      expect((await g.info('map', again)).name).toBe('c');
      expect((await g.info('map', await g.map())).id).toBe(4);
      await g.device.reset();
      expect((await g.info('map', await g.map())).id).toBe(5);
    },
  );

  normative('dev-info-map', 'and all else that a map is are in its information', async () => {
    const g = guest();
    const map = await g.map({ mapType: 5, keySize: 4, valueSize: 12, maxEntries: 8, name: 'per_cpu' });
    const usage = g.accounts.usageOf('guest0');
    expect(await g.info('map', map)).toEqual({
      kind: 'map',
      id: 1,
      name: 'per_cpu',
      type: 5,
      keySize: 4,
      // roundUp(12, 8) of each of two CPUs.
      valueSize: 32,
      maxEntries: 8,
      flags: 0,
      frozen: false,
      memoryBytes: usage.mapMemory,
      btf: 0,
      keyType: 0,
      valueType: 0,
    });
    await g.expect('done', { kind: 'freeze-map', handle: map });
    expect(await g.info('map', map)).toMatchObject({ frozen: true });
  });

  normative(
    ['dev-info-program', 'dev-info-room'],
    'of a program and of its maps are in its information',
    async () => {
      const g = guest();
      const maps = [await g.map(), await g.map(), await g.map(), await g.map()];
      const text = maps
        .map((_, index) => `r1 = map[m${index}]`)
        .reverse()
        .join('\n');
      const names = new Map(maps.map((map, index) => [`m${index}`, map]));
      const program = await g.program(encodeInsns(assemble(`${text}\nr0 = 2\nexit`, { maps: names })), {
        name: 'uses',
      });
      const info = await g.info('program', program);
      expect(info).toMatchObject({
        id: 1,
        name: 'uses',
        insnCount: 10,
        gplCompatible: true,
        btf: 0,
        maps: [1, 2, 3, 4],
      });
      expect(info.verifiedInsns).toBeGreaterThan(0);
      // The tag that bpftool shows of `r0 = 2; exit`.
      const pass = await g.program(PASS);
      expect(Buffer.from((await g.info('program', pass)).tag).toString('hex')).toBe('3b185187f1855c4c');
      // Behind 16 + 24 + 36 bytes there is room for so many ids; their number is told all the same.
      const readable = Uint8Array.of(0xf0, 24, ...u32Key(program));
      for (const [room, ids] of [
        [88, 3],
        [91, 3],
        [92, 4],
      ] as const) {
        const written = await g.sendBytes(readable, room);
        expect(written).toHaveLength(16 + 24 + 36 + 4 * ids);
        expect(written[16 + 24 + 32]).toBe(4);
      }
    },
  );

  normative('dev-info-btf', 'of BTF have its size beside them', async () => {
    const g = guest();
    const btf = await g.handle({ kind: 'load-btf', bytes: BTF });
    expect(await g.info('btf', btf)).toEqual({ kind: 'btf', id: 1, name: '', size: BTF.length });
  });
});

describe('a pin', () => {
  normative(
    ['dev-pin', 'dev-open-pinned', 'dev-unpin'],
    'keeps an object when its handles are gone, until it is taken away',
    async () => {
      const g = guest();
      const map = await g.map();
      await g.expect('done', { kind: 'pin', handle: map, name: 'flows' });
      await g.close(map);
      expect(g.device.objectCount).toBe(1);
      const again = await g.handle({ kind: 'open-pinned', name: 'flows' });
      expect((await g.info('map', again)).id).toBe(1);
      await g.close(again);
      await g.expect('done', { kind: 'unpin', name: 'flows' });
      expect(g.device.objectCount).toBe(0);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
      expect(await g.errno({ kind: 'open-pinned', name: 'flows' })).toBe(ENOENT);
      expect(await g.errno({ kind: 'unpin', name: 'flows' })).toBe(ENOENT);
    },
  );

  normative('dev-pin-taken', 'takes a name once', async () => {
    const g = guest();
    const [a, b] = [await g.map(), await g.map()];
    await g.expect('done', { kind: 'pin', handle: a, name: 'x' });
    expect(await g.errno({ kind: 'pin', handle: b, name: 'x' })).toBe(EEXIST);
    expect(await g.errno({ kind: 'pin', handle: a, name: 'x' })).toBe(EEXIST);
    await g.expect('done', { kind: 'pin', handle: a, name: 'y' });
    await g.expect('done', { kind: 'unpin', name: 'x' });
    await g.close(a);
    expect(await g.handle({ kind: 'open-pinned', name: 'y' })).toBeGreaterThan(0);
  });

  normative('dev-pin-space', 'is in the guest’s own name space, of this device', async () => {
    const g = guest({ name: 'one' });
    const other = guest({ name: 'two' });
    await g.expect('done', { kind: 'pin', handle: await g.map(), name: 'x' });
    expect(await other.errno({ kind: 'open-pinned', name: 'x' })).toBe(ENOENT);
    expect(await other.errno({ kind: 'next-pinned', after: '' })).toBe(ENOENT);
    await other.expect('done', { kind: 'pin', handle: await other.map(), name: 'x' });
  });

  normative('dev-pin-limit', 'is refused with ENOSPC when there are too many', async () => {
    const g = guest({ device: { limits: { maxPins: 2 } } });
    const map = await g.map();
    for (const name of ['a', 'b']) await g.expect('done', { kind: 'pin', handle: map, name });
    expect(await g.errno({ kind: 'pin', handle: map, name: 'c' })).toBe(ENOSPC);
    await g.expect('done', { kind: 'unpin', name: 'a' });
    await g.expect('done', { kind: 'pin', handle: map, name: 'c' });
  });

  normative('dev-pin-btf', 'is not for BTF', async () => {
    const g = guest();
    const btf = await g.handle({ kind: 'load-btf', bytes: BTF });
    expect(await g.errno({ kind: 'pin', handle: btf, name: 'x' })).toBe(EINVAL);
  });

  normative('dev-next-pinned', 'is listed in the order of the bytes of its name', async () => {
    const g = guest();
    const map = await g.map();
    for (const name of ['b', 'a.x', 'B', 'a', '_'])
      await g.expect('done', { kind: 'pin', handle: map, name });
    const names: string[] = [];
    for (let after = ''; names.length < 6;) {
      const reply = await g.send({ kind: 'next-pinned', after });
      if (reply.kind !== 'name') {
        expect(reply).toMatchObject({ kind: 'error', errno: ENOENT });
        break;
      }
      names.push((after = reply.name));
    }
    expect(names).toEqual(['B', '_', 'a', 'a.x', 'b']);
    // A name that is not there is a place in the order all the same.
    expect(await g.expect('name', { kind: 'next-pinned', after: 'a.' })).toMatchObject({ name: 'a.x' });
  });
});

describe('a reset', () => {
  normative(
    ['dev-reset', 'dev-reset-account'],
    'takes all that the guest holds, whatever holds it, and charges for nothing any more',
    async () => {
      const g = guest();
      const { map, program, link } = await oneOfEach(g);
      await g.expect('done', { kind: 'pin', handle: map, name: 'm' });
      await g.expect('done', { kind: 'pin', handle: link, name: 'l' });
      // A program that calls into the array that holds it, an outer map that holds an inner one.
      const jumps = await g.map({ mapType: 3, valueSize: 4 });
      const jump = encodeInsns(
        assemble('r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit', { maps: new Map([['j', jumps]]) }),
      );
      const caller = await g.program(jump);
      await g.expect('done', {
        kind: 'update-elem',
        handle: jumps,
        key: u32Key(0),
        value: u32Key(caller),
        flags: 0n,
      });
      const outer = await g.map({ mapType: 12, valueSize: 4, inner: map });
      await g.expect('done', {
        kind: 'update-elem',
        handle: outer,
        key: u32Key(0),
        value: u32Key(map),
        flags: 0n,
      });
      await g.expect('done', { kind: 'update-link', link, program: caller });
      await g.close(jumps);
      await g.close(outer);
      expect(g.place.program).toBeDefined();
      expect(g.device.usage).toEqual(g.accounts.usageOf('guest0'));
      await g.device.reset();
      expect(g.place.program).toBeUndefined();
      expect(g.device.objectCount).toBe(0);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
      for (const handle of [map, program, link, caller]) {
        expect(await g.errno({ kind: 'get-info', handle })).toBe(EBADF);
      }
      expect(await g.errno({ kind: 'next-pinned', after: '' })).toBe(ENOENT);
      // And the device serves as before.
      await g.link(await g.program(PASS));
      expect(g.place.program).toBeDefined();
    },
  );

  normative('dev-reset-underway', 'leaves nothing of a command that was under way', async () => {
    const g = guest();
    const program = await g.program(PASS);
    let letGo = (): void => {};
    g.place.onAttach = () => new Promise((resolve) => (letGo = resolve));
    const link = g.errno({ kind: 'create-link', program, hook: 0 });
    const load = g.errno({ kind: 'load-program', name: '', insns: PASS, gplCompatible: true, frags: false });
    const reset = g.device.reset();
    letGo();
    await reset;
    expect([await link, await load]).toEqual([EBUSY, EBUSY]);
    await g.device.idle();
    expect(g.place.program).toBeUndefined();
    expect(g.device.objectCount).toBe(0);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });
});

describe('REPORT', () => {
  normative(
    ['dev-report', 'dev-report-usage'],
    'tells what was asked, what failed and what is held',
    async () => {
      const g = guest();
      const { map } = await oneOfEach(g);
      await g.errno({ kind: 'close', handle: 1 });
      const { report } = await g.expect('report', { kind: 'get-report' });
      expect(report).toMatchObject({ commands: 5, errors: 1 });
      expect(report.usage).toEqual(g.accounts.usageOf('guest0'));
      expect(report.usage).toMatchObject({
        maps: 1,
        entries: 4,
        programs: 1,
        insns: 2,
        btfMemory: BTF.length,
      });
      await g.close(map);
      const after = (await g.expect('report', { kind: 'get-report' })).report;
      expect(after).toMatchObject({ commands: 7, errors: 1, usage: { maps: 0, mapMemory: 0, entries: 0 } });
    },
  );
});
