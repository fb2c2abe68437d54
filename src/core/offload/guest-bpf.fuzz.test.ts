import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { SeededRandom } from '../../conformance/verifier/seeded-random.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { hex } from '../../conformance/offload/normative.js';
import { u32Key } from '../../conformance/offload/offload-rig.js';
import { ProgramHook } from './program-hook.js';
import { OBJECT_KINDS } from './protocol/object-info.js';
import type { BpfRequest } from './protocol/control-protocol.js';
import { encodeSyscall } from './protocol/bpf-offload/syscall.js';
import { NO_USAGE } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(name: string): TestingParty {
  return testingParty(name, { cpus: 2, mebibytes: 8, verifier: new AbstractVerifier(DEFAULT_CONFIG) });
}

const LIMITS = { maxObjects: 40, maxPins: 4 };
const BTF = hex(
  '9feb 01 00 18000000 00000000 10000000 10000000 01000000 00000000 00000001 04000000 20000000 00',
);

/** What a guest may ask for, by the handles that it has: right and wrong ones. */
function requests(handleAt: (index: number) => number): readonly fc.Arbitrary<BpfRequest>[] {
  const handle = fc.oneof(
    { weight: 12, arbitrary: fc.nat(11).map(handleAt) },
    { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
  );
  const map = { key: fc.nat(2).map(u32Key), valueSize: fc.constantFrom(8, 8, 4, 16, 0) };
  const object = fc.constantFrom(...OBJECT_KINDS);
  const name = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const id = fc.nat(12);
  const value = fc.oneof(handle.map(u32Key), fc.constant(new Uint8Array(8)), fc.constant(new Uint8Array(16)));
  const program = fc.oneof(
    fc
      .constantFrom('r0 = 2\nexit', 'r0 = 1\nexit', 'exit', 'r0 = 2')
      .map((text) => encodeInsns(assemble(text))),
    handle.map((of) =>
      encodeInsns(
        assemble('r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit', {
          maps: new Map([['j', of | 0]]),
        }),
      ),
    ),
  );
  const kind = <K extends string>(of: K) => fc.constant(of);
  return [
    fc.record({
      kind: kind('create-map'),
      mapType: fc.constantFrom(1, 2, 3, 3, 5, 6, 9, 11, 12, 12, 13, 13, 14, 22, 27),
      keySize: fc.constantFrom(4, 4, 4, 8, 0),
      valueSize: fc.constantFrom(8, 8, 4, 4, 0),
      maxEntries: fc.constantFrom(1, 4, 4096, 0, 0xffff_ffff),
      mapFlags: fc.constantFrom(0, 0, 0, 1, 0x80),
      name: fc.constantFrom('', 'm'),
      inner: fc.option(handle, { nil: undefined }),
      btf: fc.option(
        handle.map((of) => ({ handle: of, keyType: 1, valueType: 1 })),
        { nil: undefined, freq: 4 },
      ),
    }),
    fc.record({
      kind: kind('update-elem'),
      handle,
      key: map.key,
      value,
      flags: fc.constantFrom(0n, 0n, 1n, 2n),
    }),
    fc.record({ kind: kind('lookup-elem'), handle, ...map }),
    fc.record({ kind: kind('lookup-and-delete-elem'), handle, ...map }),
    fc.record({ kind: kind('delete-elem'), handle, ...map }),
    fc.record({ kind: kind('get-first'), handle, keySize: fc.constantFrom(4, 0), valueSize: map.valueSize }),
    fc.record({ kind: kind('get-next'), handle, ...map }),
    fc.record({
      kind: kind('lookup-batch'),
      handle,
      keySize: fc.constant(4),
      valueSize: map.valueSize,
      count: fc.constantFrom(1, 3),
      cursor: fc.option(fc.uint8Array({ minLength: 1, maxLength: 9 }), { nil: undefined }),
      remove: fc.boolean(),
    }),
    fc.record({
      kind: kind('update-batch'),
      handle,
      keySize: fc.constant(4),
      valueSize: fc.constant(4),
      count: fc.constant(2),
      keys: fc.constant(Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0)),
      values: fc.tuple(handle, handle).map((of) => Uint8Array.from(of.flatMap((one) => [...u32Key(one)]))),
      flags: fc.constantFrom(0n, 1n),
    }),
    fc.record({
      kind: kind('delete-batch'),
      handle,
      keySize: fc.constant(4),
      count: fc.constant(2),
      keys: fc.constant(Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0)),
    }),
    fc.record({ kind: kind('freeze-map'), handle }),
    fc.record({ kind: kind('read-records'), handle, bytes: fc.constantFrom(0, 12, 4096) }),
    fc.record({ kind: kind('load-btf'), bytes: fc.constantFrom(BTF, BTF, BTF.subarray(1)) }),
    fc.record({ kind: kind('read-btf'), handle, offset: fc.nat(60), length: fc.nat(60) }),
    fc.record({
      kind: kind('load-program'),
      name: fc.constantFrom('', 'p'),
      insns: program,
      gplCompatible: fc.boolean(),
      frags: fc.boolean(),
      debug: fc.option(
        handle.map((btf) => ({ btf, functions: new Uint8Array(), lines: new Uint8Array() })),
        { nil: undefined, freq: 4 },
      ),
    }),
    fc.record({ kind: kind('create-link'), program: handle, hook: fc.constantFrom(0, 0, 1) }),
    fc.record({
      kind: kind('update-link'),
      link: handle,
      program: handle,
      expected: fc.option(handle, { nil: undefined }),
    }),
    fc.record({ kind: kind('detach-link'), link: handle }),
    fc.record({ kind: kind('pin'), handle, name }),
    fc.record({ kind: kind('unpin'), name }),
    fc.record({ kind: kind('open-pinned'), name }),
    fc.record({ kind: kind('next-pinned'), after: fc.oneof(fc.constant(''), name) }),
    fc.record({ kind: kind('open-by-id'), object, id }),
    fc.record({ kind: kind('next-id'), object, after: id }),
    fc.record({ kind: kind('get-info'), handle }),
    fc.record({ kind: kind('close'), handle }),
    fc.record({ kind: kind('close'), handle }),
    fc.record({ kind: kind('get-report') }),
  ];
}

const anyRequest = fc.oneof(...requests((index) => index));

/** Handles that a guest has had, by what they name; those that it has closed are among them. */
type Held = Record<'array' | 'hash' | 'jumps' | 'outer' | 'ring' | 'program' | 'link' | 'btf', number[]>;

/** A request that mostly makes sense, and what its handle would be of. */
function nextRequest(random: SeededRandom, held: Held): { request: BpfRequest; makes?: keyof Held } {
  const chance = (percent: number): boolean => random.chance(percent);
  const pick = <T>(from: readonly T[]): T => random.pick(from);
  /** Mostly one of the kind, of those the latest rather than the first. */
  const one = (...kinds: (keyof Held)[]): number => {
    const from = chance(4) ? Object.values(held).flat() : kinds.flatMap((kind) => held[kind].slice(-4));
    return from.length === 0 ? 4096 : pick(from);
  };
  const key = u32Key(random.below(3));
  const map = (mapType: number, valueSize: number, more: object = {}): BpfRequest => ({
    kind: 'create-map',
    mapType,
    keySize: 4,
    valueSize,
    maxEntries: chance(3) ? 0x4000_0000 : 2,
    mapFlags: 0,
    name: '',
    ...more,
  });
  const frags = chance(20);
  const load = (insns: Uint8Array): BpfRequest => ({
    kind: 'load-program',
    name: '',
    insns,
    gplCompatible: true,
    frags,
    ...(chance(20)
      ? { debug: { btf: one('btf'), functions: new Uint8Array(), lines: new Uint8Array() } }
      : {}),
  });
  const object = pick(OBJECT_KINDS);
  const name = pick(['a', 'b', 'c', 'd', 'e']);
  const handle = one('array', 'hash', 'jumps', 'outer', 'ring', 'program', 'link', 'btf');
  switch (random.below(29)) {
    case 0: {
      const btf = chance(30) ? { btf: { handle: one('btf'), keyType: 1, valueType: 1 } } : {};
      return { request: map(2, 'btf' in btf ? 4 : 8, btf), makes: 'array' };
    }
    case 1:
      return { request: map(1, 8), makes: 'hash' };
    case 2:
      return { request: map(3, 4), makes: 'jumps' };
    case 3:
      return { request: map(pick([12, 13]), 4, { inner: one('array', 'hash') }), makes: 'outer' };
    case 4:
      return { request: { ...map(27, 0), keySize: 0, maxEntries: 4096 } as BpfRequest, makes: 'ring' };
    case 5:
      return { request: load(pick([PASS, DROP, INVALID])), makes: 'program' };
    case 6:
    case 7: {
      const maps = new Map([['j', one('jumps') | 0]]);
      const text = `r2 = map[j]\nr3 = ${random.below(2)}\ncall bpf_tail_call\nr0 = 2\nexit`;
      return { request: load(encodeInsns(assemble(text, { maps }))), makes: 'program' };
    }
    case 8: {
      const maps = new Map([['r', one('ring') | 0]]);
      return { request: load(encodeInsns(assemble(OUTPUT, { maps }))), makes: 'program' };
    }
    case 9:
      return { request: { kind: 'load-btf', bytes: BTF }, makes: 'btf' };
    case 10:
    case 11:
      return { request: { kind: 'create-link', program: one('program'), hook: 0 }, makes: 'link' };
    case 12:
      return {
        request: {
          kind: 'update-link',
          link: one('link'),
          program: one('program'),
          ...(chance(30) ? { expected: one('program') } : {}),
        },
      };
    case 13:
      return { request: { kind: 'detach-link', link: one('link') } };
    case 14:
    case 15:
      return {
        request: { kind: 'update-elem', handle: one('jumps'), key, value: u32Key(one('program')), flags: 0n },
      };
    case 16:
      return {
        request: {
          kind: 'update-elem',
          handle: one('outer'),
          key,
          value: u32Key(one('array', 'hash')),
          flags: 0n,
        },
      };
    case 17:
      return {
        request: {
          kind: 'update-elem',
          handle: one('array', 'hash'),
          key,
          value: new Uint8Array(8),
          flags: 0n,
        },
      };
    case 18:
      return { request: { kind: 'delete-elem', handle: one('hash', 'jumps', 'outer'), key, valueSize: 0 } };
    case 19: {
      const keys = Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0);
      const values = Uint8Array.from([...u32Key(one('program')), ...u32Key(one('program'))]);
      const batch = { handle: one('jumps'), keySize: 4, count: 2, keys } as const;
      return {
        request: chance(50)
          ? { kind: 'update-batch', valueSize: 4, values, flags: 0n, ...batch }
          : { kind: 'delete-batch', ...batch },
      };
    }
    case 20:
      return {
        request: chance(70)
          ? { kind: 'read-records', handle: one('ring'), bytes: pick([0, 20, 64]) }
          : { kind: 'freeze-map', handle: one('hash', 'outer', 'jumps') },
      };
    case 21:
      return { request: chance(60) ? { kind: 'pin', handle, name } : { kind: 'unpin', name } };
    case 22:
      return {
        request: { kind: 'open-by-id', object, id: 1 + random.below(20) },
        makes: object === 'map' ? 'jumps' : object,
      };
    case 23:
      return { request: { kind: 'open-pinned', name }, makes: 'jumps' };
    case 24:
      return { request: { kind: 'get-info', handle } };
    default:
      return { request: { kind: 'close', handle } };
  }
}

const [PASS, DROP, INVALID] = ['r0 = 2\nexit', 'r0 = 1\nexit', 'exit'].map((text) =>
  encodeInsns(assemble(text)),
) as [Uint8Array, Uint8Array, Uint8Array];
const OUTPUT = `
  *(u64 *)(r10 -8) = 5
  r1 = map[r]
  r2 = r10
  r2 += -8
  r3 = 8
  r4 = 0
  call bpf_ringbuf_output
  r0 = 1
  exit`;

describe('a guest that asks for anything', () => {
  it('is charged for exactly what is there after each command, and for nothing after a reset', async () => {
    /** Requests that succeeded, by kind: a run in which nothing succeeds shows nothing. */
    const succeeded = new Map<string, number>();
    const round = async (seed: number): Promise<void> => {
      const random = new SeededRandom(seed);
      const place = new ProgramHook('guest0.eth0', 2);
      const host = party('host');
      const g = new BpfOffloadGuest({ host, guest: party('guest'), device: { place, limits: LIMITS } });
      // What an executor keeps for itself once it has loaded a program is nobody's.
      await g.link(await g.program(PASS));
      place.runOn(new Uint8Array(64));
      await g.device.reset();
      const before = host.mapBackend.memory!().used;
      const held: Held = {
        array: [],
        hash: [],
        jumps: [],
        outer: [],
        ring: [],
        program: [],
        link: [],
        btf: [],
      };
      for (let step = 0; step < 160; step++) {
        const { request, makes } = nextRequest(random, held);
        const call = random.below(4) === 0 ? encodeSyscall(request) : undefined;
        const readable =
          call === undefined ? g.protocol.encodeRequest(request) : Uint8Array.of(0xf0, 27, ...call);
        const written = await g.sendBytes(readable, g.protocol.replyBytes(request));
        const answer = g.protocol.decodeReply(request, readable, written);
        if (!answer.ok) throw new RangeError(`${request.kind}: ${answer.detail}`);
        const { reply } = answer;
        if (reply.kind === 'handle' && makes !== undefined) held[makes].push(reply.handle);
        if (reply.kind !== 'error') succeeded.set(request.kind, (succeeded.get(request.kind) ?? 0) + 1);
        expect(g.device.usage, request.kind).toEqual(g.accounts.usageOf('guest0'));
        expect(g.device.objectCount).toBeLessThanOrEqual(LIMITS.maxObjects);
        // What is attached runs, whatever became of its handles, maps and programs.
        if (step % 3 === 0)
          expect(['XDP_DROP', 'XDP_PASS']).toContain(place.runOn(new Uint8Array(64)).action);
        if (random.below(100) === 0) {
          await g.device.reset();
          expect(g.device.objectCount).toBe(0);
          expect(host.mapBackend.memory!().used).toBe(before);
        }
      }
      expect(g.device.statistics.refusals.internal).toBe(0);
      await g.device.reset();
      expect(place.isEmpty).toBe(true);
      expect(g.device.objectCount).toBe(0);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
      expect(host.mapBackend.memory!().used).toBe(before);
    };
    await fc.assert(fc.asyncProperty(fc.nat(), round), { numRuns: 60 });
    for (const kind of [
      'create-map',
      'load-program',
      'create-link',
      'update-link',
      'detach-link',
      'update-elem',
    ])
      expect(succeeded.get(kind) ?? 0, kind).toBeGreaterThan(5);
  }, 120_000);

  it('is answered whatever the bytes are: at most as many as there is room for, the ack first', async () => {
    const host = party('host');
    const g = new BpfOffloadGuest({ host, guest: party('guest'), device: { limits: LIMITS } });
    await fc.assert(
      fc.asyncProperty(
        anyRequest,
        fc.constantFrom('whole', 'mutated', 'cut', 'noise', 'call'),
        fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(300),
        async (request, how, changes, room) => {
          const whole = g.protocol.encodeRequest(request);
          const call = encodeSyscall(request);
          let readable: Uint8Array = Uint8Array.from(whole);
          if (how === 'call' && call !== undefined) readable = Uint8Array.of(0xf0, 27, ...call);
          if (how === 'noise') readable = Uint8Array.from(changes.flat());
          if (how === 'cut') readable = readable.subarray(0, changes[0]![0] % (readable.length + 1));
          if (how !== 'whole' && readable.length > 0) {
            for (const [at, byte] of changes) readable[at % readable.length] = byte;
          }
          const written = await g.sendBytes(readable, room);
          expect(written.length).toBeLessThanOrEqual(room);
          if (room === 0) expect(written).toHaveLength(0);
          else expect([0, 1]).toContain(written[0]);
          if (written.length > 1 && readable[0] === 0xf0) {
            const view = new DataView(written.buffer, written.byteOffset);
            expect(written.length).toBe(16 + view.getUint32(8, true) + view.getUint32(12, true));
            expect(view.getUint32(4, true) === 0).toBe(written[0] === 0);
          }
        },
      ),
      { numRuns: 6000 },
    );
    expect(g.device.statistics.refusals.internal).toBe(0);
    await g.device.reset();
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  }, 120_000);
});
