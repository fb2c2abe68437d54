import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hex, normative } from '../../../../conformance/offload/normative.js';
import { DEFAULT_REQUEST_LIMITS, type RequestLimits } from '../control-protocol.js';
import { BPF_DECODE_REASONS, type BpfDecodeReason } from './decode-reasons.js';
import { decodeRequest } from './decode-request.js';

const LIMITS: RequestLimits = {
  maxInsns: 4,
  maxKeyBytes: 8,
  maxValueBytes: 16,
  maxBatch: 4,
  maxBtfBytes: 8,
};
const decode = (readable: Uint8Array, room = 1 << 21, limits = LIMITS) =>
  decodeRequest(readable, room, limits);
const zeros = (count: number): string => '00'.repeat(count);
const NAME = zeros(16);
const INSN = '95 00 00 00 00 00 00 00';

/** What, why and the bytes; `F` is 0xffffffff. */
const F = 'ff ff ff ff';
const REFUSALS: readonly [string, BpfDecodeReason, string][] = [
  ['nothing', 'header-truncated', ''],
  ['a class alone', 'header-truncated', 'f0'],
  ['half a structure', 'header-truncated', `f0 02 | 01 10 00 00 | 04 00`],
  ['another class', 'class-unknown', '06 01 | 00 00 00 00'],
  ['command 28', 'command-unknown', 'f0 1c'],
  ['command 255', 'command-unknown', 'f0 ff | 01 10 00 00'],
  ['a handle of three bytes', 'payload-truncated', 'f0 19 | 01 10 00'],
  [
    'a key of fewer bytes',
    'payload-truncated',
    `f0 02 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)} | 01 02 03`,
  ],
  [
    'a value where none is',
    'trailing-bytes',
    `f0 02 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)} | ${zeros(12)}`,
  ],
  ['bytes behind CAPABILITIES', 'trailing-bytes', 'f0 00 00'],
  ['bytes behind REPORT', 'trailing-bytes', 'f0 1a 00'],
  [
    'key_size over the limit',
    'over-limit',
    `f0 02 | 01 10 00 00 | 09 00 00 00 | 08 00 00 00 | ${zeros(8)} | ${zeros(9)}`,
  ],
  [
    'value_size over the limit',
    'over-limit',
    `f0 02 | 01 10 00 00 | 04 00 00 00 | 11 00 00 00 | ${zeros(8)} | ${zeros(4)}`,
  ],
  [
    'key_size of a new map',
    'over-limit',
    `f0 01 | 01 00 00 00 | 09 00 00 00 | ${zeros(4)} | ${zeros(24)} | ${NAME}`,
  ],
  [
    'value_size of a new map',
    'over-limit',
    `f0 01 | 01 00 00 00 | 08 00 00 00 | 11 00 00 00 | ${zeros(24)} | ${NAME}`,
  ],
  [
    'a batch of five',
    'over-limit',
    `f0 09 | 01 10 00 00 | 01 00 00 00 | 00 00 00 00 | 05 00 00 00 | 00 00 00 00 | ${zeros(8)} | ${zeros(5)}`,
  ],
  [
    'a cursor of 513 bytes',
    'over-limit',
    `f0 07 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 00 00 00 | 01 02 00 00 | ${zeros(8)} | ${zeros(513)}`,
  ],
  ['BTF of nine bytes', 'over-limit', `f0 0c | 09 00 00 00 | ${zeros(9)}`],
  ['records of more than 256 KiB', 'over-limit', 'f0 0b | 01 10 00 00 | 01 00 04 00'],
  ['more than 256 KiB of BTF', 'over-limit', 'f0 0d | 01 10 00 00 | 00 00 00 00 | 01 00 04 00'],
  ['five insns', 'over-limit', `f0 0e | 05 00 00 00 | ${zeros(16)} | ${NAME} | ${INSN.repeat(5)}`],
  [
    'more functions than insns',
    'over-limit',
    `f0 0e | 01 00 00 00 | ${zeros(4)} | 01 10 00 00 | 02 00 00 00 | ${zeros(4)} | ${NAME} | ${INSN} | ${zeros(16)}`,
  ],
  [
    'more lines than insns',
    'over-limit',
    `f0 0e | 01 00 00 00 | ${zeros(4)} | 01 10 00 00 | ${zeros(4)} | 02 00 00 00 | ${NAME} | ${INSN} | ${zeros(32)}`,
  ],
  [
    'update flags 3',
    'flags-unknown',
    `f0 03 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 03 ${zeros(7)} | 00 00`,
  ],
  [
    'update flags 4 (BPF_F_LOCK)',
    'flags-unknown',
    `f0 03 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 04 ${zeros(7)} | 00 00`,
  ],
  [
    'flags of a look-up',
    'flags-unknown',
    `f0 02 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 ${zeros(7)} | 00`,
  ],
  [
    'flags of a deletion',
    'flags-unknown',
    `f0 04 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 ${zeros(7)} | 00`,
  ],
  [
    'flags in the upper half',
    'flags-unknown',
    `f0 03 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | ${zeros(7)} 80 | 00 00`,
  ],
  [
    'flags of a batch of deletions',
    'flags-unknown',
    `f0 09 | 01 10 00 00 | 01 00 00 00 | 00 00 00 00 | 01 00 00 00 | 00 00 00 00 | 01 ${zeros(7)} | 00`,
  ],
  [
    'flags of a batch of look-ups',
    'flags-unknown',
    `f0 07 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 00 00 00 | 00 00 00 00 | 02 ${zeros(7)}`,
  ],
  [
    'flags of a program',
    'flags-unknown',
    `f0 0e | 01 00 00 00 | 04 00 00 00 | ${zeros(12)} | ${NAME} | ${INSN}`,
  ],
  [
    'flags of an update of a link',
    'flags-unknown',
    `f0 10 | 01 10 00 00 | 02 10 00 00 | 03 10 00 00 | 02 00 00 00`,
  ],
  ['a name without a NUL', 'name-invalid', `f0 01 | 01 00 00 00 | ${zeros(32)} | ${'61'.repeat(16)}`],
  [
    'a name with more behind its NUL',
    'name-invalid',
    `f0 01 | 01 00 00 00 | ${zeros(32)} | 61 00 61 ${zeros(13)}`,
  ],
  ['a name with a space', 'name-invalid', `f0 01 | 01 00 00 00 | ${zeros(32)} | 61 20 61 ${zeros(13)}`],
  ['a name that is not UTF-8', 'name-invalid', `f0 01 | 01 00 00 00 | ${zeros(32)} | c3 28 ${zeros(14)}`],
  [
    'a program’s name with a slash',
    'name-invalid',
    `f0 0e | 01 00 00 00 | ${zeros(16)} | 2f ${zeros(15)} | ${INSN}`,
  ],
  ['a pin without a name', 'name-invalid', `f0 12 | 01 10 00 00 | ${zeros(64)}`],
  ['a pin with a slash', 'name-invalid', `f0 12 | 01 10 00 00 | 61 2f 61 ${zeros(61)}`],
  ['a pin that is hidden', 'name-invalid', `f0 12 | 01 10 00 00 | 2e 2e ${zeros(62)}`],
  ['no name to open', 'name-invalid', `f0 14 | ${zeros(64)}`],
  ['a name to go on after with a slash', 'name-invalid', `f0 15 | 2f ${zeros(63)}`],
  ['type ids without BTF', 'field-invalid', `f0 01 | ${zeros(28)} | 01 00 00 00 | 00 00 00 00 | ${NAME}`],
  [
    'a batch of nothing',
    'field-invalid',
    `f0 09 | 01 10 00 00 | 01 00 00 00 | ${zeros(4)} | ${zeros(4)} | ${zeros(4)} | ${zeros(8)}`,
  ],
  [
    'a cursor of an update',
    'field-invalid',
    `f0 08 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 00 00 00 | 01 00 00 00 | ${zeros(8)} | 00 00`,
  ],
  [
    'value_size of a batch of deletions',
    'field-invalid',
    `f0 09 | 01 10 00 00 | 01 00 00 00 | 01 00 00 00 | 01 00 00 00 | 00 00 00 00 | ${zeros(8)} | 00`,
  ],
  ['a program of nothing', 'field-invalid', `f0 0e | ${zeros(20)} | ${NAME}`],
  [
    'functions without BTF',
    'field-invalid',
    `f0 0e | 01 00 00 00 | ${zeros(8)} | 01 00 00 00 | ${zeros(4)} | ${NAME} | ${INSN} | ${zeros(8)}`,
  ],
  [
    'an expected program without its flag',
    'field-invalid',
    `f0 10 | 01 10 00 00 | 02 10 00 00 | 03 10 00 00 | 00 00 00 00`,
  ],
  ['kind 4 of an object', 'field-invalid', 'f0 16 | 04 00 00 00 | 01 00 00 00'],
  ['kind 2^32 - 1 of an object', 'field-invalid', `f0 17 | ${F} | 01 00 00 00`],
];

describe('a command that is refused before anything is looked at', () => {
  const test = (reason: BpfDecodeReason, bytes: string): void =>
    expect(decode(hex(bytes))).toMatchObject({ ok: false, reason });

  for (const [what, reason, bytes] of REFUSALS) it(`${reason}: ${what}`, () => test(reason, bytes));

  it('has a case for every reason', () => {
    const tested = new Set<string>([...REFUSALS.map(([, reason]) => reason), 'room-too-small']);
    expect(Object.keys(BPF_DECODE_REASONS).filter((reason) => !tested.has(reason))).toEqual([]);
  });

  const of = (reason: BpfDecodeReason, test: (bytes: string) => void): void =>
    REFUSALS.filter(([, other]) => other === reason).forEach(([, , bytes]) => test(bytes));

  normative('dev-unknown-command', 'ends in EOPNOTSUPP when no command has its number', () => {
    of('command-unknown', (bytes) => expect(decode(hex(bytes))).toMatchObject({ errno: 95 }));
  });

  normative('dev-unknown-flags', 'has a flag that nobody defined', () => {
    of('flags-unknown', (bytes) => expect(decode(hex(bytes))).toMatchObject({ ok: false }));
  });

  normative('dev-object-name', 'has a name of an object that is none', () => {
    of('name-invalid', (bytes) => expect(decode(hex(bytes))).toMatchObject({ ok: false }));
    const plain = `f0 01 | 01 00 00 00 | ${zeros(32)} | 41 7a 30 5f 2e ${zeros(11)}`;
    expect(decode(hex(plain))).toMatchObject({ ok: true, request: { name: 'Az0_.' } });
  });

  normative('dev-pin-name', 'has a name of a pin that is none', () => {
    for (const name of ['', '.', '..', '.a', 'a/b', 'ä', 'a b', 'a'.repeat(64)]) {
      const field = new Uint8Array(64);
      field.set(new TextEncoder().encode(name).subarray(0, 64));
      expect(decode(Uint8Array.of(0xf0, 0x13, ...field)), name).toMatchObject({ reason: 'name-invalid' });
    }
    for (const name of ['a', '-', '_.x', 'a'.repeat(63)]) {
      const field = new Uint8Array(64);
      field.set(new TextEncoder().encode(name));
      expect(decode(Uint8Array.of(0xf0, 0x13, ...field)), name).toMatchObject({
        ok: true,
        request: { name },
      });
    }
  });

  normative(
    ['dev-limits', 'dev-batch-limits', 'dev-btf-limit'],
    'asks for more than the device takes, by one',
    () => {
      of('over-limit', (bytes) => expect(decode(hex(bytes))).toMatchObject({ ok: false }));
      const atLimit = [
        `f0 02 | 01 10 00 00 | 08 00 00 00 | 10 00 00 00 | ${zeros(8)} | ${zeros(8)}`,
        `f0 09 | 01 10 00 00 | 01 00 00 00 | 00 00 00 00 | 04 00 00 00 | 00 00 00 00 | ${zeros(8)} | ${zeros(4)}`,
        `f0 0c | 08 00 00 00 | ${zeros(8)}`,
        `f0 0e | 04 00 00 00 | ${zeros(16)} | ${NAME} | ${INSN.repeat(4)}`,
        'f0 0b | 01 10 00 00 | 00 00 04 00',
        'f0 0d | 01 10 00 00 | 00 00 00 00 | 00 00 04 00',
      ];
      for (const bytes of atLimit) expect(decode(hex(bytes)), bytes).toMatchObject({ ok: true });
      // 512 KiB of elements in one batch: with its header and its answer it fits into a chain of 1 MiB.
      const wide = { ...DEFAULT_REQUEST_LIMITS, maxValueBytes: 1 << 20 };
      const batch = (count: string): Uint8Array =>
        hex(`f0 07 | 01 10 00 00 | 00 00 00 00 | 00 00 04 00 | ${count} | 00 00 00 00 | ${zeros(8)}`);
      expect(decode(batch('02 00 00 00'), 1 << 22, wide)).toMatchObject({ ok: true });
      expect(decode(batch('03 00 00 00'), 1 << 22, wide)).toMatchObject({ reason: 'over-limit' });
    },
  );
});

describe('decoding', () => {
  it('is total: any bytes give a request or a reason', () => {
    fc.assert(
      fc.property(
        fc.nat(31),
        fc.uint8Array({ maxLength: 200, size: 'max' }),
        fc.nat(400),
        (command, payload, room) => {
          const decoded = decode(Uint8Array.of(0xf0, command, ...payload), room);
          if (!decoded.ok) expect(Object.keys(BPF_DECODE_REASONS)).toContain(decoded.reason);
        },
      ),
      { numRuns: 4000 },
    );
  });

  it('is total for what is nearly right: cases with a byte changed', () => {
    fc.assert(
      fc.property(fc.constantFrom(...REFUSALS), fc.nat(), fc.nat(255), ([, , bytes], at, byte) => {
        const readable = hex(bytes);
        if (readable.length > 0) readable[at % readable.length] = byte;
        const decoded = decode(readable);
        expect(decoded.ok || decoded.reason in BPF_DECODE_REASONS).toBe(true);
      }),
      { numRuns: 4000 },
    );
  });

  it('copies: what the guest changes afterwards changes no request', () => {
    const readable = hex('f0 0c | 04 00 00 00 | 01 02 03 04');
    const decoded = decode(readable);
    readable.fill(0xff);
    expect(decoded).toEqual({ ok: true, request: { kind: 'load-btf', bytes: Uint8Array.of(1, 2, 3, 4) } });
  });
});
