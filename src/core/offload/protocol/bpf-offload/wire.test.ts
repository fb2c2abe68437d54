import { describe, expect } from 'vitest';
import { hex, normative } from '../../../../conformance/offload/normative.js';
import { DEFAULT_REQUEST_LIMITS, type BpfReply, type BpfRequest } from '../control-protocol.js';
import { decodeRequest } from './decode-request.js';
import { decodeReply, encodeRequest } from './driver-side.js';
import { encodeRefusal, encodeReply } from './encode-reply.js';
import { BPF_COMMAND } from './wire.js';

const ROOM = 1 << 20;

/** `struct virtio_net_bpf_result` of success with so many bytes of data, and those. */
const ok = (length: number, data = ''): string =>
  `00 00 00 00 | 00 00 00 00 | ${length.toString(16).padStart(2, '0')} 00 00 00 | 00 00 00 00 | ${data}`;
const zeros = (count: number): string => '00'.repeat(count);

interface Exchange {
  readonly command: keyof typeof BPF_COMMAND;
  readonly request: BpfRequest;
  /** Device-readable bytes. */
  readonly sent: string;
  readonly reply: BpfReply;
  /** Device-writable bytes. */
  readonly written: string;
}

const KEY = Uint8Array.of(1, 2, 3, 4);
const VALUE = Uint8Array.of(0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18);
const DONE = { kind: 'done' } as const;
const HANDLE = { kind: 'handle', handle: 0x1001 } as const;
const VERDICTS = { XDP_ABORTED: 1, XDP_DROP: 2, XDP_PASS: 3, XDP_TX: 4, XDP_REDIRECT: 5 };
const VERDICT_BYTES = `01 ${zeros(7)} 02 ${zeros(7)} 03 ${zeros(7)} 04 ${zeros(7)} 05 ${zeros(7)}`;
const MAIN = `6d 61 69 6e ${zeros(12)}`;
const FLOWS = `66 6c 6f 77 73 ${zeros(11)}`;
const PIN_A = `61 2d 31 ${zeros(61)}`;
const PIN_B = `62 ${zeros(63)}`;

/** From docs/spec/bpf-offload.md: the structures of the command and of its answer, field by field. */
const EXCHANGES: readonly Exchange[] = [
  {
    command: 'CAPABILITIES',
    request: { kind: 'get-capabilities' },
    sent: 'f0 00',
    reply: {
      kind: 'capabilities',
      capabilities: {
        maxInsns: 1,
        maxObjects: 2,
        maxKeyBytes: 3,
        maxValueBytes: 4,
        maxBatch: 5,
        maxBtfBytes: 6,
        cpus: 7,
        granted: { maps: 8, programs: 9, mapMemory: 10n },
        commands: 11n,
        mapTypes: 12n,
        hookPoints: 13n,
        programFeatures: 14n,
        helpers: 0x0f01n,
      },
    },
    written: ok(
      112,
      `70 00 00 00 | 01 00 00 00 | 02 00 00 00 | 03 00 00 00 | 04 00 00 00 | 05 00 00 00 | 06 00 00 00 | 07 00 00 00
       08 00 00 00 | 09 00 00 00 | 0a ${zeros(7)} | 0b ${zeros(7)} | 0c ${zeros(7)} | 0d ${zeros(7)} | 0e ${zeros(7)}
       01 0f ${zeros(30)}`,
    ),
  },
  {
    command: 'MAP_CREATE',
    request: {
      kind: 'create-map',
      mapType: 1,
      keySize: 4,
      valueSize: 8,
      maxEntries: 16,
      mapFlags: 1,
      name: 'flows',
      inner: 0x2002,
      btf: { handle: 0x3003, keyType: 4, valueType: 5 },
    },
    sent: `f0 01 | 01 00 00 00 | 04 00 00 00 | 08 00 00 00 | 10 00 00 00 | 01 00 00 00
           02 20 00 00 | 03 30 00 00 | 04 00 00 00 | 05 00 00 00 | ${FLOWS}`,
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'MAP_LOOKUP',
    request: { kind: 'lookup-elem', handle: 0x1001, key: KEY, valueSize: 8 },
    sent: `f0 02 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)} | 01 02 03 04`,
    reply: { kind: 'value', value: VALUE },
    written: ok(8, '11 12 13 14 15 16 17 18'),
  },
  {
    command: 'MAP_UPDATE',
    request: { kind: 'update-elem', handle: 0x1001, key: KEY, value: VALUE, flags: 2n },
    sent: `f0 03 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | 02 ${zeros(7)} | 01 02 03 04 | 11 12 13 14 15 16 17 18`,
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'MAP_DELETE',
    request: { kind: 'delete-elem', handle: 0x1001, key: KEY, valueSize: 8 },
    sent: `f0 04 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)} | 01 02 03 04`,
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'MAP_LOOKUP_AND_DELETE',
    request: { kind: 'lookup-and-delete-elem', handle: 0x1001, key: new Uint8Array(), valueSize: 8 },
    sent: `f0 05 | 01 10 00 00 | 00 00 00 00 | 08 00 00 00 | ${zeros(8)}`,
    reply: { kind: 'value', value: VALUE },
    written: ok(8, '11 12 13 14 15 16 17 18'),
  },
  {
    command: 'MAP_NEXT_KEY',
    request: { kind: 'get-first', handle: 0x1001, keySize: 4, valueSize: 8 },
    sent: `f0 06 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)}`,
    reply: { kind: 'key', key: KEY },
    written: ok(4, '01 02 03 04'),
  },
  {
    command: 'MAP_NEXT_KEY',
    request: { kind: 'get-next', handle: 0x1001, key: KEY, valueSize: 8 },
    sent: `f0 06 | 01 10 00 00 | 04 00 00 00 | 08 00 00 00 | ${zeros(8)} | 01 02 03 04`,
    reply: { kind: 'key', key: KEY },
    written: ok(4, '01 02 03 04'),
  },
  {
    command: 'MAP_LOOKUP_BATCH',
    request: {
      kind: 'lookup-batch',
      handle: 0x1001,
      keySize: 2,
      valueSize: 1,
      count: 3,
      cursor: Uint8Array.of(9, 8),
      remove: true,
    },
    sent: `f0 07 | 01 10 00 00 | 02 00 00 00 | 01 00 00 00 | 03 00 00 00 | 02 00 00 00 | 01 ${zeros(7)} | 09 08`,
    reply: {
      kind: 'elements',
      count: 2,
      keys: Uint8Array.of(1, 0, 2, 0),
      values: Uint8Array.of(0xaa, 0xbb),
      next: Uint8Array.of(7),
    },
    written: ok(15, '02 00 00 00 | 01 00 00 00 | 07 | 01 00 | 02 00 | aa | bb'),
  },
  {
    command: 'MAP_LOOKUP_BATCH',
    request: {
      kind: 'lookup-batch',
      handle: 0x1001,
      keySize: 2,
      valueSize: 1,
      count: 3,
      cursor: undefined,
      remove: false,
    },
    sent: `f0 07 | 01 10 00 00 | 02 00 00 00 | 01 00 00 00 | 03 00 00 00 | 00 00 00 00 | ${zeros(8)}`,
    reply: {
      kind: 'elements',
      count: 0,
      keys: new Uint8Array(),
      values: new Uint8Array(),
      next: undefined,
    },
    written: ok(8, '00 00 00 00 | 00 00 00 00'),
  },
  {
    command: 'MAP_UPDATE_BATCH',
    request: {
      kind: 'update-batch',
      handle: 0x1001,
      keySize: 2,
      valueSize: 1,
      count: 2,
      keys: Uint8Array.of(1, 0, 2, 0),
      values: Uint8Array.of(0xaa, 0xbb),
      flags: 1n,
    },
    sent: `f0 08 | 01 10 00 00 | 02 00 00 00 | 01 00 00 00 | 02 00 00 00 | 00 00 00 00 | 01 ${zeros(7)} | 01 00 | 02 00 | aa | bb`,
    reply: { kind: 'count', count: 2 },
    written: ok(4, '02 00 00 00'),
  },
  {
    command: 'MAP_DELETE_BATCH',
    request: { kind: 'delete-batch', handle: 0x1001, keySize: 2, count: 1, keys: Uint8Array.of(1, 0) },
    sent: `f0 09 | 01 10 00 00 | 02 00 00 00 | 00 00 00 00 | 01 00 00 00 | 00 00 00 00 | ${zeros(8)} | 01 00`,
    reply: { kind: 'count', count: 1 },
    written: ok(4, '01 00 00 00'),
  },
  {
    command: 'MAP_FREEZE',
    request: { kind: 'freeze-map', handle: 0x1001 },
    sent: 'f0 0a | 01 10 00 00',
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'MAP_RECORDS',
    request: { kind: 'read-records', handle: 0x1001, bytes: 64 },
    sent: 'f0 0b | 01 10 00 00 | 40 00 00 00',
    reply: {
      kind: 'records',
      records: [
        { cpu: 1, lost: 2, data: Uint8Array.of(0xaa, 0xbb, 0xcc) },
        { cpu: 0, lost: 0, data: new Uint8Array() },
      ],
    },
    written: ok(
      27,
      '01 00 00 00 | 02 00 00 00 | 03 00 00 00 | aa bb cc | 00 00 00 00 | 00 00 00 00 | 00 00 00 00',
    ),
  },
  {
    command: 'BTF_LOAD',
    request: { kind: 'load-btf', bytes: Uint8Array.of(0x9f, 0xeb, 1) },
    sent: 'f0 0c | 03 00 00 00 | 9f eb 01',
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'BTF_READ',
    request: { kind: 'read-btf', handle: 0x1001, offset: 2, length: 16 },
    sent: 'f0 0d | 01 10 00 00 | 02 00 00 00 | 10 00 00 00',
    reply: { kind: 'bytes', bytes: Uint8Array.of(1, 0) },
    written: ok(2, '01 00'),
  },
  {
    command: 'PROG_LOAD',
    request: {
      kind: 'load-program',
      name: 'main',
      insns: hex('b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00'),
      gplCompatible: true,
      frags: true,
      debug: {
        btf: 0x3003,
        functions: hex('00 00 00 00 07 00 00 00'),
        lines: hex('00 00 00 00 01 00 00 00 02 00 00 00 03 0c 00 00'),
      },
    },
    sent: `f0 0e | 02 00 00 00 | 03 00 00 00 | 03 30 00 00 | 01 00 00 00 | 01 00 00 00 | ${MAIN}
           b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00
           00 00 00 00 07 00 00 00 | 00 00 00 00 01 00 00 00 02 00 00 00 03 0c 00 00`,
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'LINK_CREATE',
    request: { kind: 'create-link', program: 0x1001, hook: 0 },
    sent: 'f0 0f | 01 10 00 00 | 00 00 00 00',
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'LINK_UPDATE',
    request: { kind: 'update-link', link: 0x4004, program: 0x1001 },
    sent: 'f0 10 | 04 40 00 00 | 01 10 00 00 | 00 00 00 00 | 00 00 00 00',
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'LINK_UPDATE',
    request: { kind: 'update-link', link: 0x4004, program: 0x1001, expected: 0x5005 },
    sent: 'f0 10 | 04 40 00 00 | 01 10 00 00 | 05 50 00 00 | 01 00 00 00',
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'LINK_DETACH',
    request: { kind: 'detach-link', link: 0x4004 },
    sent: 'f0 11 | 04 40 00 00',
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'PIN',
    request: { kind: 'pin', handle: 0x1001, name: 'a-1' },
    sent: `f0 12 | 01 10 00 00 | ${PIN_A}`,
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'UNPIN',
    request: { kind: 'unpin', name: 'a-1' },
    sent: `f0 13 | ${PIN_A}`,
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'OPEN_PINNED',
    request: { kind: 'open-pinned', name: 'a-1' },
    sent: `f0 14 | ${PIN_A}`,
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'NEXT_PINNED',
    request: { kind: 'next-pinned', after: 'a-1' },
    sent: `f0 15 | ${PIN_A}`,
    reply: { kind: 'name', name: 'b' },
    written: ok(64, PIN_B),
  },
  {
    command: 'NEXT_PINNED',
    request: { kind: 'next-pinned', after: '' },
    sent: `f0 15 | ${zeros(64)}`,
    reply: { kind: 'name', name: 'a-1' },
    written: ok(64, PIN_A),
  },
  {
    command: 'OPEN_ID',
    request: { kind: 'open-by-id', object: 'program', id: 7 },
    sent: 'f0 16 | 01 00 00 00 | 07 00 00 00',
    reply: HANDLE,
    written: ok(4, '01 10 00 00'),
  },
  {
    command: 'NEXT_ID',
    request: { kind: 'next-id', object: 'btf', after: 7 },
    sent: 'f0 17 | 03 00 00 00 | 07 00 00 00',
    reply: { kind: 'id', id: 9 },
    written: ok(4, '09 00 00 00'),
  },
  {
    command: 'INFO',
    request: { kind: 'get-info', handle: 0x1001 },
    sent: 'f0 18 | 01 10 00 00',
    reply: {
      kind: 'info',
      info: {
        kind: 'map',
        id: 3,
        name: 'flows',
        type: 1,
        keySize: 4,
        valueSize: 8,
        maxEntries: 16,
        flags: 1,
        frozen: true,
        memoryBytes: 0x1234,
        btf: 2,
        keyType: 4,
        valueType: 5,
      },
    },
    written: ok(
      68,
      `00 00 00 00 | 03 00 00 00 | ${FLOWS} | 01 00 00 00 | 04 00 00 00 | 08 00 00 00 | 10 00 00 00 | 01 00 00 00
       01 00 00 00 | 34 12 ${zeros(6)} | 02 00 00 00 | 04 00 00 00 | 05 00 00 00`,
    ),
  },
  {
    command: 'INFO',
    request: { kind: 'get-info', handle: 0x1001 },
    sent: 'f0 18 | 01 10 00 00',
    reply: {
      kind: 'info',
      info: {
        kind: 'program',
        id: 3,
        name: 'main',
        tag: hex('a0 4f 5e ef 06 a7 f5 55'),
        insnCount: 2,
        gplCompatible: true,
        loadTime: 0x1_0000_0000n,
        verifiedInsns: 17,
        btf: 2,
        maps: [1, 4],
      },
    },
    written: ok(
      68,
      `01 00 00 00 | 03 00 00 00 | ${MAIN} | a0 4f 5e ef 06 a7 f5 55 | 02 00 00 00 | 01 00 00 00
       00 00 00 00 01 00 00 00 | 11 00 00 00 | 02 00 00 00 | 02 00 00 00 | 01 00 00 00 | 04 00 00 00`,
    ),
  },
  {
    command: 'INFO',
    request: { kind: 'get-info', handle: 0x1001 },
    sent: 'f0 18 | 01 10 00 00',
    reply: { kind: 'info', info: { kind: 'link', id: 3, name: '', program: 7, hook: 0, verdicts: VERDICTS } },
    written: ok(
      72,
      `02 00 00 00 | 03 00 00 00 | ${zeros(16)} | 07 00 00 00 | 00 00 00 00 | ${VERDICT_BYTES}`,
    ),
  },
  {
    command: 'INFO',
    request: { kind: 'get-info', handle: 0x1001 },
    sent: 'f0 18 | 01 10 00 00',
    reply: { kind: 'info', info: { kind: 'btf', id: 3, name: '', size: 0x123 } },
    written: ok(28, `03 00 00 00 | 03 00 00 00 | ${zeros(16)} | 23 01 00 00`),
  },
  {
    command: 'CLOSE',
    request: { kind: 'close', handle: 0x1001 },
    sent: 'f0 19 | 01 10 00 00',
    reply: DONE,
    written: ok(0),
  },
  {
    command: 'REPORT',
    request: { kind: 'get-report' },
    sent: 'f0 1a',
    reply: {
      kind: 'report',
      report: {
        commands: 1,
        errors: 2,
        verdicts: VERDICTS,
        usage: { maps: 3, mapMemory: 4, entries: 5, programs: 6, insns: 7, btfMemory: 8 },
      },
    },
    written: ok(
      104,
      `01 ${zeros(7)} 02 ${zeros(7)} 03 ${zeros(7)} 04 ${zeros(7)} 05 ${zeros(7)} 06 ${zeros(7)} 07 ${zeros(7)} 08 ${zeros(7)}
       ${VERDICT_BYTES}`,
    ),
  },
];

describe('what is on the wire', () => {
  normative(
    ['dev-little-endian', 'drv-little-endian'],
    'is written out by hand for every command, and both ends agree',
    () => {
      for (const { request, sent, reply, written } of EXCHANGES) {
        const readable = hex(sent);
        expect([...encodeRequest(request)], request.kind).toEqual([...readable]);
        expect(decodeRequest(readable, ROOM, DEFAULT_REQUEST_LIMITS)).toEqual({ ok: true, request });
        const writable = hex(written);
        expect([...encodeReply(request, reply, ROOM)], `answer to ${request.kind}`).toEqual([...writable]);
        expect(decodeReply(request, writable)).toEqual({ ok: true, reply });
      }
      // SYSCALL: syscall.test.ts.
      const covered = new Set<string>([...EXCHANGES.map(({ command }) => command), 'SYSCALL']);
      expect(Object.keys(BPF_COMMAND).filter((command) => !covered.has(command))).toEqual([]);
    },
  );

  normative('dev-exact-length', 'is refused with one byte more, and with any number of bytes less', () => {
    for (const { request, sent } of EXCHANGES) {
      const readable = hex(sent);
      const longer = Uint8Array.of(...readable, 0);
      // MAP_NEXT_KEY of the structure alone asks for the first key, and one byte of a key is none.
      const tooLong = request.kind === 'get-first' ? 'payload-truncated' : 'trailing-bytes';
      expect(decodeRequest(longer, ROOM, DEFAULT_REQUEST_LIMITS), request.kind).toMatchObject({
        ok: false,
        reason: tooLong,
      });
      for (let length = 0; length < readable.length; length++) {
        const decoded = decodeRequest(readable.subarray(0, length), ROOM, DEFAULT_REQUEST_LIMITS);
        if (request.kind === 'get-next' && length === 22) {
          expect(decoded).toMatchObject({ ok: true, request: { kind: 'get-first' } });
        } else {
          const reason = length < 2 || !decoded.ok ? (decoded as { reason: string }).reason : 'accepted';
          expect(['header-truncated', 'payload-truncated'], `${length} bytes of ${request.kind}`).toContain(
            reason,
          );
        }
      }
    }
  });

  normative('dev-room', 'is refused when its answer would not fit', () => {
    for (const { request, sent, written } of EXCHANGES) {
      const readable = hex(sent);
      const decode = (room: number) => decodeRequest(readable, room, DEFAULT_REQUEST_LIMITS);
      const refused = { ok: false, reason: 'room-too-small', errno: 28 };
      for (const room of [0, 1, 15]) expect(decode(room)).toMatchObject(refused);
      // Of these the request, and not what is there, says how long the answer may be.
      const needed =
        request.kind === 'lookup-batch'
          ? 16 + 8 + 8 + 3 * (2 + 1)
          : request.kind === 'read-records'
            ? 16 + 64
            : request.kind === 'read-btf'
              ? 16 + 16
              : request.kind === 'get-info'
                ? 16 + 24 + 48
                : hex(written).length;
      expect(decode(needed), request.kind).toMatchObject({ ok: true });
      expect(decode(needed - 1), request.kind).toMatchObject(refused);
    }
  });

  normative('dev-numbers', 'has the numbers of the document’s table', () => {
    expect(BPF_COMMAND.SYSCALL).toBe(27);
    for (const { command, sent } of EXCHANGES) expect(hex(sent)[1]).toBe(BPF_COMMAND[command]);
  });
});

describe('an error', () => {
  const refusal = { kind: 'error', errno: 7, message: 'größer' } as const;
  const TEXT = '67 72 c3 b6 c3 9f 65 72';

  normative(
    ['dev-ack-first', 'dev-lengths', 'dev-reserved-zero'],
    'begins with the ack, its errno and its text behind it',
    () => {
      const bytes = encodeRefusal(refusal, ROOM);
      expect([...bytes]).toEqual([
        ...hex(`01 | 00 00 00 | 07 00 00 00 | 00 00 00 00 | 08 00 00 00 | ${TEXT}`),
      ]);
    },
  );

  normative('dev-extack-cut', 'has as much of its text as there is room for, no character in pieces', () => {
    expect([...encodeRefusal(refusal, 16)]).toEqual([...hex(`01 000000 07000000 00000000 00000000`)]);
    expect([...encodeRefusal(refusal, 19).subarray(12)]).toEqual([...hex('02 00 00 00 | 67 72')]);
    expect([...encodeRefusal(refusal, 20).subarray(12)]).toEqual([...hex('04 00 00 00 | 67 72 c3 b6')]);
    expect(encodeRefusal({ kind: 'error', errno: 7, message: 'x'.repeat(9999) }, ROOM)).toHaveLength(
      16 + 4096,
    );
  });

  normative('dev-room-ack', 'is one byte where there is no room for its structure', () => {
    for (let room = 1; room < 16; room++) expect([...encodeRefusal(refusal, room)]).toEqual([1]);
    expect(encodeRefusal(refusal, 0)).toHaveLength(0);
  });

  normative('dev-batch-error-count', 'of a batch has the number of elements that were done', () => {
    const bytes = encodeRefusal({ ...refusal, count: 3 }, ROOM);
    expect([...bytes]).toEqual([
      ...hex(`01 | 00 00 00 | 07 00 00 00 | 04 00 00 00 | 08 00 00 00 | 03 00 00 00 | ${TEXT}`),
    ]);
  });

  normative('dev-errno-range', 'has an errno that Linux could have', () => {
    expect(() => encodeRefusal({ kind: 'error', errno: 4096 }, ROOM)).toThrow('errno 4096');
    expect(() => encodeRefusal({ kind: 'error', errno: -1 }, ROOM)).toThrow('errno -1');
    expect(encodeRefusal({ kind: 'error', errno: 4095 }, ROOM)).toHaveLength(16);
  });
});
