import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hex, normative } from '../../../../conformance/offload/normative.js';
import {
  DEFAULT_REQUEST_LIMITS,
  expectedReply,
  type BpfReply,
  type BpfRequest,
} from '../control-protocol.js';
import { OBJECT_KINDS } from '../object-info.js';
import { decodeRequest } from './decode-request.js';
import { BPF_RESPONSE_REASONS, decodeReply, encodeRequest, replyBytes } from './driver-side.js';
import { encodeRefusal, encodeReply } from './encode-reply.js';
import { decodeSyscall, encodeSyscall } from './syscall.js';
import type { COMMAND_OF } from './wire.js';

const ROOM = 1 << 21;
const LIMITS = { ...DEFAULT_REQUEST_LIMITS, maxInsns: 65_536 };

const u32 = fc.nat(0xffff_ffff);
const handle = fc.integer({ min: 1, max: 0xffff_ffff });
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const key = fc.nat(20).chain(bytes);
const size = fc.nat(0x200);
const flags = fc.bigInt({ min: 0n, max: 2n });
const objectName = fc
  .array(fc.constantFrom(...'abzAZ09_.'), { maxLength: 15 })
  .map((characters) => characters.join(''));
const pinName = fc
  .tuple(fc.constantFrom(...'abZ0_-'), fc.array(fc.constantFrom(...'abZ0_-.'), { maxLength: 62 }))
  .map(([first, rest]) => first + rest.join(''));
const object = fc.constantFrom(...OBJECT_KINDS);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const element = { handle, key, valueSize: size };

type Requests = { [Kind in keyof typeof COMMAND_OF]: fc.Arbitrary<Extract<BpfRequest, { kind: Kind }>> };
const kind = <K extends string>(name: K) => fc.constant(name);

/** Every request that the protocol has a command for. */
const REQUESTS: Requests = {
  'get-capabilities': fc.record({ kind: kind('get-capabilities') }),
  'get-report': fc.record({ kind: kind('get-report') }),
  'create-map': fc
    .record({
      kind: kind('create-map'),
      mapType: u32,
      keySize: size,
      valueSize: size,
      maxEntries: u32,
      mapFlags: u32,
      name: objectName,
      inner: fc.option(handle, { nil: undefined }),
      btf: fc.option(fc.record({ handle, keyType: u32, valueType: u32 }), { nil: undefined }),
    })
    .map(withoutUndefined),
  'lookup-elem': fc.record({ kind: kind('lookup-elem'), ...element }),
  'lookup-and-delete-elem': fc.record({ kind: kind('lookup-and-delete-elem'), ...element }),
  'delete-elem': fc.record({ kind: kind('delete-elem'), ...element }),
  'update-elem': fc.record({ kind: kind('update-elem'), handle, key, value: key, flags }),
  'get-first': fc.record({ kind: kind('get-first'), handle, keySize: size, valueSize: size }),
  'get-next': fc.record({
    kind: kind('get-next'),
    ...element,
    // Of 0 bytes there is no key after another.
    key: fc.integer({ min: 1, max: 20 }).chain(bytes),
  }),
  'lookup-batch': fc.record({
    kind: kind('lookup-batch'),
    handle,
    keySize: size,
    valueSize: size,
    count: fc.integer({ min: 1, max: 64 }),
    cursor: fc.option(fc.integer({ min: 1, max: 512 }).chain(bytes), { nil: undefined }),
    remove: fc.boolean(),
  }),
  'update-batch': fc
    .tuple(fc.integer({ min: 1, max: 9 }), fc.nat(9), fc.nat(9), handle, flags)
    .chain(([count, keySize, valueSize, of, with_]) =>
      fc.record({
        kind: kind('update-batch'),
        handle: fc.constant(of),
        keySize: fc.constant(keySize),
        valueSize: fc.constant(valueSize),
        count: fc.constant(count),
        keys: bytes(count * keySize),
        values: bytes(count * valueSize),
        flags: fc.constant(with_),
      }),
    ),
  'delete-batch': fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(9), handle).chain(([count, keySize, of]) =>
    fc.record({
      kind: kind('delete-batch'),
      handle: fc.constant(of),
      keySize: fc.constant(keySize),
      count: fc.constant(count),
      keys: bytes(count * keySize),
    }),
  ),
  'freeze-map': fc.record({ kind: kind('freeze-map'), handle }),
  'read-records': fc.record({ kind: kind('read-records'), handle, bytes: fc.nat(256 * 1024) }),
  'load-btf': fc.record({ kind: kind('load-btf'), bytes: key }),
  'read-btf': fc.record({ kind: kind('read-btf'), handle, offset: u32, length: fc.nat(256 * 1024) }),
  'load-program': fc
    .integer({ min: 1, max: 6 })
    .chain((insns) =>
      fc.record({
        kind: kind('load-program'),
        name: objectName,
        insns: bytes(8 * insns),
        gplCompatible: fc.boolean(),
        frags: fc.boolean(),
        debug: fc.option(
          fc.record({
            btf: handle,
            functions: fc.nat(insns).chain((count) => bytes(8 * count)),
            lines: fc.nat(insns).chain((count) => bytes(16 * count)),
          }),
          { nil: undefined },
        ),
      }),
    )
    .map(withoutUndefined),
  'create-link': fc.record({ kind: kind('create-link'), program: u32, hook: fc.constant(0) }),
  'update-link': fc
    .record({
      kind: kind('update-link'),
      link: u32,
      program: u32,
      expected: fc.option(u32, { nil: undefined }),
    })
    .map(withoutUndefined),
  'detach-link': fc.record({ kind: kind('detach-link'), link: u32 }),
  pin: fc.record({ kind: kind('pin'), handle: u32, name: pinName }),
  unpin: fc.record({ kind: kind('unpin'), name: pinName }),
  'open-pinned': fc.record({ kind: kind('open-pinned'), name: pinName }),
  'next-pinned': fc.record({
    kind: kind('next-pinned'),
    after: fc.oneof(fc.constant(''), pinName),
  }),
  'open-by-id': fc.record({ kind: kind('open-by-id'), object, id: u32 }),
  'next-id': fc.record({ kind: kind('next-id'), object, after: u32 }),
  'get-info': fc.record({ kind: kind('get-info'), handle: u32 }),
  close: fc.record({ kind: kind('close'), handle: u32 }),
};
const anyRequest = fc.oneof(...Object.values(REQUESTS)) as fc.Arbitrary<BpfRequest>;

function withoutUndefined<T extends object>(of: T): T {
  return Object.fromEntries(Object.entries(of).filter(([, value]) => value !== undefined)) as T;
}

const count53 = fc.nat(Number.MAX_SAFE_INTEGER);
const verdicts = fc.record({
  XDP_ABORTED: count53,
  XDP_DROP: count53,
  XDP_PASS: count53,
  XDP_TX: count53,
  XDP_REDIRECT: count53,
});
const identity = { id: u32, name: objectName };
const info = fc.oneof(
  fc.record({
    kind: kind('map'),
    ...identity,
    type: u32,
    keySize: u32,
    valueSize: u32,
    maxEntries: u32,
    flags: u32,
    frozen: fc.boolean(),
    memoryBytes: count53,
    btf: u32,
    keyType: u32,
    valueType: u32,
  }),
  fc.record({
    kind: kind('program'),
    ...identity,
    tag: bytes(8),
    insnCount: u32,
    gplCompatible: fc.boolean(),
    loadTime: u64,
    verifiedInsns: u32,
    btf: u32,
    maps: fc.array(u32, { maxLength: 64 }),
  }),
  fc.record({ kind: kind('link'), ...identity, program: u32, hook: u32, verdicts }),
  fc.record({ kind: kind('btf'), ...identity, size: u32 }),
);

/** What a device may answer to a request that it carried out. */
function repliesTo(request: BpfRequest): fc.Arbitrary<BpfReply> {
  const expected = expectedReply(request);
  switch (expected) {
    case 'done':
      return fc.record({ kind: kind('done') });
    case 'handle':
      return fc.record({ kind: kind('handle'), handle });
    case 'id':
      return fc.record({ kind: kind('id'), id: u32 });
    case 'name':
      return fc.record({ kind: kind('name'), name: pinName });
    case 'value':
      return fc.record({
        kind: kind('value'),
        value: bytes((request as { valueSize: number }).valueSize),
      });
    case 'key':
      return fc.record({
        kind: kind('key'),
        key: bytes('keySize' in request ? request.keySize : (request as { key: Uint8Array }).key.length),
      });
    case 'count':
      return fc.record({ kind: kind('count'), count: fc.constant((request as { count: number }).count) });
    case 'bytes':
      return fc.record({
        kind: kind('bytes'),
        bytes: fc.nat(Math.min(40, (request as { length: number }).length)).chain(bytes),
      });
    case 'elements': {
      const { count, keySize, valueSize } = request as Extract<BpfRequest, { kind: 'lookup-batch' }>;
      return fc.nat(Math.min(count, 3)).chain((found) =>
        fc.record({
          kind: kind('elements'),
          count: fc.constant(found),
          keys: bytes(found * keySize),
          values: bytes(found * valueSize),
          next: fc.option(bytes(Math.max(keySize, 8)), { nil: undefined }),
        }),
      );
    }
    case 'records': {
      const room = (request as { bytes: number }).bytes;
      const record = fc.record({ cpu: u32, lost: u32, data: key });
      return fc.record({
        kind: kind('records'),
        records: fc.array(record, { maxLength: Math.min(5, Math.floor(room / 32)) }),
      });
    }
    case 'info':
      return fc.record({ kind: kind('info'), info });
    case 'capabilities':
      return fc.record({
        kind: kind('capabilities'),
        capabilities: fc.record({
          maxInsns: u32,
          maxObjects: u32,
          maxKeyBytes: u32,
          maxValueBytes: u32,
          maxBatch: u32,
          maxBtfBytes: u32,
          cpus: u32,
          granted: fc.record({ maps: u32, programs: u32, mapMemory: u64 }),
          commands: u64,
          mapTypes: u64,
          hookPoints: u64,
          programFeatures: u64,
          helpers: fc.bigInt({ min: 0n, max: (1n << 256n) - 1n }),
        }),
      });
    case 'report':
      return fc.record({
        kind: kind('report'),
        report: fc.record({
          commands: count53,
          errors: count53,
          verdicts,
          usage: fc.record({
            maps: count53,
            mapMemory: count53,
            entries: count53,
            programs: count53,
            insns: count53,
            btfMemory: count53,
          }),
        }),
      });
  }
}

describe('both ends', () => {
  for (const [name, requests] of Object.entries(REQUESTS)) {
    it(`decode what the other encodes: ${name}`, () => {
      fc.assert(
        fc.property(
          (requests as fc.Arbitrary<BpfRequest>).chain((request) =>
            fc.tuple(fc.constant(request), repliesTo(request)),
          ),
          ([request, reply]) => {
            const sent = encodeRequest(request);
            expect(decodeRequest(sent, ROOM, LIMITS)).toEqual({ ok: true, request });
            const room = replyBytes(request);
            expect(decodeRequest(sent, room, LIMITS).ok).toBe(true);
            const written = encodeReply(request, reply, room);
            expect(written.length).toBeLessThanOrEqual(room);
            expect(decodeReply(request, written)).toEqual({ ok: true, reply });
          },
        ),
        { numRuns: 100 },
      );
    });
  }

  it('decode what the other encodes: errors', () => {
    fc.assert(
      fc.property(
        anyRequest,
        fc.integer({ min: 1, max: 4095 }),
        fc.string({ maxLength: 60 }).filter((text) => !text.includes('\ufffd')),
        (request, errno, message) => {
          const error = { kind: 'error', errno, ...(message === '' ? {} : { message }) } as const;
          const written = encodeRefusal(error, replyBytes(request));
          expect(decodeReply(request, written)).toEqual({ ok: true, reply: error });
        },
      ),
    );
  });

  normative('dev-syscall-same', 'take a bpf(2) for the request that the command of its own would be', () => {
    // UNPIN, NEXT_PINNED and the rest are no bpf(2): a file system does them.
    const without = new Set<string>([
      'get-capabilities',
      'get-report',
      'read-records',
      'read-btf',
      'unpin',
      'next-pinned',
      'close',
    ]);
    for (const [name, requests] of Object.entries(REQUESTS)) {
      fc.assert(
        fc.property(requests as fc.Arbitrary<BpfRequest>, (request) => {
          // bpf(2) knows the size of a map's values, and does not pass it where it passes none.
          const whole =
            request.kind === 'get-first' || request.kind === 'get-next'
              ? { ...request, valueSize: 0 }
              : request;
          const payload = encodeSyscall(whole);
          expect(payload === undefined).toBe(without.has(name));
          if (payload === undefined) return;
          expect(decodeSyscall(payload)).toEqual({ ok: true, request: whole });
          const readable = Uint8Array.of(0xf0, 27, ...payload);
          expect(decodeRequest(readable, ROOM, LIMITS)).toEqual({ ok: true, request: whole });
        }),
        { numRuns: 60 },
      );
    }
  });
});

/** An answer to MAP_LOOKUP of 4 bytes. */
const LOOKUP: BpfRequest = {
  kind: 'lookup-elem',
  handle: 0x1001,
  key: Uint8Array.of(1, 2, 3, 4),
  valueSize: 4,
};
const believed = (written: string, request: BpfRequest = LOOKUP) => decodeReply(request, hex(written));

describe('a driver', () => {
  normative('drv-answer-length', 'does not believe an answer of other lengths than it says', () => {
    const whole = '00 000000 | 00000000 | 04000000 | 00000000 | 01 02 03 04';
    expect(believed(whole)).toMatchObject({ ok: true });
    for (const written of [
      '',
      '00',
      '01 00',
      '00 000000 | 00000000 | 04000000',
      `${whole} 05`,
      '00 000000 | 00000000 | 04000000 | 00000000 | 01 02 03',
      '00 000000 | 00000000 | 04000000 | 01000000 | 01 02 03 04',
      '00 000000 | 00000000 | ffffffff | 05000000 | 01 02 03 04',
    ]) {
      expect(believed(written), written).toMatchObject({ ok: false, reason: 'response-length-mismatch' });
    }
  });

  normative('drv-ack', 'knows two acks', () => {
    expect(believed('02 000000 | 00000000 | 04000000 | 00000000 | 01 02 03 04')).toMatchObject({
      reason: 'ack-unknown',
    });
  });

  normative('drv-ack-alone', 'takes an ack alone for an error of which nothing else is known', () => {
    expect(believed('01')).toEqual({ ok: true, reply: { kind: 'error' } });
  });

  normative('drv-errno', 'does not believe an errno that goes with no error, or is none', () => {
    expect(believed('00 000000 | 01000000 | 04000000 | 00000000 | 01 02 03 04')).toMatchObject({
      reason: 'errno-invalid',
    });
    expect(believed('01 000000 | 00100000 | 00000000 | 00000000')).toMatchObject({ reason: 'errno-invalid' });
    expect(believed('01 000000 | ff0f0000 | 00000000 | 00000000')).toEqual({
      ok: true,
      reply: { kind: 'error', errno: 4095 },
    });
  });

  normative('drv-reserved', 'looks at no reserved byte', () => {
    expect(believed('00 ff ff ff | 00000000 | 04000000 | 00000000 | 01 02 03 04')).toEqual({
      ok: true,
      reply: { kind: 'value', value: Uint8Array.of(1, 2, 3, 4) },
    });
  });

  normative('drv-data', 'does not believe data that its request does not call for', () => {
    expect(believed('00 000000 | 00000000 | 03000000 | 00000000 | 01 02 03')).toMatchObject({
      reason: 'data-invalid',
    });
    const batch: BpfRequest = {
      kind: 'lookup-batch',
      handle: 1,
      keySize: 1,
      valueSize: 1,
      count: 1,
      cursor: undefined,
      remove: false,
    };
    const head = (length: string) => `00 000000 | 00000000 | ${length} 000000 | 00000000`;
    expect(believed(`${head('0a')} | 01000000 00000000 | 01 02`, batch)).toMatchObject({ ok: true });
    // More elements than were asked for, more bytes than elements, a cursor that is too long.
    for (const data of [
      '02000000 00000000 | 01 02 | 01 02',
      '01000000 00000000 | 01 02 03',
      `00000000 09000000 | ${'00'.repeat(9)}`,
      '01000000',
    ]) {
      const length = hex(data).length.toString(16).padStart(2, '0');
      expect(believed(`${head(length)} | ${data}`, batch), data).toMatchObject({ reason: 'data-invalid' });
    }
    const records: BpfRequest = { kind: 'read-records', handle: 1, bytes: 20 };
    for (const data of [
      '00000000 00000000 01000000',
      '00000000 00000000 00000000 00',
      // Whole, and more than was asked for.
      `00000000 00000000 09000000 ${'00'.repeat(9)}`,
    ]) {
      const length = hex(data).length.toString(16).padStart(2, '0');
      expect(believed(`${head(length)} | ${data}`, records), data).toMatchObject({ reason: 'data-invalid' });
    }
    expect(believed(`${head('04')} | 01000000`, { kind: 'close', handle: 1 })).toMatchObject({
      reason: 'data-invalid',
    });
    expect(
      believed(`${head('1c')} | 04000000 01000000 ${'00'.repeat(16)} 00000000`, {
        kind: 'get-info',
        handle: 1,
      }),
    ).toMatchObject({ reason: 'data-invalid' });
  });

  normative('drv-batch-count', 'believes of a failed batch that fewer than all elements were done', () => {
    const batch: BpfRequest = {
      kind: 'delete-batch',
      handle: 1,
      keySize: 1,
      count: 2,
      keys: Uint8Array.of(1, 2),
    };
    const failed = (count: string) =>
      believed(`01 000000 | 02000000 | 04000000 | 00000000 | ${count} 000000`, batch);
    expect(failed('01')).toEqual({ ok: true, reply: { kind: 'error', errno: 2, count: 1 } });
    expect(failed('02')).toMatchObject({ reason: 'data-invalid' });
    // And of one that succeeded that all were.
    expect(believed('00 000000 | 00000000 | 04000000 | 00000000 | 01000000', batch)).toMatchObject({
      reason: 'data-invalid',
    });
    // No other error has data.
    expect(believed('01 000000 | 02000000 | 04000000 | 00000000 | 01000000')).toMatchObject({
      reason: 'data-invalid',
    });
  });

  it('is total: any bytes give a reply or a reason, and what is believed belongs to the request', () => {
    fc.assert(
      fc.property(
        anyRequest,
        fc.uint8Array({ maxLength: 120, size: 'max' }),
        fc.nat(200),
        (request, noise, length) => {
          const written = noise;
          if (written.length >= 16 && length > 60) {
            // Lengths that add up, so that the data is looked at.
            new DataView(written.buffer).setUint32(4, 0, true);
            new DataView(written.buffer).setUint32(8, written.length - 16, true);
            new DataView(written.buffer).setUint32(12, 0, true);
            written[0] = length % 2;
          }
          const decoded = decodeReply(request, written);
          if (!decoded.ok) expect(Object.keys(BPF_RESPONSE_REASONS)).toContain(decoded.reason);
          else expect(['error', expectedReply(request)]).toContain(decoded.reply.kind);
        },
      ),
      { numRuns: 3000 },
    );
  });

  normative('drv-encode', 'sends nothing that a device would refuse whatever its limits', () => {
    const insns = new Uint8Array(8);
    const broken: readonly BpfRequest[] = [
      { kind: 'pin', handle: 1, name: '../x' },
      { kind: 'pin', handle: 1, name: 'a'.repeat(64) },
      { kind: 'unpin', name: '' },
      { kind: 'load-program', name: 'a b', insns, gplCompatible: true, frags: false },
      { kind: 'load-program', name: '', insns: new Uint8Array(7), gplCompatible: true, frags: false },
      { kind: 'get-info', handle: -1 },
      { kind: 'get-info', handle: 2 ** 32 },
      { kind: 'unset-offload' },
      {
        kind: 'update-batch',
        handle: 1,
        keySize: 4,
        valueSize: 1,
        count: 2,
        keys: new Uint8Array(4),
        values: new Uint8Array(2),
        flags: 0n,
      },
      { kind: 'delete-batch', handle: 1, keySize: 4, count: 2, keys: new Uint8Array(7) },
    ];
    for (const request of broken) expect(() => encodeRequest(request), request.kind).toThrow();
  });
});
