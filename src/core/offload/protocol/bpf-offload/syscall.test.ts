import { describe, expect, it } from 'vitest';
import { hex, normative } from '../../../../conformance/offload/normative.js';
import { DEFAULT_REQUEST_LIMITS, type BpfRequest } from '../control-protocol.js';
import { decodeRequest } from './decode-request.js';
import { encodeSyscall } from './syscall.js';

const zeros = (count: number): string => '00'.repeat(count);
const decode = (bytes: string, limits = DEFAULT_REQUEST_LIMITS) => decodeRequest(hex(bytes), 1 << 20, limits);

/**
 * `struct virtio_net_bpf_syscall`, attributes and areas of command SYSCALL (27).
 * @param cmd of `enum bpf_cmd`
 */
function call(cmd: number, attr: string, areas = '', outLength = 0): string {
  const le32 = (value: number): string => Buffer.from(Uint32Array.of(value).buffer).toString('hex');
  return `f0 1b ${le32(cmd)} ${le32(hex(attr).length)} ${le32(hex(areas).length)} ${le32(outLength)} ${attr} ${areas}`;
}

const INSNS = 'b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00';
const MAIN = `6d 61 69 6e ${zeros(12)}`;

/** A program of two insns with so much debug information. */
function withDebug(functions: number, lines: number): BpfRequest {
  return {
    kind: 'load-program',
    name: 'main',
    insns: hex(INSNS),
    gplCompatible: true,
    frags: false,
    debug: { btf: 0x3003, functions: new Uint8Array(8 * functions), lines: new Uint8Array(16 * lines) },
  };
}

/** Attributes as include/uapi/linux/bpf.h has them, by hand; the first area is at 16 + attr_size. */
const CALLS: readonly [string, string, BpfRequest][] = [
  [
    'BPF_MAP_CREATE, the tail left out',
    call(0, '01000000 | 04000000 | 08000000 | 10000000 | 01000000'),
    { kind: 'create-map', mapType: 1, keySize: 4, valueSize: 8, maxEntries: 16, mapFlags: 1, name: '' },
  ],
  [
    'BPF_MAP_CREATE with inner map, name and BTF',
    call(
      0,
      `0c000000 | 04000000 | 04000000 | 10000000 | 00000000 | 02200000 | 00000000 | ${MAIN}
       00000000 | 03300000 | 04000000 | 05000000`,
    ),
    {
      kind: 'create-map',
      mapType: 12,
      keySize: 4,
      valueSize: 4,
      maxEntries: 16,
      mapFlags: 0,
      name: 'main',
      inner: 0x2002,
      btf: { handle: 0x3003, keyType: 4, valueType: 5 },
    },
  ],
  [
    'BPF_MAP_LOOKUP_ELEM',
    call(1, `01100000 | 00000000 | 28 ${zeros(7)} | ${zeros(8)}`, '01 02 03 04', 8),
    { kind: 'lookup-elem', handle: 0x1001, key: Uint8Array.of(1, 2, 3, 4), valueSize: 8 },
  ],
  [
    'BPF_MAP_UPDATE_ELEM',
    call(
      2,
      `01100000 | 00000000 | 30 ${zeros(7)} | 34 ${zeros(7)} | 01 ${zeros(7)}`,
      '01 02 03 04 | 11 12 13 14 15 16 17 18',
    ),
    {
      kind: 'update-elem',
      handle: 0x1001,
      key: Uint8Array.of(1, 2, 3, 4),
      value: hex('11 12 13 14 15 16 17 18'),
      flags: 1n,
    },
  ],
  [
    'BPF_MAP_UPDATE_ELEM of a queue: no key',
    call(2, `01100000 | 00000000 | ${zeros(8)} | 30 ${zeros(7)} | ${zeros(8)}`, '11 12'),
    {
      kind: 'update-elem',
      handle: 0x1001,
      key: new Uint8Array(),
      value: Uint8Array.of(0x11, 0x12),
      flags: 0n,
    },
  ],
  [
    'BPF_MAP_DELETE_ELEM',
    call(3, `01100000 | 00000000 | 20 ${zeros(7)}`, '01 02 03 04'),
    { kind: 'delete-elem', handle: 0x1001, key: Uint8Array.of(1, 2, 3, 4), valueSize: 0 },
  ],
  [
    'BPF_MAP_GET_NEXT_KEY after none',
    call(4, '01100000', '', 4),
    { kind: 'get-first', handle: 0x1001, keySize: 4, valueSize: 0 },
  ],
  [
    'BPF_MAP_GET_NEXT_KEY',
    call(4, `01100000 | 00000000 | 20 ${zeros(7)}`, '01 02 03 04', 4),
    { kind: 'get-next', handle: 0x1001, key: Uint8Array.of(1, 2, 3, 4), valueSize: 0 },
  ],
  [
    'BPF_PROG_LOAD',
    call(
      5,
      `06000000 | 02000000 | 58 ${zeros(7)} | 68 ${zeros(7)} | ${zeros(16)} | 00000000 | 20000000 | ${MAIN}
       00000000 | 25000000`,
      `${INSNS} | 47 50 4c 00`,
    ),
    { kind: 'load-program', name: 'main', insns: hex(INSNS), gplCompatible: true, frags: true },
  ],
  [
    'BPF_PROG_LOAD with debug information',
    call(
      5,
      `06000000 | 02000000 | 80 ${zeros(7)} | 90 ${zeros(7)} | ${zeros(16)} | 00000000 | 00000000 | ${zeros(16)}
       00000000 | 00000000 | 03300000 | 08000000 | 94 ${zeros(7)} | 01000000 | 10000000 | 9c ${zeros(7)} | 01000000
       ${zeros(4)}`,
      `${INSNS} | 4d 49 54 00 | 00000000 07000000 | 00000000 01000000 02000000 030c0000`,
    ),
    {
      kind: 'load-program',
      name: '',
      insns: hex(INSNS),
      gplCompatible: false,
      frags: false,
      debug: {
        btf: 0x3003,
        functions: hex('00000000 07000000'),
        lines: hex('00000000 01000000 02000000 030c0000'),
      },
    },
  ],
  [
    'BPF_OBJ_PIN',
    call(6, `1c ${zeros(7)} | 01100000`, '61 2d 31 00'),
    { kind: 'pin', handle: 0x1001, name: 'a-1' },
  ],
  ['BPF_OBJ_GET', call(7, `18 ${zeros(7)}`, '61 2d 31 00'), { kind: 'open-pinned', name: 'a-1' }],
  ['BPF_PROG_GET_NEXT_ID', call(11, '07000000'), { kind: 'next-id', object: 'program', after: 7 }],
  ['BPF_MAP_GET_NEXT_ID', call(12, ''), { kind: 'next-id', object: 'map', after: 0 }],
  ['BPF_PROG_GET_FD_BY_ID', call(13, '07000000'), { kind: 'open-by-id', object: 'program', id: 7 }],
  ['BPF_MAP_GET_FD_BY_ID', call(14, '07000000'), { kind: 'open-by-id', object: 'map', id: 7 }],
  ['BPF_OBJ_GET_INFO_BY_FD', call(15, '01100000'), { kind: 'get-info', handle: 0x1001 }],
  [
    'BPF_BTF_LOAD',
    call(18, `28 ${zeros(7)} | ${zeros(8)} | 03000000 | 00000000`, '9f eb 01'),
    { kind: 'load-btf', bytes: Uint8Array.of(0x9f, 0xeb, 1) },
  ],
  ['BPF_BTF_GET_FD_BY_ID', call(19, '07000000'), { kind: 'open-by-id', object: 'btf', id: 7 }],
  [
    'BPF_MAP_LOOKUP_AND_DELETE_ELEM',
    call(21, '01100000', '', 8),
    { kind: 'lookup-and-delete-elem', handle: 0x1001, key: new Uint8Array(), valueSize: 8 },
  ],
  ['BPF_MAP_FREEZE', call(22, '01100000'), { kind: 'freeze-map', handle: 0x1001 }],
  ['BPF_BTF_GET_NEXT_ID', call(23, '07000000'), { kind: 'next-id', object: 'btf', after: 7 }],
  [
    'BPF_MAP_LOOKUP_BATCH',
    call(24, `38 ${zeros(7)} | ${zeros(8)} | 04 ${zeros(7)} | 08 ${zeros(7)} | 03000000 | 01100000`, '09 08'),
    {
      kind: 'lookup-batch',
      handle: 0x1001,
      keySize: 4,
      valueSize: 8,
      count: 3,
      cursor: Uint8Array.of(9, 8),
      remove: false,
    },
  ],
  [
    'BPF_MAP_LOOKUP_AND_DELETE_BATCH',
    call(25, `${zeros(16)} | 04 ${zeros(7)} | 08 ${zeros(7)} | 03000000 | 01100000`),
    {
      kind: 'lookup-batch',
      handle: 0x1001,
      keySize: 4,
      valueSize: 8,
      count: 3,
      cursor: undefined,
      remove: true,
    },
  ],
  [
    'BPF_MAP_UPDATE_BATCH',
    call(
      26,
      `${zeros(16)} | 40 ${zeros(7)} | 44 ${zeros(7)} | 02000000 | 01100000 | 02 ${zeros(7)}`,
      '01 00 02 00 | aa bb',
    ),
    {
      kind: 'update-batch',
      handle: 0x1001,
      keySize: 2,
      valueSize: 1,
      count: 2,
      keys: Uint8Array.of(1, 0, 2, 0),
      values: Uint8Array.of(0xaa, 0xbb),
      flags: 2n,
    },
  ],
  [
    'BPF_MAP_DELETE_BATCH',
    call(27, `${zeros(16)} | 38 ${zeros(7)} | ${zeros(8)} | 02000000 | 01100000`, '01 00 02 00'),
    { kind: 'delete-batch', handle: 0x1001, keySize: 2, count: 2, keys: Uint8Array.of(1, 0, 2, 0) },
  ],
  [
    'BPF_LINK_CREATE',
    call(28, '01100000 | 00000000 | 25000000'),
    { kind: 'create-link', program: 0x1001, hook: 0 },
  ],
  [
    'BPF_LINK_UPDATE',
    call(29, '04400000 | 01100000'),
    { kind: 'update-link', link: 0x4004, program: 0x1001 },
  ],
  [
    'BPF_LINK_UPDATE with BPF_F_REPLACE',
    call(29, '04400000 | 01100000 | 04000000 | 05500000'),
    { kind: 'update-link', link: 0x4004, program: 0x1001, expected: 0x5005 },
  ],
  ['BPF_LINK_GET_FD_BY_ID', call(30, '07000000'), { kind: 'open-by-id', object: 'link', id: 7 }],
  ['BPF_LINK_GET_NEXT_ID', call(31, '07000000'), { kind: 'next-id', object: 'link', after: 7 }],
  ['BPF_LINK_DETACH', call(34, '04400000'), { kind: 'detach-link', link: 0x4004 }],
];

describe('SYSCALL', () => {
  normative('dev-syscall-attr', 'reads the attributes where the kernel has them', () => {
    for (const [what, bytes, request] of CALLS) expect(decode(bytes), what).toEqual({ ok: true, request });
  });

  normative('dev-syscall-tail', 'takes what is missing of the attributes for 0, and takes zeros', () => {
    const create = '01000000 | 04000000 | 08000000 | 10000000 | 01000000';
    const whole = decode(call(0, create));
    expect(whole).toMatchObject({ ok: true });
    for (const more of [1, 3, 60, 256 - 20]) expect(decode(call(0, create + zeros(more)))).toEqual(whole);
  });

  normative('dev-syscall-attr-size', 'takes 256 bytes of attributes and no more', () => {
    expect(decode(call(22, `01100000 ${zeros(252)}`))).toMatchObject({ ok: true });
    expect(decode(call(22, `01100000 ${zeros(253)}`))).toMatchObject({ reason: 'over-limit', errno: 7 });
  });

  normative('dev-syscall-unread', 'refuses what is set and would mean something it does not know', () => {
    for (const [what, bytes] of CALLS) {
      const base = hex(bytes);
      const attrSize = base[6]!;
      const start = 2 + 16;
      // A byte of the tail that no field of today reaches.
      const areas = base.subarray(start + attrSize);
      if (areas.length === 0) {
        const longer = Uint8Array.of(
          ...base.subarray(0, start + attrSize),
          ...new Uint8Array(200 - attrSize),
        );
        longer[6] = 200;
        longer[start + 199] = 1;
        expect(decodeRequest(longer, 1 << 20, DEFAULT_REQUEST_LIMITS), what).toMatchObject({
          ok: false,
          errno: 7,
        });
      }
    }
    // numa_node, map_ifindex, map_extra of MAP_CREATE; flags of a look-up; log_level and prog_ifindex of PROG_LOAD;
    // file_flags of OBJ_GET; target_ifindex and flags of LINK_CREATE; out_batch and flags of a batch.
    const create = '01000000 | 04000000 | 08000000 | 10000000 | 00000000 | 00000000';
    const others = [
      call(0, `${create} | 01000000`),
      call(0, `${create} | 00000000 | ${zeros(16)} | 01000000`),
      call(0, `${create} | ${zeros(40)} | 01 ${zeros(7)}`),
      call(1, `01100000 | 00000000 | 30 ${zeros(7)} | ${zeros(8)} | 04 ${zeros(7)}`, '01 02 03 04', 8),
      call(1, `01100000 | 01000000 | 20 ${zeros(7)}`, '01 02 03 04', 8),
      call(5, `06000000 | 02000000 | 2c ${zeros(7)} | 3c ${zeros(7)} | 01000000`, `${INSNS} 47504c00`),
      call(7, `20 ${zeros(7)} | 00000000 | 01000000`, '61 00'),
      call(28, '01100000 | 02000000 | 25000000'),
      call(28, '01100000 | 00000000 | 25000000 | 01000000'),
      call(25, `${zeros(8)} | 30 ${zeros(7)} | 04 ${zeros(7)} | 08 ${zeros(7)} | 03000000 | 01100000`),
    ];
    for (const bytes of others) expect(decode(bytes), bytes).toMatchObject({ ok: false, errno: 7 });
  });

  normative('dev-syscall-unknown', 'refuses a bpf(2) command that it has no meaning for', () => {
    // PROG_ATTACH, PROG_TEST_RUN, RAW_TRACEPOINT_OPEN, TASK_FD_QUERY, ENABLE_STATS, ITER_CREATE, PROG_BIND_MAP, TOKEN_CREATE.
    for (const cmd of [8, 10, 17, 20, 32, 33, 35, 36, 99, 0xffff_ffff]) {
      expect(decode(call(cmd, '')), `${cmd}`).toMatchObject({ reason: 'command-unknown', errno: 95 });
    }
  });

  normative('dev-syscall-areas', 'refuses areas that are out of order, apart, shared or out of range', () => {
    const update = (keyAt: string, valueAt: string, areas: string) =>
      decode(
        call(2, `01100000 | 00000000 | ${keyAt} ${zeros(7)} | ${valueAt} ${zeros(7)} | ${zeros(8)}`, areas),
      );
    expect(update('30', '34', zeros(12))).toMatchObject({ ok: true });
    for (const [what, keyAt, valueAt] of [
      ['into the attributes', '20', '34'],
      ['into the structure', '01', '34'],
      ['one byte late', '31', '34'],
      ['key behind value', '34', '30'],
      ['behind the end', '30', '3d'],
      ['key at the end', '3c', '3c'],
    ] as const) {
      expect(update(keyAt, valueAt, zeros(12)), what).toMatchObject({ ok: false, errno: 22 });
    }
    // Two areas at one place: the key is then empty, and the value has all of it.
    expect(update('30', '30', zeros(12))).toMatchObject({ ok: true, request: { key: new Uint8Array() } });
    const high = call(1, `01100000 | 00000000 | 20 00 00 00 01 00 00 00`, '01 02 03 04', 8);
    expect(decode(high)).toMatchObject({ ok: false, reason: 'field-invalid' });
    const outside = call(18, `28 ${zeros(7)} | ${zeros(8)} | 04000000 | 00000000`, '9f eb 01');
    expect(decode(outside)).toMatchObject({ ok: false, reason: 'payload-truncated' });
  });

  normative('dev-syscall-areas-all', 'refuses areas that no pointer names', () => {
    expect(decode(call(22, '01100000', '00'))).toMatchObject({ reason: 'trailing-bytes' });
    expect(decode(call(18, `28 ${zeros(7)} | ${zeros(8)} | 02000000 | 00000000`, '9f eb 01'))).toMatchObject({
      reason: 'trailing-bytes',
    });
    expect(decode(call(6, `1c ${zeros(7)} | 01100000`, '61 00 62'))).toMatchObject({
      reason: 'trailing-bytes',
    });
  });

  normative('dev-syscall-out', 'refuses room for results that there are not', () => {
    expect(decode(call(22, '01100000', '', 1))).toMatchObject({ reason: 'field-invalid' });
    expect(decode(call(0, '01000000 | 04000000 | 08000000 | 10000000', '', 4))).toMatchObject({
      reason: 'field-invalid',
    });
    // A key of the size of another.
    expect(decode(call(4, `01100000 | 00000000 | 20 ${zeros(7)}`, '01 02 03 04', 8))).toMatchObject({
      reason: 'field-invalid',
    });
  });

  normative('dev-syscall-limits', 'is held to the limits of the commands', () => {
    const limits = { maxInsns: 1, maxKeyBytes: 3, maxValueBytes: 7, maxBatch: 1, maxBtfBytes: 2 };
    const within = new Set([
      'BPF_MAP_GET_NEXT_ID',
      'BPF_MAP_FREEZE',
      'BPF_OBJ_PIN',
      'BPF_OBJ_GET',
      'BPF_OBJ_GET_INFO_BY_FD',
      'BPF_LINK_CREATE',
      'BPF_LINK_UPDATE',
      'BPF_LINK_UPDATE with BPF_F_REPLACE',
      'BPF_LINK_DETACH',
      'BPF_MAP_UPDATE_ELEM of a queue: no key',
    ]);
    for (const [what, bytes] of CALLS) {
      const decoded = decode(bytes, limits);
      if (within.has(what) || /_BY_ID|NEXT_ID/.test(what)) expect(decoded, what).toMatchObject({ ok: true });
      else expect(decoded, what).toMatchObject({ ok: false, reason: 'over-limit' });
    }
  });

  it.each<[string, (more: number) => BpfRequest]>([
    ['func_info of as many functions as insns', (more) => withDebug(2 + more, 0)],
    ['line_info of as many lines as insns', (more) => withDebug(0, 2 + more)],
    [
      'a cursor of 512 bytes',
      (more) => ({
        kind: 'lookup-batch',
        handle: 0x1001,
        keySize: 4,
        valueSize: 8,
        count: 1,
        cursor: new Uint8Array(512 + more),
        remove: false,
      }),
    ],
  ])('is held to what the limits of the commands follow from: %s', (_what, request) => {
    const decoded = (more: number) => {
      const payload = encodeSyscall(request(more))!;
      return decodeRequest(Uint8Array.of(0xf0, 27, ...payload), 1 << 20, DEFAULT_REQUEST_LIMITS);
    };
    expect(decoded(0)).toEqual({ ok: true, request: request(0) });
    expect(decoded(1)).toMatchObject({ ok: false, reason: 'over-limit' });
  });

  it('refuses what the commands refuse', () => {
    const program = (attr: string, areas = `${INSNS} 47504c00`) => decode(call(5, attr, areas));
    const at = (type: string, count: string) =>
      `${type} | ${count} | 58 ${zeros(7)} | 68 ${zeros(7)} | ${zeros(16)} | 00000000`;
    const good = `${at('06000000', '02000000')} | 00000000 | ${zeros(16)} | 00000000 | 00000000`;
    expect(program(good)).toMatchObject({ ok: true });
    for (const [what, attr, areas] of [
      ['another type', good.replace('06000000', '01000000')],
      ['another attach type', good.replace(/00000000$/, '01000000')],
      ['flags', good.replace('| 00000000 | 00000000 |', '| 00000000 | 01000000 |')],
      ['no insns', good.replace('02000000', '00000000')],
      ['too many insns', good.replace('02000000', 'ffffffff')],
      ['a license without an end', good, `${INSNS} 47504c01`],
    ] as const) {
      expect(program(attr, areas), what).toMatchObject({ ok: false });
    }
    const pathname = (bytes: string) => decode(call(7, `18 ${zeros(7)}`, bytes));
    for (const bytes of ['00', '61', '2f 61 00', 'ff 00', `${'61'.repeat(64)} 00`])
      expect(pathname(bytes), bytes).toMatchObject({ ok: false, reason: 'name-invalid' });
    expect(decode(call(7, ''))).toMatchObject({ ok: false, reason: 'name-invalid' });
    // Of updates: no value, unknown flags. Of batches: nothing, keys that do not divide by it.
    expect(decode(call(2, `01100000 | 00000000 | 20 ${zeros(7)}`, '01'))).toMatchObject({ ok: false });
    expect(
      decode(call(2, `01100000 | 00000000 | 30 ${zeros(7)} | 31 ${zeros(7)} | 03 ${zeros(7)}`, '01 02')),
    ).toMatchObject({ reason: 'flags-unknown' });
    expect(decode(call(24, `${zeros(32)} | 00000000 | 01100000`))).toMatchObject({ reason: 'field-invalid' });
    expect(
      decode(call(27, `${zeros(16)} | 38 ${zeros(7)} | ${zeros(8)} | 02000000 | 01100000`, '01 00 02')),
    ).toMatchObject({ reason: 'field-invalid' });
    expect(decode(call(29, '04400000 | 01100000 | 01000000'))).toMatchObject({ reason: 'flags-unknown' });
    expect(decode(call(28, '01100000 | 00000000 | 00000000'))).toMatchObject({ reason: 'field-invalid' });
    expect(decode('f0 1b 00000000 00000000 00000000 0000')).toMatchObject({ reason: 'header-truncated' });
    expect(decode('f0 1b 16000000 04000000 00000000 00000000 011000')).toMatchObject({
      reason: 'payload-truncated',
    });
    expect(decode('f0 1b 16000000 04000000 ffffffff 00000000 01100000')).toMatchObject({
      reason: 'payload-truncated',
    });
    expect(decode('f0 1b 16000000 04000000 00000000 00000000 01100000 00')).toMatchObject({
      reason: 'trailing-bytes',
    });
  });
});
