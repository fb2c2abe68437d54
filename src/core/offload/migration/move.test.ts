import { describe, expect, it } from 'vitest';
import { HelperAllowList } from '../../../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { assemble } from '../../../bpf/assembler.js';
import { programFromText } from '../../../bpf/assembly-object.js';
import { EINVAL } from '../../../bpf/errno.js';
import { encodeInsns } from '../../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../../bpf/map-spec.js';
import {
  mapSpec,
  OffloadRig,
  RecordingPlace,
  u32Key,
  type OffloadRigOptions,
} from '../../../conformance/offload/offload-rig.js';
import type { MoveReport } from '../../contract/device.js';
import type { Party } from '../../contract/party.js';
import type { Policy } from '../../contract/policy.js';
import { ProgramHook } from '../program-hook.js';
import { BPF_OFFLOAD } from '../protocol/bpf-offload/bpf-offload.js';
import type { BpfReply, BpfRequest } from '../protocol/control-protocol.js';
import { NO_USAGE, QuotaAccounts } from '../quota-accounts.js';
import { readGuestMap } from '../guest-map.js';
import { RFC_2019 } from '../protocol/rfc-2019/rfc-2019.js';
import { testingParty } from '../testing-party.js';

const T = BPF_MAP_TYPE;
const COUNTERS = mapSpec('counters', { maxEntries: 4 });
const FLOWS = mapSpec('flows', { type: T.BPF_MAP_TYPE_HASH, maxEntries: 16 }, [
  { key: u32Key(7), value: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) },
]);
const STAGES = {
  ...mapSpec('stages', { type: T.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4, maxEntries: 2 }),
  initial: [{ key: u32Key(0), programName: 'last' }],
};
/** Counts in an array and jumps to a program that counts in a hash. */
const FIRST = programFromText(
  'first',
  `
    r6 = r1
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
    r1 = r6
    r2 = map[stages]
    r3 = 0
    call bpf_tail_call
    r0 = 2
    exit`,
  [COUNTERS, STAGES],
);
const LAST = programFromText(
  'last',
  `
    r1 = 7
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[flows]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
  out:
    r0 = 1
    exit`,
  [FLOWS],
);
const OBJECT = { maps: [COUNTERS, STAGES, FLOWS], programs: [FIRST, LAST] };

/** A place that programs can be switched in at once, and a rig around it. */
function setUp(options: Partial<OffloadRigOptions> = {}) {
  const here = testingParty('here');
  const place = new ProgramHook('guest0.eth0', 1);
  const rig = new OffloadRig({
    host: here,
    guest: testingParty('guest'),
    protocol: BPF_OFFLOAD,
    ...options,
    device: { place, ...options.device },
  });
  const send = (): string => place.runOn(new Uint8Array(60), 0).action;
  const ask = async (request: BpfRequest) => rig.send(request);
  return { here, place, rig, send, ask };
}

const there = (policies: readonly Policy[] = []) => {
  const to = { party: testingParty('there'), policies, accounts: new QuotaAccounts() };
  return to;
};

async function moved(rig: OffloadRig, to = there(), meanwhile = (): void => undefined) {
  const move = await rig.device.prepareMove(to);
  if ('ok' in move) throw new Error(move.reason);
  meanwhile();
  move.commit();
  return move.finish();
}

async function handleOf(
  ask: (request: BpfRequest) => Promise<BpfReply>,
  request: BpfRequest,
): Promise<number> {
  const reply = await ask(request);
  if (reply.kind !== 'handle') throw new Error(JSON.stringify(reply));
  return reply.handle;
}

describe('a guest that moves to another host', () => {
  it('takes its programs, maps, tail calls and counters along, and no update is lost', async () => {
    const { rig, send, ask, here } = setUp();
    const installed = await rig.netdev.install(OBJECT, FIRST, 'offload');
    if (!installed.ok) throw new Error(installed.message);
    for (let frame = 0; frame < 5; frame++) expect(send()).toBe('XDP_DROP');
    const usage = rig.accounts.usageOf('guest0');
    const to = there();
    const report = await moved(rig, to, () => {
      // While everything is copied, frames go on.
      for (let frame = 0; frame < 3; frame++) send();
    });
    expect(report).toEqual({ maps: 3, programs: 2, bytesBefore: 24, bytesAtSwitch: 24 });
    for (let frame = 0; frame < 2; frame++) expect(send()).toBe('XDP_DROP');

    const { maps } = installed.value;
    const counters = await readGuestMap(maps.get('counters')!);
    expect(counters.ok && counters.value.map(({ value }) => value[0])).toEqual([0, 10, 0, 0]);
    const flows = await readGuestMap(maps.get('flows')!);
    expect(flows.ok && flows.value.map(({ value }) => value[0])).toEqual([11]);
    expect(to.accounts.usageOf('guest0')).toEqual(usage);
    expect(rig.accounts.guests).toEqual([]);
    expect(here.runtime.space.bytesInUse).toBe(testingParty('new').runtime.space.bytesInUse);
    const report2 = await ask({ kind: 'get-report' });
    expect(report2.kind === 'report' && report2.report.verdicts).toMatchObject({ XDP_DROP: 10 });

    expect(await rig.netdev.close()).toMatchObject({ ok: true });
    expect(to.accounts.guests).toEqual([]);
    expect(send()).toBe('XDP_PASS');
  });

  it('is known by the same handles, ids and names', async () => {
    const { rig, ask } = setUp();
    const handle = (request: BpfRequest) => handleOf(ask, request);
    const map = { kind: 'create-map', keySize: 4, valueSize: 8, maxEntries: 2, mapFlags: 0 } as const;
    // A hole in handles and ids.
    await ask({ kind: 'close', handle: await handle({ ...map, mapType: 2, name: 'gone' }) });
    const array = await handle({ ...map, mapType: 2, name: 'array' });
    const queue = await handle({ ...map, mapType: T.BPF_MAP_TYPE_QUEUE, keySize: 0, name: 'queue' });
    const stack = await handle({ ...map, mapType: T.BPF_MAP_TYPE_STACK, keySize: 0, name: 'stack' });
    const outer = await handle({
      ...map,
      mapType: T.BPF_MAP_TYPE_HASH_OF_MAPS,
      valueSize: 4,
      inner: array,
    });
    const value = (first: number): Uint8Array => Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 0);
    for (const handle of [queue, stack]) {
      for (const first of [1, 2]) {
        await ask({ kind: 'update-elem', handle, key: new Uint8Array(), value: value(first), flags: 0n });
      }
    }
    const inner = new Uint8Array(4);
    new DataView(inner.buffer).setUint32(0, array, true);
    await ask({ kind: 'update-elem', handle: outer, key: u32Key(3), value: inner, flags: 0n });
    await ask({ kind: 'pin', handle: array, name: 'kept' });
    await ask({ kind: 'close', handle: array });
    const second = await handle({ kind: 'open-pinned', name: 'kept' });
    const info = async (handle: number) => {
      const reply = await ask({ kind: 'get-info', handle });
      return reply.kind === 'info' ? reply.info : reply;
    };
    const before = [await info(second), await info(queue), await info(outer)];
    await moved(rig);
    expect([await info(second), await info(queue), await info(outer)]).toEqual(before);
    expect(await info(array), 'closed before').toMatchObject({ kind: 'error' });
    const pop = { kind: 'lookup-and-delete-elem', key: new Uint8Array(), valueSize: 8 } as const;
    expect(await ask({ ...pop, handle: queue })).toEqual({ kind: 'value', value: value(1) });
    expect(await ask({ ...pop, handle: stack })).toEqual({ kind: 'value', value: value(2) });
    expect(await ask({ kind: 'lookup-elem', handle: outer, key: u32Key(3), valueSize: 4 })).toEqual({
      kind: 'value',
      value: Uint8Array.of(2, 0, 0, 0),
    });
    // Handles of objects to come are new, too: none names a second object.
    const next = await handle({ ...map, mapType: 2 });
    expect([array, second, queue, stack, outer]).not.toContain(next);
    expect(await ask({ kind: 'unpin', name: 'kept' })).toEqual({ kind: 'done' });
  });

  it('is answered only when it has arrived', async () => {
    const { rig, ask } = setUp();
    const move = await rig.device.prepareMove(there());
    if ('ok' in move) throw new Error(move.reason);
    let answered = false;
    const answer = ask({ kind: 'get-report' }).then(() => (answered = true));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(answered).toBe(false);
    move.commit();
    await move.finish();
    await answer;
  });

  it('is held to what the other host grants, from then on', async () => {
    const grants = (insns: number): Policy => ({
      name: 'guard',
      grants: () => ({ insns }),
      rule: () => ({ ruling: 'allow', reason: 'fine' }),
    });
    const { rig, ask } = setUp({ policies: [grants(3)] });
    const load = (count: number) => {
      const insns = encodeInsns(assemble(`${'r0 = 2\n'.repeat(count - 1)}exit`));
      return ask({ kind: 'load-program', name: '', insns, gplCompatible: true, frags: false });
    };
    expect(await load(3)).toMatchObject({ kind: 'handle' });
    expect(await load(4)).toMatchObject({ kind: 'error', errno: EINVAL });
    await moved(rig, there([grants(5)]));
    expect(await load(5)).toMatchObject({ kind: 'handle' });
    expect(await load(6)).toMatchObject({ kind: 'error', errno: EINVAL });
  });

  it('takes what RFC 2019’s commands made along, too', async () => {
    const { rig, send } = setUp({ protocol: RFC_2019 });
    const object = { maps: [COUNTERS], programs: [programFromText('drop', 'r0 = 1\nexit')] };
    expect(await rig.netdev.install(object, object.programs[0]!, 'offload')).toMatchObject({ ok: true });
    const to = there();
    expect(await moved(rig, to)).toMatchObject({ programs: 1 });
    expect(send()).toBe('XDP_DROP');
    expect(to.accounts.usageOf('guest0')).toMatchObject({ programs: 1, insns: 2 });
    expect(await rig.netdev.detach()).toMatchObject({ ok: true });
    expect(to.accounts.guests).toEqual([]);
  });
});

describe('a guest that is not let go', () => {
  const denies = (operation: string): Policy => ({
    name: 'guard',
    rule: (request) =>
      request.operation === operation
        ? { ruling: 'deny', reason: `no ${operation}` }
        : { ruling: 'allow', reason: 'fine' },
  });

  const refused = async (
    to: ReturnType<typeof there>,
    options: Partial<OffloadRigOptions> = {},
  ): Promise<string> => {
    const { rig, send } = setUp(options);
    expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
    const usage = rig.accounts.usageOf('guest0');
    const move = await rig.device.prepareMove(to);
    if (!('ok' in move)) throw new Error('it was let go');
    // It runs on, with all that it has, and nothing is left on the other host.
    expect(send()).toBe('XDP_DROP');
    const counters = await readGuestMap(rig.netdev.query()!.program.maps.get('counters')!);
    expect(counters.ok && counters.value[1]!.value[0]).toBe(1);
    expect(rig.accounts.usageOf('guest0')).toEqual(usage);
    expect(to.accounts.totalUsage()).toEqual(NO_USAGE);
    return move.reason;
  };

  it.each(['migrate-in', 'map-create', 'program-load', 'program-attach'])(
    'stays when the other host denies %s',
    async (operation) => {
      expect(await refused(there([denies(operation)]))).toContain(`by guard: no ${operation}`);
    },
  );

  it('stays when its own host denies it', async () => {
    expect(await refused(there(), { policies: [denies('migrate-out')] })).toContain(
      'by guard: no migrate-out',
    );
  });

  it('stays when the other host is not able to do what it was told', async () => {
    const allow = new HelperAllowList({ base: 'none', classes: [], allow: [], deny: [], guests: {} });
    expect(await refused(there([allow]))).toMatch(/^the other host has no helper /);
  });

  it('stays when the other host’s verifier says no', async () => {
    const to = there();
    const no = { accepted: false, verifier: 'picky', code: 'no', reason: 'not here' } as const;
    const statistics = { processedInsns: 0, peakStates: 0, totalStates: 0 };
    const strict = {
      ...to,
      party: { ...to.party, verifier: { name: 'picky', verify: async () => ({ ...no, statistics }) } },
    };
    expect(await refused(strict)).toContain('by picky: not here');
  });

  it('stays when the other host fails', async () => {
    const to = there();
    to.party.mapBackend.create = () => {
      throw new Error('out of order');
    };
    expect(await refused(to)).toContain('the other host failed: out of order');
  });

  it('stays when its programs cannot be switched between two frames', async () => {
    const { rig } = setUp({ device: {} });
    // The rig's own place says nothing of it.
    const slow = new OffloadRig({
      host: testingParty('here'),
      guest: testingParty('guest'),
      protocol: BPF_OFFLOAD,
    });
    expect(await slow.device.prepareMove(there())).toMatchObject({
      ok: false,
      reason: /an update could be lost/,
    });
    expect(rig.device.attachedProgram).toBeUndefined();
  });

  it('runs on when its place does not take the other program', async () => {
    const { rig, place, send } = setUp();
    expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
    const to = there();
    const broken = { ...to, party: { ...to.party, executor: withoutFrames(to.party) } };
    const move = await rig.device.prepareMove(broken);
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(await move.finish()).toMatchObject({ ok: false, reason: /could not be replaced: no frames/ });
    expect(send()).toBe('XDP_DROP');
    expect(place.isEmpty).toBe(false);
    expect(to.accounts.totalUsage()).toEqual(NO_USAGE);
    const counters = await readGuestMap(rig.netdev.query()!.program.maps.get('counters')!);
    expect(counters.ok && counters.value[1]!.value[0]).toBe(1);
  });

  it('has its program closed only when a place that takes its time has let go of it', async () => {
    const place = Object.assign(new RecordingPlace(), { replacesAtOnce: true });
    const { rig } = setUp({ device: { place } });
    expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
    const to = there();
    const { executor } = to.party;
    const load = executor.load.bind(executor);
    const closed: { wasAttached: boolean }[] = [];
    executor.load = async (program, environment) => {
      const loaded = await load(program, environment);
      const close = loaded.close.bind(loaded);
      loaded.close = () => {
        closed.push({ wasAttached: place.program === loaded });
        close();
      };
      return loaded;
    };
    const move = await rig.device.prepareMove(to);
    if ('ok' in move) throw new Error(move.reason);
    const before = place.program;
    move.commit();
    const switched = place.program;
    expect(switched).not.toBe(before);
    let letGo = (): void => undefined;
    place.onDetach = () => new Promise((resolve) => (letGo = resolve));
    const reset = rig.device.reset();
    const finished = move.finish();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(place.program).toBe(switched);
    expect(closed).toEqual([]);
    letGo();
    expect(await finished).toMatchObject({ maps: 0, programs: 0 });
    await reset;
    expect(closed).toEqual([{ wasAttached: false }, { wasAttached: false }]);
    expect(place.program).toBeUndefined();
    expect(to.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
  });

  it('stays nowhere when it is reset meanwhile', async () => {
    const { rig, send } = setUp();
    expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
    const to = there();
    const move = await rig.device.prepareMove(to);
    if ('ok' in move) throw new Error(move.reason);
    const reset = rig.device.reset();
    move.commit();
    expect(await move.finish()).toMatchObject({ ok: false });
    await reset;
    expect(send()).toBe('XDP_PASS');
    expect(to.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
  });

  it('has commands answered by the other host only, when it is reset after the switch', async () => {
    const { rig } = setUp();
    expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
    const to = there();
    const move = await rig.device.prepareMove(to);
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    await rig.device.reset();
    const made = rig.createArray();
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(await move.finish()).toMatchObject({ maps: 0, programs: 0 });
    await made;
    expect(to.accounts.totalUsage()).toMatchObject({ maps: 1, programs: 0 });
    expect(rig.accounts.guests).toEqual([]);
  });

  const gaps = Array.from({ length: 41 }, (_, gap) => gap);
  it.each(['reset', 'unplug'] as const)(
    'is nowhere after %s, however far the end of the move has come',
    async (operation) => {
      const maps = new Set<number>();
      for (const gap of gaps) {
        const { rig, place, send, ask } = setUp();
        expect(await rig.netdev.install(OBJECT, FIRST, 'offload')).toMatchObject({ ok: true });
        const array = await rig.createArray();
        const to = there();
        const move = await rig.device.prepareMove(to);
        if ('ok' in move) throw new Error(move.reason);
        move.commit();
        const finished = move.finish();
        for (let turn = 0; turn < gap; turn++) await Promise.resolve();
        await rig.device[operation]();
        // Its guest's other nics may have gone: it goes, with what it has.
        expect(await finished, `gap ${gap}`).toMatchObject({ bytesBefore: expect.any(Number) as number });
        maps.add(((await finished) as MoveReport).maps);
        await rig.device.idle();
        expect(await ask({ kind: 'get-info', handle: array }), `gap ${gap}`).toMatchObject({ kind: 'error' });
        expect([place.isEmpty, rig.device.objectCount], `gap ${gap}`).toEqual([true, 0]);
        expect(send(), `gap ${gap}`).toBe('XDP_PASS');
        expect([...to.accounts.guests, ...rig.accounts.guests], `gap ${gap}`).toEqual([]);
      }
      // Before it has arrived, and after: FIRST's three and the array.
      expect(maps).toEqual(new Set([0, 4]));
    },
  );
});

describe('records of a ring buffer, in a move', () => {
  /** Bytes of a ring, and of a record in it: 8 of header and 673 of data, rounded up to 8 (kernel/bpf/ringbuf.c). */
  const RING_BYTES = 4096;
  const RECORD_BYTES = 688;
  const NUMBERED = `
    r1 = 0
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[count]
    call bpf_map_lookup_elem
    if r0 == 0 goto full
    r6 = r0
    r1 = map[ring]
    r2 = 673
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto full
    r1 = *(u64 *)(r6 +0)
    r1 += 1
    *(u64 *)(r6 +0) = r1
    *(u64 *)(r0 +0) = r1
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit
    r0 = 2
    exit
  full:
    r0 = 1
    exit`;

  /** A guest whose program writes a record of each frame, with its number from 1, as long as there is room. */
  async function recording() {
    const { rig, ask, send } = setUp();
    const map = { kind: 'create-map', mapFlags: 0 } as const;
    const count = { ...map, mapType: T.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 };
    const ring = await handleOf(ask, {
      ...map,
      mapType: T.BPF_MAP_TYPE_RINGBUF,
      keySize: 0,
      valueSize: 0,
      maxEntries: RING_BYTES,
    });
    const maps = new Map([
      ['count', await handleOf(ask, count)],
      ['ring', ring],
    ]);
    const insns = encodeInsns(assemble(NUMBERED, { maps }));
    const load = { kind: 'load-program', name: '', insns, gplCompatible: true, frags: false } as const;
    await handleOf(ask, { kind: 'create-link', program: await handleOf(ask, load), hook: 0 });
    const read = async (bytes = 65_536): Promise<{ number: number; lost: number }[]> => {
      const reply = await ask({ kind: 'read-records', handle: ring, bytes });
      if (reply.kind !== 'records') throw new Error(JSON.stringify(reply));
      return reply.records.map(({ data, lost }) => ({ number: data[0]!, lost }));
    };
    const fill = (): number => {
      for (let written = 0; ; written++) if (send() !== 'XDP_PASS') return written;
    };
    return { rig, send, read, fill };
  }
  /** Room for one record in an answer: 12 bytes and the data. */
  const ONE = 12 + 673;
  const numbers = (...all: number[]) => all.map((number) => ({ number, lost: 0 }));

  it('stay where they are when the guest does', async () => {
    const { rig, send, read } = await recording();
    for (let frame = 0; frame < 3; frame++) expect(send()).toBe('XDP_PASS');
    expect(await read(ONE)).toEqual(numbers(1));
    expect(send()).toBe('XDP_PASS');
    const to = there();
    const broken = { ...to, party: { ...to.party, executor: withoutFrames(to.party) } };
    const move = await rig.device.prepareMove(broken);
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(await move.finish()).toMatchObject({ ok: false });
    expect(await read()).toEqual(numbers(2, 3, 4));
    expect(send()).toBe('XDP_PASS');
    expect(await read()).toEqual(numbers(5));
  });

  it('are there afterwards as they were, and what had no room goes on being counted', async () => {
    const { rig, send, read, fill } = await recording();
    expect(fill(), 'and one more that had no room').toBe(Math.floor(RING_BYTES / RECORD_BYTES));
    expect(await read(ONE)).toEqual(numbers(1));
    // In the place of the first, and again one that has none.
    expect(fill()).toBe(1);
    const move = await rig.device.prepareMove(there());
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(send(), 'while the switch is not over').toBe('XDP_DROP');
    expect(await move.finish()).toMatchObject({ maps: 2, programs: 1 });
    expect(await read()).toEqual([...numbers(2, 3, 4, 5), { number: 6, lost: 1 }]);
    expect(send()).toBe('XDP_PASS');
    expect(await read()).toEqual([{ number: 7, lost: 2 }]);
  });
});

/** Programs that load and then have no room for frames. */
function withoutFrames({ executor }: Party): Party['executor'] {
  return {
    name: executor.name,
    load: async (program, environment) => {
      const loaded = await executor.load(program, environment);
      return Object.assign(Object.create(loaded) as typeof loaded, {
        openFrames: () => {
          throw new Error('no frames');
        },
        close: () => loaded.close(),
      });
    },
  };
}

describe('what moves, whatever it is', () => {
  const map = { kind: 'create-map', keySize: 4, valueSize: 8, maxEntries: 2, mapFlags: 0 } as const;

  it('is charged as before, and keeps its ids, with templates that are closed', async () => {
    const { rig, ask } = setUp();
    const inner = await handleOf(ask, { ...map, mapType: 2 });
    const first = await handleOf(ask, { ...map, mapType: 12, valueSize: 4, inner });
    await handleOf(ask, { ...map, mapType: 13, valueSize: 4, inner });
    await ask({ kind: 'close', handle: inner });
    const usage = rig.accounts.usageOf('guest0');
    const to = there();
    await moved(rig, to);
    expect(to.accounts.usageOf('guest0')).toEqual(usage);
    const ids: number[] = [];
    for (let after = 0; ; after = ids.at(-1)!) {
      const next = await ask({ kind: 'next-id', object: 'map', after });
      if (next.kind !== 'id') break;
      ids.push(next.id);
    }
    expect(ids).toEqual([1, 2, 3]);
    expect(await ask({ kind: 'get-info', handle: first })).toMatchObject({ info: { id: 2, type: 12 } });
    const opened = await handleOf(ask, { kind: 'open-by-id', object: 'map', id: 2 });
    expect(await ask({ kind: 'get-info', handle: opened })).toMatchObject({ info: { id: 2, type: 12 } });
    expect(
      await ask({ kind: 'get-info', handle: await handleOf(ask, { ...map, mapType: 2 }) }),
    ).toMatchObject({
      info: { id: 4 },
    });
  });

  it('are programs and maps of programs for frames in several buffers, or not', async () => {
    const { rig, ask } = setUp();
    const jumps = await handleOf(ask, { ...map, mapType: T.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
    const program = (frags: boolean): BpfRequest => ({
      kind: 'load-program',
      name: '',
      insns: encodeInsns(assemble('r0 = 2\nexit')),
      gplCompatible: true,
      frags,
    });
    const put = async (handle: number) => {
      const value = u32Key(handle);
      return ask({ kind: 'update-elem', handle: jumps, key: u32Key(0), value, flags: 0n });
    };
    const [whole, split] = [await handleOf(ask, program(false)), await handleOf(ask, program(true))];
    expect(await put(split)).toEqual({ kind: 'done' });
    expect(await ask({ kind: 'delete-elem', handle: jumps, key: u32Key(0), valueSize: 4 })).toEqual({
      kind: 'done',
    });
    expect(await put(whole)).toMatchObject({ kind: 'error', errno: EINVAL });
    await moved(rig);
    expect(await put(whole)).toMatchObject({ kind: 'error', errno: EINVAL });
    expect(await put(split)).toEqual({ kind: 'done' });
  });

  it('stays frozen, of every type that can be', async () => {
    const { rig, ask } = setUp();
    const inner = await handleOf(ask, { ...map, mapType: 2 });
    const frozen = [
      inner,
      await handleOf(ask, { ...map, mapType: 12, valueSize: 4, inner }),
      await handleOf(ask, { ...map, mapType: 27, keySize: 0, valueSize: 0, maxEntries: 4096 }),
    ];
    for (const handle of frozen) expect(await ask({ kind: 'freeze-map', handle })).toEqual({ kind: 'done' });
    await moved(rig);
    for (const handle of frozen) {
      expect(await ask({ kind: 'get-info', handle })).toMatchObject({ info: { frozen: true } });
    }
    const value = new Uint8Array(4);
    new DataView(value.buffer).setUint32(0, inner, true);
    const update = { kind: 'update-elem', handle: frozen[1]!, key: u32Key(0), value, flags: 0n } as const;
    expect(await ask(update)).toMatchObject({ kind: 'error', errno: 1 });
  });

  it.each([
    ['an array that only programs read', { mapType: 2, mapFlags: 16 }],
    ['a hash that only programs read', { mapType: 1, mapFlags: 16 }],
    ['a queue that is frozen', { mapType: 22, keySize: 0, frozen: true }],
  ])(
    'does not leave anything behind in silence: %s',
    async (
      _what,
      { frozen = false, ...attributes }: Record<string, number | boolean> & { frozen?: boolean },
    ) => {
      const { rig, ask } = setUp();
      const handle = await handleOf(ask, { ...map, ...(attributes as { mapType: number }) });
      if (frozen) await ask({ kind: 'freeze-map', handle });
      expect(await rig.device.prepareMove(there())).toMatchObject({
        ok: false,
        reason: /cannot be filled: EPERM/,
      });
      expect(await ask({ kind: 'get-info', handle })).toMatchObject({ info: { id: 1 } });
    },
  );

  it.each([
    ['one map', [65_537]],
    ['several together', [32_768, 32_768, 1]],
  ])(
    'does not hold everybody up: more than what is copied in one stretch stays, with its guest: %s',
    async (_what, sizes) => {
      const { rig, ask } = setUp();
      for (const maxEntries of sizes) await handleOf(ask, { ...map, mapType: 2, maxEntries });
      const to = there();
      expect(await rig.device.prepareMove(to)).toMatchObject({
        ok: false,
        reason: /65537 steps to copy, of which no more than 65536 are moved/,
      });
      expect(to.accounts.totalUsage()).toEqual(NO_USAGE);
    },
  );

  it('moves as much as is copied in one stretch, and what nobody can change beside it', async () => {
    const { rig, ask } = setUp();
    for (const maxEntries of [32_768, 32_768]) await handleOf(ask, { ...map, mapType: 2, maxEntries });
    // BPF_F_RDONLY_PROG
    const constant = await handleOf(ask, { ...map, mapType: 2, maxEntries: 1, mapFlags: 1 << 7 });
    await ask({ kind: 'freeze-map', handle: constant });
    await moved(rig);
  });

  it('gives others their turn while elements that are objects are put in', async () => {
    const { rig, ask } = setUp();
    const inner = await handleOf(ask, { ...map, mapType: 2 });
    const outer = await handleOf(ask, { ...map, mapType: 13, valueSize: 4, maxEntries: 4096, inner });
    for (let first = 0; first < 4096; first += 512) {
      const count = 512;
      const keys = new Uint8Array(Uint32Array.from({ length: count }, (_, index) => first + index).buffer);
      const values = new Uint8Array(new Uint32Array(count).fill(inner).buffer);
      const batch = {
        kind: 'update-batch',
        handle: outer,
        keySize: 4,
        valueSize: 4,
        count,
        keys,
        values,
        flags: 0n,
      } as const;
      expect(await ask(batch)).toEqual({ kind: 'count', count });
    }
    let turns = 0;
    let isReady = false;
    const next = (): void => {
      turns++;
      if (!isReady) setImmediate(next);
    };
    setImmediate(next);
    const move = await rig.device.prepareMove(there());
    isReady = true;
    if ('ok' in move) throw new Error(move.reason);
    expect(turns).toBeGreaterThanOrEqual(4096 / 256);
    await move.abort();
  });
});
