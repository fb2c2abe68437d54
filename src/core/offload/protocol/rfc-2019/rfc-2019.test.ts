import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeErrorResponse } from '../../../../virtio/control.js';
import {
  DEFAULT_REQUEST_LIMITS,
  type BpfReply,
  type Rfc2019Request,
  type RequestLimits,
} from '../control-protocol.js';
import { decodeRequest, EBPF_DECODE_REASONS, type EbpfDecodeReason } from './decode-request.js';
import { decodeReply, encodeRequest } from './driver-side.js';
import { encodeReply } from './encode-reply.js';
import { replyBytes } from './wire.js';

interface DecodeOptions extends Partial<RequestLimits> {
  readonly writableBytes?: number;
}

const decode = (readable: Uint8Array, { writableBytes, ...limits }: DecodeOptions = {}) =>
  decodeRequest(readable, writableBytes, { ...DEFAULT_REQUEST_LIMITS, ...limits });
const answerTo = (request: Rfc2019Request, written: Uint8Array) =>
  decodeReply(request, encodeRequest(request), written);

/** The fields of RFC 2019's map header, written out by hand; the payload follows class and command. */
interface RawMap {
  bufLen?: number;
  cmd?: number;
  mapType?: number;
  keySize?: number;
  valueSize?: number;
  maxEntries?: number;
  mapFlags?: number;
  mapFd?: number;
  flags?: bigint;
  buf?: number[];
}

function rawMap(fields: RawMap): Uint8Array {
  const buf = fields.buf ?? [];
  const bytes = new Uint8Array(2 + 40 + buf.length);
  const view = new DataView(bytes.buffer, 2);
  bytes[0] = 6;
  bytes[1] = 2;
  view.setUint32(0, fields.bufLen ?? buf.length, true);
  view.setUint32(4, fields.cmd ?? 0, true);
  view.setUint32(8, fields.mapType ?? 0, true);
  view.setUint32(12, fields.keySize ?? 0, true);
  view.setUint32(16, fields.valueSize ?? 0, true);
  view.setUint32(20, fields.maxEntries ?? 0, true);
  view.setUint32(24, fields.mapFlags ?? 0, true);
  view.setUint32(28, fields.mapFd ?? 0, true);
  view.setBigUint64(32, fields.flags ?? 0n, true);
  bytes.set(buf, 42);
  return bytes;
}

function rawProgram(len: number, cmd: number, gpl: number, insnBytes: number): Uint8Array {
  const bytes = new Uint8Array(2 + 8 + insnBytes).fill(0x95, 10);
  const view = new DataView(bytes.buffer, 2);
  bytes[0] = 6;
  bytes[1] = 1;
  view.setUint32(0, len, true);
  view.setUint16(4, cmd, true);
  view.setUint16(6, gpl, true);
  return bytes;
}

const lookup: RawMap = {
  cmd: 4,
  keySize: 4,
  valueSize: 8,
  mapFd: 7,
  buf: [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
};

describe('what the RFC puts on the wire', () => {
  it('is what the driver encodes and the device decodes, byte for byte', () => {
    const cases: [Rfc2019Request, Uint8Array][] = [
      [
        { kind: 'set-offload', insns: new Uint8Array(16).fill(0x95), gplCompatible: true },
        rawProgram(16, 1, 1, 16),
      ],
      [{ kind: 'unset-offload' }, rawProgram(0, 2, 0, 0)],
      [
        { kind: 'create-map', mapType: 1, keySize: 4, valueSize: 8, maxEntries: 16, mapFlags: 1 },
        rawMap({ cmd: 1, mapType: 1, keySize: 4, valueSize: 8, maxEntries: 16, mapFlags: 1 }),
      ],
      [{ kind: 'free-map', handle: 7 }, rawMap({ cmd: 2, mapFd: 7 })],
      [
        {
          kind: 'update-elem',
          handle: 7,
          key: Uint8Array.of(1, 2),
          value: Uint8Array.of(3, 4, 5),
          flags: 2n,
        },
        rawMap({ cmd: 3, keySize: 2, valueSize: 3, mapFd: 7, flags: 2n, buf: [1, 2, 3, 4, 5] }),
      ],
      [{ kind: 'lookup-elem', handle: 7, key: Uint8Array.of(1, 2, 3, 4), valueSize: 8 }, rawMap(lookup)],
      [
        { kind: 'delete-elem', handle: 7, key: Uint8Array.of(1, 2), valueSize: 1 },
        // The key is the longer of the two: buf_len = 2 + 2.
        rawMap({ cmd: 5, keySize: 2, valueSize: 1, mapFd: 7, buf: [1, 2, 0, 0] }),
      ],
      [
        { kind: 'get-first', handle: 7, keySize: 2, valueSize: 4 },
        rawMap({ cmd: 6, keySize: 2, valueSize: 4, mapFd: 7, buf: [0, 0, 0, 0, 0, 0] }),
      ],
      [
        { kind: 'get-next', handle: 7, key: Uint8Array.of(9, 9), valueSize: 4 },
        rawMap({ cmd: 7, keySize: 2, valueSize: 4, mapFd: 7, buf: [9, 9, 0, 0, 0, 0] }),
      ],
    ];
    for (const [command, wire] of cases) {
      expect([...encodeRequest(command)]).toEqual([...wire]);
      expect(decode(wire)).toEqual({ ok: true, request: command });
    }
  });
});

const REFUSALS: [string, EbpfDecodeReason, Uint8Array, DecodeOptions?][] = [
  ['no bytes', 'header-truncated', new Uint8Array(0)],
  ['a class alone', 'header-truncated', Uint8Array.of(6)],
  ['another class', 'class-unknown', Uint8Array.of(4, 0, 1, 0)],
  ['command 0', 'command-unknown', Uint8Array.of(6, 0)],
  ['command 3', 'command-unknown', Uint8Array.of(6, 3)],
  ['7 bytes of program header', 'header-truncated', rawProgram(0, 2, 0, 0).subarray(0, 9)],
  ['39 bytes of map header', 'header-truncated', rawMap({ cmd: 2 }).subarray(0, 41)],
  ['program sub-command 0', 'sub-command-unknown', rawProgram(8, 0, 0, 8)],
  ['program sub-command 3', 'sub-command-unknown', rawProgram(8, 3, 0, 8)],
  ['map sub-command 0', 'sub-command-unknown', rawMap({ cmd: 0 })],
  ['map sub-command 8', 'sub-command-unknown', rawMap({ cmd: 8 })],
  ['a program of no bytes', 'length-not-multiple-of-8', rawProgram(0, 1, 0, 0)],
  ['a program of 12 bytes', 'length-not-multiple-of-8', rawProgram(12, 1, 0, 12)],
  ['4097 insns', 'program-too-long', rawProgram(4097 * 8, 1, 0, 4097 * 8)],
  ['a len of 2^32 - 8', 'program-too-long', rawProgram(0xfffffff8, 1, 0, 8)],
  ['fewer insns than announced', 'payload-truncated', rawProgram(16, 1, 0, 8)],
  ['more insns than announced', 'trailing-bytes', rawProgram(8, 1, 0, 16)],
  ['gpl_compatible 2', 'gpl-flag-invalid', rawProgram(8, 1, 2, 8)],
  ['UNSET_OFFLOAD with a len', 'unused-field-set', rawProgram(8, 2, 0, 8)],
  ['UNSET_OFFLOAD with gpl_compatible', 'unused-field-set', rawProgram(0, 2, 1, 0)],
  ['UNSET_OFFLOAD with insns behind it', 'trailing-bytes', rawProgram(0, 2, 0, 8)],
  ['a key of 0 bytes', 'key-size-zero', rawMap({ cmd: 4, valueSize: 4, buf: [0, 0, 0, 0] })],
  ['a value of 0 bytes', 'value-size-zero', rawMap({ cmd: 4, keySize: 1, buf: [0, 0] })],
  ['a key of 513 bytes', 'key-size-over-limit', rawMap({ cmd: 1, keySize: 513 })],
  ['a value of 65537 bytes', 'value-size-over-limit', rawMap({ cmd: 1, valueSize: 65537 })],
  ['buf_len one too small', 'buf-len-mismatch', rawMap({ ...lookup, bufLen: 11 })],
  ['buf_len one too large', 'buf-len-mismatch', rawMap({ ...lookup, bufLen: 13 })],
  [
    'buf_len = key + value where the key is longer',
    'buf-len-mismatch',
    rawMap({ cmd: 7, keySize: 4, valueSize: 1, buf: [0, 0, 0, 0, 0] }),
  ],
  ['CREATE_MAP with a buf', 'buf-len-mismatch', rawMap({ cmd: 1, keySize: 1, valueSize: 1, buf: [0, 0] })],
  ['FREE_MAP with a buf_len', 'buf-len-mismatch', rawMap({ cmd: 2, bufLen: 4 })],
  [
    'sizes whose u32 sum wraps to the announced 0',
    'buf-len-mismatch',
    rawMap({ cmd: 4, keySize: 0x80000000, valueSize: 0x80000000, bufLen: 0 }),
    { maxKeyBytes: 0xffffffff, maxValueBytes: 0xffffffff },
  ],
  ['a buf_len that makes 40 + buf_len wrap', 'buf-len-mismatch', rawMap({ ...lookup, bufLen: 0xffffffd8 })],
  ['fewer bytes than buf_len', 'payload-truncated', rawMap({ ...lookup, bufLen: 12, buf: [1, 2, 3, 4] })],
  [
    'more bytes than buf_len',
    'trailing-bytes',
    rawMap({ ...lookup, bufLen: 12, buf: new Array<number>(13).fill(0) }),
  ],
  ['update flags 3', 'flags-unknown', rawMap({ ...lookup, cmd: 3, flags: 3n })],
  ['update flags beyond 32 bits', 'flags-unknown', rawMap({ ...lookup, cmd: 3, flags: 1n << 32n })],
  ['LOOKUP_ELEM with flags', 'flags-unknown', rawMap({ ...lookup, flags: 1n })],
  ['CREATE_MAP with a map_fd', 'unused-field-set', rawMap({ cmd: 1, keySize: 4, valueSize: 4, mapFd: 3 })],
  ['FREE_MAP with a key_size', 'unused-field-set', rawMap({ cmd: 2, mapFd: 3, keySize: 4 })],
  ['LOOKUP_ELEM with a map_type', 'unused-field-set', rawMap({ ...lookup, mapType: 1 })],
  ['LOOKUP_ELEM with max_entries', 'unused-field-set', rawMap({ ...lookup, maxEntries: 1 })],
  ['LOOKUP_ELEM with map_flags', 'unused-field-set', rawMap({ ...lookup, mapFlags: 1 })],
  ['no room for the value', 'writable-length-mismatch', rawMap(lookup), { writableBytes: 1 }],
  ['room for more than the value', 'writable-length-mismatch', rawMap(lookup), { writableBytes: 54 }],
  ['no room for an ack', 'writable-length-mismatch', rawProgram(0, 2, 0, 0), { writableBytes: 0 }],
];

describe('the strict decoder', () => {
  it.each(REFUSALS)('%s → %s', (_name, reason, readable, options) => {
    expect(decode(readable, options)).toMatchObject({ ok: false, reason });
  });

  it('has a case above for every reason', () => {
    expect(new Set(REFUSALS.map(([, reason]) => reason))).toEqual(new Set(Object.keys(EBPF_DECODE_REASONS)));
  });

  it('takes exactly what the limits allow', () => {
    expect(decode(rawProgram(4096 * 8, 1, 0, 4096 * 8)).ok).toBe(true);
    expect(decode(rawProgram(16, 1, 0, 16), { maxInsns: 1 })).toMatchObject({
      reason: 'program-too-long',
    });
    const largest = { cmd: 1, mapType: 1, keySize: 512, valueSize: 65536, maxEntries: 1 };
    expect(decode(rawMap(largest)).ok).toBe(true);
    // 40 bytes of header, 4 + 8 of buf, the ack.
    expect(decode(rawMap(lookup), { writableBytes: 53 }).ok).toBe(true);
  });

  it('copies: later changes to the bytes do not reach the command', () => {
    const wire = rawMap(lookup);
    const decoded = decode(wire);
    wire.fill(0xff);
    expect(decoded).toMatchObject({ request: { key: Uint8Array.of(1, 2, 3, 4) } });
  });

  it('is total: any bytes, whole or mutated, give a command or a reason', () => {
    const seeds = [
      rawMap(lookup),
      rawMap({ ...lookup, cmd: 3, flags: 1n }),
      rawMap({ cmd: 1, mapType: 1, keySize: 4, valueSize: 4, maxEntries: 1 }),
      rawProgram(16, 1, 1, 16),
    ];
    const mutated = fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }),
        fc.option(fc.nat(70)),
      )
      .map(([seed, changes, cut]) => {
        const bytes = new Uint8Array(cut ?? seed.length);
        bytes.set(seed.subarray(0, bytes.length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        return bytes;
      });
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 80 })), (bytes) => {
        const decoded = decode(bytes);
        if (!decoded.ok) {
          expect(Object.keys(EBPF_DECODE_REASONS)).toContain(decoded.reason);
          return;
        }
        accepted += 1;
        // What was accepted takes exactly as many bytes to say again: none beyond it was let through.
        expect(encodeRequest(decoded.request)).toHaveLength(bytes.length);
        expect(decode(encodeRequest(decoded.request))).toEqual(decoded);
      }),
      { numRuns: 3000, seed: 20191126 },
    );
    expect(accepted).toBeGreaterThan(100);
  });
});

const key = fc.uint8Array({ minLength: 1, maxLength: 24 });
const value = fc.uint8Array({ minLength: 1, maxLength: 24 });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const exchange: fc.Arbitrary<[Rfc2019Request, BpfReply]> = fc.oneof(
  fc.tuple(u32, u32, u32).map(([handle, mapType, maxEntries]): [Rfc2019Request, BpfReply] => [
    { kind: 'create-map', mapType, keySize: 4, valueSize: 8, maxEntries, mapFlags: 0 },
    { kind: 'handle', handle },
  ]),
  fc.tuple(u32, key, value).map(([handle, k, v]): [Rfc2019Request, BpfReply] => [
    { kind: 'lookup-elem', handle, key: k, valueSize: v.length },
    { kind: 'value', value: v },
  ]),
  fc
    .tuple(u32, key, value, fc.boolean())
    .map(([handle, k, v, first]): [Rfc2019Request, BpfReply] => [
      first
        ? { kind: 'get-first', handle, keySize: k.length, valueSize: v.length }
        : { kind: 'get-next', handle, key: k.map((byte) => byte ^ 0xff), valueSize: v.length },
      { kind: 'key', key: k },
    ]),
  fc
    .tuple(u32, key, value, fc.bigInt({ min: 0n, max: 2n }))
    .map(([handle, k, v, flags]): [Rfc2019Request, BpfReply] => [
      { kind: 'update-elem', handle, key: k, value: v, flags },
      { kind: 'done' },
    ]),
);

describe('responses', () => {
  it('carry a value behind the key and the ack last', () => {
    const command = { kind: 'lookup-elem', handle: 7, key: Uint8Array.of(1, 2), valueSize: 3 } as const;
    const wire = encodeReply(command, { kind: 'value', value: Uint8Array.of(7, 8, 9) });
    const header = rawMap({ cmd: 4, keySize: 2, valueSize: 3, mapFd: 7, bufLen: 5 }).subarray(2);
    expect([...wire]).toEqual([...header, 1, 2, 7, 8, 9, 0]);
  });

  it('carry the handle of CREATE_MAP in map_fd', () => {
    const command = {
      kind: 'create-map',
      mapType: 2,
      keySize: 4,
      valueSize: 8,
      maxEntries: 3,
      mapFlags: 0,
    } as const;
    const wire = encodeReply(command, { kind: 'handle', handle: 0x01020304 });
    const header = rawMap({
      cmd: 1,
      mapType: 2,
      keySize: 4,
      valueSize: 8,
      maxEntries: 3,
      mapFd: 0x01020304,
    }).subarray(2);
    expect([...wire]).toEqual([...header, 0]);
  });

  it('round-trip for every command, and take the announced bytes', () => {
    fc.assert(
      fc.property(exchange, fc.integer({ min: 1, max: 4095 }), ([command, result], errno) => {
        const wire = encodeReply(command, result);
        expect(wire).toHaveLength(replyBytes(command));
        expect(answerTo(command, wire)).toEqual({ ok: true, reply: result });

        const failed = encodeReply(command, { kind: 'error', errno });
        expect(failed).toHaveLength(wire.length);
        expect(failed.at(-1)).toBe(1);
        expect(answerTo(command, failed)).toEqual({
          ok: true,
          reply: wire.length === 1 ? { kind: 'error' } : { kind: 'error', errno },
        });
        expect(answerTo(command, encodeErrorResponse(wire.length))).toEqual({
          ok: true,
          reply: { kind: 'error' },
        });
      }),
    );
  });

  it('are not believed when they are not the answer to the request', () => {
    const command = { kind: 'get-next', handle: 7, key: Uint8Array.of(1), valueSize: 4 } as const;
    const wire = encodeReply(command, { kind: 'key', key: Uint8Array.of(2) });
    expect(answerTo(command, wire.subarray(0, -1))).toMatchObject({
      reason: 'response-length-mismatch',
    });
    expect(answerTo(command, new Uint8Array(0))).toMatchObject({
      reason: 'response-length-mismatch',
    });
    const strangeAck = Uint8Array.from(wire);
    strangeAck[strangeAck.length - 1] = 2;
    expect(answerTo(command, strangeAck)).toMatchObject({ reason: 'ack-unknown' });
    for (let offset = 0; offset < 40; offset++) {
      const forged = Uint8Array.from(wire);
      forged[offset]! ^= 1;
      expect(answerTo(command, forged)).toMatchObject({ reason: 'header-mismatch' });
    }
  });

  it('let CREATE_MAP fill in map_fd and nothing else', () => {
    const command = {
      kind: 'create-map',
      mapType: 1,
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
      mapFlags: 0,
    } as const;
    const wire = encodeReply(command, { kind: 'handle', handle: 0 });
    for (let offset = 0; offset < 40; offset++) {
      const changed = Uint8Array.from(wire);
      changed[offset]! ^= 1;
      // map_fd is the u32 at 28.
      expect(answerTo(command, changed).ok).toBe(offset >= 28 && offset < 32);
    }
  });

  it('are refused by the encoder when the result does not belong to the command', () => {
    const command = { kind: 'lookup-elem', handle: 1, key: Uint8Array.of(1), valueSize: 4 } as const;
    expect(() => encodeReply(command, { kind: 'done' })).toThrow("cannot end in 'done'");
    expect(() => encodeReply(command, { kind: 'value', value: new Uint8Array(5) })).toThrow(
      'a value of 4 bytes, not 5',
    );
    expect(() => encodeReply(command, { kind: 'error', errno: 4096 })).toThrow('errno 4096');
  });
});

describe('the encoder of commands', () => {
  it('refuses what a strict device would', () => {
    const refused: Rfc2019Request[] = [
      { kind: 'set-offload', insns: new Uint8Array(12), gplCompatible: false },
      { kind: 'set-offload', insns: new Uint8Array(0), gplCompatible: false },
      { kind: 'update-elem', handle: 1, key: Uint8Array.of(1), value: Uint8Array.of(1), flags: 4n },
      { kind: 'lookup-elem', handle: 1, key: new Uint8Array(0), valueSize: 4 },
      { kind: 'free-map', handle: -1 },
      { kind: 'create-map', mapType: 1, keySize: 2 ** 32, valueSize: 1, maxEntries: 1, mapFlags: 0 },
    ];
    for (const command of refused) {
      expect(() => encodeRequest(command)).toThrow(expect.objectContaining({ code: 'virtio-violation' }));
    }
  });
});
