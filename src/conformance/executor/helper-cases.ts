import { BPF_F_RDONLY_PROG } from '../../bpf/map-spec.js';
import { PRNG_INCREMENT, PRNG_MULTIPLIER } from '../../bpf/runtime/run-state.js';
import { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX } from '../../bpf/xdp.js';
import { concat, countingBytes, u16, u32, u64, type XdpCase } from './executor-case.js';

const REDIRECT = 'net/core/filter.c bpf_xdp_redirect, include/linux/filter.h __bpf_xdp_redirect_map';
const OUTPUT = 'kernel/trace/bpf_trace.c, kernel/bpf/ringbuf.c';
const FORMAT = 'kernel/bpf/helpers.c bpf_bprintf_prepare';
const STRINGS = 'kernel/bpf/helpers.c __bpf_strtoull, bpf_strncmp';
const CSUM = 'net/core/filter.c bpf_csum_diff (6.13 and later)';
const FIB = 'net/core/filter.c bpf_xdp_fib_lookup';
const MTU = 'net/core/filter.c bpf_xdp_check_mtu';

/** The event of CPU 0 is open. */
const EVENTS = {
  type: 'BPF_MAP_TYPE_PERF_EVENT_ARRAY',
  keySize: 4,
  valueSize: 4,
  maxEntries: 2,
  entries: [[u32(0), u32(3)]],
} as const;

/** The device that is everywhere. */
const LOOPBACK = 1;
const DEVMAP = { type: 'BPF_MAP_TYPE_DEVMAP', keySize: 4, valueSize: 4, maxEntries: 4 } as const;

function redirectMap(map: string, key: number, flags: number): string {
  return `
      r1 = map[${map}]
      r2 = ${key}
      r3 = ${flags}
      call bpf_redirect_map`;
}

/** Puts a string on the stack so that it ends at R10 - `end`; clobbers R1. */
function string(text: string, end: number): string {
  const bytes = Buffer.from(`${text}\0`, 'latin1');
  const start = end + bytes.length;
  return [...bytes].map((byte, i) => `*(u8 *)(r10 ${i - start}) = ${byte}`).join('\n');
}

/** bpf_trace_printk(text, …args), then PASS with the result in the verdict's upper bits. */
function printk(text: string, ...args: readonly string[]): string {
  const size = text.length + 1;
  return `
      ${string(text, 16)}
      r1 = r10
      r1 += ${-16 - size}
      r2 = ${size}
      ${args.map((arg, i) => `r${3 + i} = ${arg}`).join('\n')}
      call bpf_trace_printk`;
}

function trace(
  name: string,
  format: string,
  args: readonly string[],
  expected: string,
  verdict = expected.length,
): XdpCase {
  return {
    name: `bpf_trace_printk: ${name}`,
    source: FORMAT,
    program: `${printk(format, ...args)}\nexit`,
    verdict,
    trace: [expected],
  };
}

function refusedTrace(name: string, format: string): XdpCase {
  return {
    name: `bpf_trace_printk: ${name} is -EINVAL`,
    source: FORMAT,
    program: `${printk(format, '1', '2', '3')}\nexit`,
    verdict: 0xffff_ffea,
    trace: [],
  };
}

/** bpf_snprintf(buffer of 0xaa, size, format, 12345); the buffer goes to the map `out`. */
function snprintf(name: string, format: string, size: number, text: string, verdict: number): XdpCase {
  const full = concat(Buffer.from(format), new Uint8Array(16 - format.length));
  const after = concat(Buffer.from(text), new Uint8Array(size - text.length));
  const poison = new Uint8Array(16).fill(0xaa);
  return {
    name: `bpf_snprintf ${name}`,
    source: FORMAT,
    maps: {
      format: {
        type: 'BPF_MAP_TYPE_ARRAY',
        keySize: 4,
        valueSize: 16,
        maxEntries: 1,
        flags: BPF_F_RDONLY_PROG,
        entries: [[u32(0), full]],
      },
      out: {
        type: 'BPF_MAP_TYPE_ARRAY',
        keySize: 4,
        valueSize: 16,
        maxEntries: 1,
        entries: [[u32(0), poison]],
      },
    },
    program: `
      *(u64 *)(r10 -8) = 12345
      r1 = map[out][0]+0
      r2 = ${size}
      r3 = map[format][0]+0
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_snprintf
      exit`,
    verdict,
    mapsAfter: { out: [[u32(0), concat(after, poison.subarray(size))]] },
  };
}

/** A map that programs only read, which holds `ab` and, at byte 4, 192.168.0.1; and one that they write. */
const CONSTANTS: XdpCase['maps'] = {
  constants: {
    type: 'BPF_MAP_TYPE_ARRAY',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    flags: BPF_F_RDONLY_PROG,
    entries: [[u32(0), concat(Buffer.from('ab\0\0'), [192, 168, 0, 1])]],
  },
  data: { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 1 },
};

/** bpf_trace_vprintk(format, { first, second, 9 }), with `offset` added to the first two. */
function vprintk(format: string, first: string, second: string, offset = 0): string {
  const size = format.length + 1;
  return `
      r6 = ${first}
      r6 += ${offset}
      *(u64 *)(r10 -48) = r6
      r6 = ${second}
      r6 += ${offset}
      *(u64 *)(r10 -40) = r6
      *(u64 *)(r10 -32) = 9
      ${string(format, 64)}
      r1 = r10
      r1 += ${-64 - size}
      r2 = ${size}
      r3 = r10
      r3 += -48
      r4 = 24
      call bpf_trace_vprintk
      exit`;
}

/** The verdict is the result, the map `out` holds the number. */
function strto(helper: string, text: string, flags: number, verdict: number, value: bigint): XdpCase {
  return {
    name: `bpf_${helper}('${text}', base ${flags})`,
    source: STRINGS,
    maps: { out: { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 1 } },
    program: `
      ${string(text, 16)}
      r1 = r10
      r1 += ${-16 - text.length - 1}
      r2 = ${text.length}
      r3 = ${flags}
      r4 = map[out][0]+0
      call bpf_${helper}
      exit`,
    verdict: verdict >>> 0,
    mapsAfter: { out: [[u32(0), u64(value)]] },
  };
}

function strncmp(a: string, b: string, size: number, verdict: number): XdpCase {
  return {
    name: `bpf_strncmp('${a}', ${size}, '${b}')`,
    source: STRINGS,
    maps: {
      text: {
        type: 'BPF_MAP_TYPE_ARRAY',
        keySize: 4,
        valueSize: 16,
        maxEntries: 1,
        flags: BPF_F_RDONLY_PROG,
        entries: [[u32(0), concat(Buffer.from(b), new Uint8Array(16 - b.length))]],
      },
    },
    program: `
      *(u64 *)(r10 -16) = 0
      *(u64 *)(r10 -8) = 0
      ${string(a, 16 - a.length - 1)}
      r1 = r10
      r1 += -16
      r2 = ${size}
      r3 = map[text][0]+0
      call bpf_strncmp
      exit`,
    verdict: verdict >>> 0,
  };
}

/** Checksum helper over the stack: `from` and `to` as lists of u32 words. */
function csum(
  name: string,
  from: readonly number[],
  to: readonly number[],
  seed: number,
  verdict: number,
): XdpCase {
  const words = (list: readonly number[], end: number) =>
    list.map((word, i) => `*(u32 *)(r10 ${-end + 4 * i}) = ${word | 0}`).join('\n');
  return {
    name: `bpf_csum_diff: ${name}`,
    source: CSUM,
    program: `
      ${words(from, 64)}
      ${words(to, 32)}
      r1 = r10
      r1 += -64
      r2 = ${4 * from.length}
      r3 = r10
      r3 += -32
      r4 = ${4 * to.length}
      ${from.length === 0 ? 'r1 = 0' : ''}
      ${to.length === 0 ? 'r3 = 0' : ''}
      r5 = ${seed}
      call bpf_csum_diff
      exit`,
    verdict,
  };
}

/** struct bpf_fib_lookup of IPv4 at R10 - 64, then the helper, then its fields to the map `out`. */
function fib(ifindex: number, totLen: number, flags: number): string {
  return `
      r6 = r1
      ${Array.from({ length: 8 }, (_, i) => `*(u64 *)(r10 ${-64 + 8 * i}) = 0`).join('\n')}
      *(u8 *)(r10 -64) = 2
      *(u16 *)(r10 -58) = ${totLen}
      *(u32 *)(r10 -56) = ${ifindex}
      *(u32 *)(r10 -48) = 0x0100000a
      *(u32 *)(r10 -32) = 0x0200a8c0
      r2 = r10
      r2 += -64
      r3 = 64
      r4 = ${flags}
      call bpf_fib_lookup
      r7 = map[out][0]+0
      r1 = *(u64 *)(r10 -64)
      *(u64 *)(r7 +0) = r1
      r1 = *(u64 *)(r10 -56)
      *(u64 *)(r7 +8) = r1
      r1 = *(u64 *)(r10 -32)
      *(u64 *)(r7 +16) = r1
      r1 = *(u64 *)(r10 -16)
      *(u64 *)(r7 +24) = r1
      r1 = *(u64 *)(r10 -8)
      *(u64 *)(r7 +32) = r1
      exit`;
}

const FIB_OUT = { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 40, maxEntries: 1 } as const;

/** Two devices, 1 and 2 of MTU 1500; a route by a gateway over device 2. */
const network = {
  mtu: (ifindex: number) => ([1, 2].includes(ifindex) ? 1500 : undefined),
  fibLookup: ({ destination }: { readonly destination: Uint8Array }) => ({
    result: destination.join('.') === '192.168.0.2' ? 0 : 4,
    ifindex: 2,
    mtu: 1500,
    nextHop: Uint8Array.of(10, 0, 0, 254),
    sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
  }),
};

export const HELPER_CASES: readonly XdpCase[] = [
  {
    name: 'bpf_redirect leaves the ifindex',
    source: REDIRECT,
    program: 'r1 = 7\nr2 = 0\ncall bpf_redirect\nexit',
    verdict: XDP_REDIRECT,
    redirect: { kind: 'ifindex', ifindex: 7, flags: 0 },
  },
  {
    name: 'bpf_redirect with flags is XDP_ABORTED',
    source: REDIRECT,
    program: 'r1 = 7\nr2 = 1\ncall bpf_redirect\nexit',
    verdict: XDP_ABORTED,
    redirect: { kind: 'none' },
  },
  {
    name: 'bpf_redirect_map leaves map and index',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(2), u32(LOOPBACK)]] } },
    program: `${redirectMap('devices', 2, 0)}\nexit`,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'map', index: 2, flags: 0, map: 'devices' },
  },
  {
    name: 'bpf_redirect_map without an entry returns the action in its flags',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(2), u32(LOOPBACK)]] } },
    program: `${redirectMap('devices', 1, 2)}\nexit`,
    verdict: XDP_PASS,
    redirect: { kind: 'none' },
  },
  {
    name: 'bpf_redirect_map beyond the map returns the action in its flags',
    source: REDIRECT,
    maps: { devices: DEVMAP },
    program: `${redirectMap('devices', 4, 3)}\nexit`,
    verdict: XDP_TX,
  },
  {
    name: 'a miss forgets an earlier redirect',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(2), u32(LOOPBACK)]] } },
    program: `${redirectMap('devices', 2, 0)}${redirectMap('devices', 0, 1)}\nexit`,
    verdict: XDP_DROP,
    redirect: { kind: 'none' },
  },
  {
    name: 'bpf_redirect_map takes the lower half of the key',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(2), u32(LOOPBACK)]] } },
    program: `
      r2 = 0x700000002 ll
      r1 = map[devices]
      r3 = 0
      call bpf_redirect_map
      exit`,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'map', index: 2, flags: 0, map: 'devices' },
  },
  {
    name: 'bpf_redirect_map goes by a key and by flags out of the packet',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(3), u32(LOOPBACK)]] } },
    packet: countingBytes(60),
    program: `
      r6 = *(u32 *)(r1 +0)
      r7 = *(u32 *)(r1 +4)
      r0 = 0
      r2 = r6
      r2 += 14
      if r2 > r7 goto +5
      r2 = *(u8 *)(r6 +3)
      r3 = *(u8 *)(r6 +2)
      r1 = map[devices]
      call bpf_redirect_map
      exit`,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'map', index: 3, flags: 0, map: 'devices' },
  },
  {
    name: 'bpf_redirect_map on a CPUMAP leaves map and CPU',
    source: REDIRECT,
    maps: { cpus: { ...DEVMAP, type: 'BPF_MAP_TYPE_CPUMAP', entries: [[u32(1), u32(64)]] } },
    program: `${redirectMap('cpus', 1, 0)}\nexit`,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'map', index: 1, flags: 0, map: 'cpus' },
  },
  {
    name: 'bpf_redirect_map with unknown flags is XDP_ABORTED',
    source: REDIRECT,
    maps: { devices: { ...DEVMAP, entries: [[u32(2), u32(LOOPBACK)]] } },
    program: `${redirectMap('devices', 2, 32)}\nexit`,
    verdict: XDP_ABORTED,
    redirect: { kind: 'none' },
  },
  {
    name: 'bpf_redirect_map with BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS needs no entry and keeps the flags',
    source: REDIRECT,
    maps: { devices: DEVMAP },
    program: `${redirectMap('devices', 0, 24)}\nexit`,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'map', index: 0, flags: 24, map: 'devices' },
  },
  {
    name: 'bpf_redirect_map on a CPUMAP takes no broadcast',
    source: REDIRECT,
    maps: { cpus: { ...DEVMAP, type: 'BPF_MAP_TYPE_CPUMAP', entries: [[u32(1), u32(64)]] } },
    program: `${redirectMap('cpus', 1, 8)}\nexit`,
    verdict: XDP_ABORTED,
  },

  {
    name: 'bpf_ktime_get_ns and bpf_ktime_get_boot_ns give the run’s clock',
    source: 'kernel/bpf/helpers.c',
    program: `
      call bpf_ktime_get_ns
      r6 = r0
      call bpf_ktime_get_boot_ns
      r0 -= r6
      r6 >>= 32
      r0 += r6
      exit`,
    now: 0x1234_0000_0001n,
    verdict: 0x1234,
  },
  {
    name: 'bpf_jiffies64 counts ticks of 4 ms, bpf_ktime_get_coarse_ns their beginning',
    source: 'CONFIG_HZ=250',
    program: `
      call bpf_jiffies64
      r6 = r0
      call bpf_ktime_get_coarse_ns
      r0 /= 1000000
      r0 <<= 8
      r0 |= r6
      exit`,
    now: 23_999_999n,
    verdict: (20 << 8) | 5,
  },
  {
    name: 'bpf_get_prandom_u32 draws the sequence of the run’s seed',
    source: 'RunState.nextRandom with seed 0: two steps of the generator',
    program: `
      call bpf_get_prandom_u32
      r6 = r0
      call bpf_get_prandom_u32
      r0 ^= r6
      exit`,
    verdict: (prandom(1) ^ prandom(2)) >>> 0,
  },
  {
    name: 'bpf_get_prandom_u32 returns the numbers that are given, then draws from the last',
    source: 'RunState.giveRandom: one step of the generator from 0x8000000000000000',
    program: `
      call bpf_get_prandom_u32
      r6 = r0
      r6 <<= 8
      call bpf_get_prandom_u32
      r0 >>= 28
      r6 |= r0
      call bpf_get_prandom_u32
      r0 ^= r6
      exit`,
    random: [0x123, 0x8000_0000],
    verdict:
      (Number((((1n << 63n) * PRNG_MULTIPLIER + PRNG_INCREMENT) >> 32n) & 0xffff_ffffn) ^ 0x12308) >>> 0,
  },
  {
    name: 'bpf_get_smp_processor_id and bpf_get_numa_node_id',
    source: 'kernel/bpf/helpers.c',
    program: `
      call bpf_get_smp_processor_id
      r6 = r0
      call bpf_get_numa_node_id
      r0 += r6
      r0 += 2
      exit`,
    verdict: XDP_PASS,
  },

  {
    name: 'bpf_perf_event_output: the data, then the start of the packet',
    source: OUTPUT,
    maps: { events: EVENTS },
    program: `
      *(u64 *)(r10 -8) = 0x11223344
      r2 = map[events]
      r3 = 0x4ffffffffll
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      r0 += 2
      exit`,
    packet: countingBytes(64, 0xa0),
    verdict: XDP_PASS,
    records: { events: [concat(u64(0x1122_3344n), [0xa0, 0xa1, 0xa2, 0xa3])] },
  },
  {
    name: 'bpf_perf_event_output to an entry without an event is -ENOENT',
    source: OUTPUT,
    maps: { events: { ...EVENTS, entries: [] } },
    program: `
      *(u64 *)(r10 -8) = 0
      r2 = map[events]
      r3 = 0
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      exit`,
    verdict: 0xffff_fffe,
  },
  {
    name: 'bpf_perf_event_output of more than the packet holds is -EFAULT',
    source: OUTPUT,
    maps: { events: EVENTS },
    program: `
      *(u64 *)(r10 -8) = 0
      r2 = map[events]
      r3 = 0x41ffffffffll
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      exit`,
    verdict: 0xffff_fff2,
    records: { events: [] },
  },
  {
    name: 'bpf_ringbuf_output, and reserve with submit and discard',
    source: OUTPUT,
    maps: { ring: { type: 'BPF_MAP_TYPE_RINGBUF', keySize: 0, valueSize: 0, maxEntries: 4096 } },
    program: `
      *(u64 *)(r10 -8) = 5
      r1 = map[ring]
      r2 = r10
      r2 += -8
      r3 = 8
      r4 = 0
      call bpf_ringbuf_output
      if r0 != 0 goto bad
      r1 = map[ring]
      r2 = 12
      r3 = 0
      call bpf_ringbuf_reserve
      if r0 == 0 goto bad
      *(u64 *)(r0 +0) = 6
      *(u32 *)(r0 +8) = 7
      r1 = r0
      r2 = 0
      call bpf_ringbuf_submit
      r1 = map[ring]
      r2 = 8
      r3 = 0
      call bpf_ringbuf_reserve
      if r0 == 0 goto bad
      *(u64 *)(r0 +0) = 99
      r1 = r0
      r2 = 0
      call bpf_ringbuf_discard
      r0 = 2
      exit
    bad:
      r0 = 1
      exit`,
    verdict: XDP_PASS,
    records: { ring: [u64(5n), concat(u64(6n), u32(7))] },
  },
  {
    name: 'bpf_ringbuf_reserve of more than the ring gives NULL, unknown flags -EINVAL',
    source: OUTPUT,
    maps: { ring: { type: 'BPF_MAP_TYPE_RINGBUF', keySize: 0, valueSize: 0, maxEntries: 4096 } },
    program: `
      r1 = map[ring]
      r2 = 8192
      r3 = 0
      call bpf_ringbuf_reserve
      if r0 == 0 goto empty
      r1 = r0
      r2 = 0
      call bpf_ringbuf_discard
      r0 = 1
      exit
    empty:
      *(u64 *)(r10 -8) = 5
      r1 = map[ring]
      r2 = r10
      r2 += -8
      r3 = 8
      r4 = 64
      call bpf_ringbuf_output
      exit`,
    verdict: 0xffff_ffea,
    records: { ring: [] },
  },

  trace('plain text', 'hello', [], 'hello'),
  trace('signed, unsigned and hex, cut to 32 bits', '%d %u %x', ['-1', '-1', '0x1ffll'], '-1 4294967295 1ff'),
  trace('64 bits', '%ld %llu %lx', ['-1', '-1', '-1'], '-1 18446744073709551615 ffffffffffffffff'),
  trace('width, zeros, left, plus', '%5d|%-4u|%+d', ['-42', '7', '3'], '  -42|7   |+3'),
  trace('zeros and upper case', '%08X %%%c', ['0xbeef', '65'], '0000BEEF %A'),
  refusedTrace('a conversion that the kernel does not take', '%f'),
  refusedTrace('a precision', '%.3d'),
  refusedTrace('more conversions than arguments', '%d%d%d%d'),
  refusedTrace('a character that does not print', 'a\x01'),
  {
    name: 'bpf_trace_vprintk with a string, an address and a number',
    source: FORMAT,
    maps: CONSTANTS,
    program: vprintk('%s %pI4 %d', 'map[constants][0]+0', 'map[constants][0]+4'),
    verdict: 'ab 192.168.0.1 9'.length,
    trace: ['ab 192.168.0.1 9'],
  },
  // What programs write may hold addresses, and a number may point anywhere.
  ...['r10', 'map[data][0]+0', '0', '0x10000', '0x7fffffff ll', '0xffffffff00010000 ll'].map((address) => ({
    name: `bpf_trace_vprintk follows no address but those of constants: ${address}`,
    source: 'memory that a format may not read is as memory that cannot be read: no text, and zeros',
    maps: CONSTANTS,
    program: `
      *(u64 *)(r10 -8) = 0x41
      r6 = map[data][0]+0
      *(u64 *)(r6 +0) = 0x41
      ${vprintk('%s %pI4 %d', address, address, address === 'r10' ? -8 : 0)}`,
    verdict: ' 0.0.0.0 9'.length,
    trace: [' 0.0.0.0 9'],
  })),
  trace('a field wider than a line is cut, and counted in full', '%2000d|', ['7'], ' '.repeat(1023), 2001),
  {
    name: 'bpf_snprintf cuts what does not fit and returns what it would take',
    source: FORMAT,
    maps: {
      format: {
        type: 'BPF_MAP_TYPE_ARRAY',
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: BPF_F_RDONLY_PROG,
        entries: [[u32(0), concat(Buffer.from('n=%d'), new Uint8Array(4))]],
      },
      out: { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 1 },
    },
    program: `
      *(u64 *)(r10 -8) = 12345
      r1 = map[out][0]+0
      r2 = 6
      r3 = map[format][0]+0
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_snprintf
      exit`,
    verdict: 8,
    mapsAfter: { out: [[u32(0), concat(Buffer.from('n=123'), [0, 0, 0])]] },
  },

  snprintf('clears what the text leaves of its buffer', 'n=%d', 16, 'n=12345', 8),
  snprintf('clears its buffer when there is no such format', '%f', 16, '', 0xffff_ffea),
  snprintf('counts a field in full of which little fits', '%99999d', 8, '       ', 100_000),

  strto('strtol', '42', 0, 2, 42n),
  strto('strtol', ' -0x1F', 0, 6, -31n),
  strto('strtol', '017', 0, 3, 15n),
  strto('strtol', '12ab', 10, 2, 12n),
  strto('strtol', 'ff', 16, 2, 255n),
  strto('strtol', '9223372036854775807', 10, 19, 0x7fff_ffff_ffff_ffffn),
  strto('strtol', '9223372036854775808', 10, -34, 0n),
  strto('strtol', '-9223372036854775808', 10, 20, -0x8000_0000_0000_0000n),
  strto('strtol', 'x', 0, -22, 0n),
  strto('strtol', '12', 7, -22, 0n),
  strto('strtoul', '18446744073709551615', 10, 20, 0xffff_ffff_ffff_ffffn),
  strto('strtoul', '18446744073709551616', 10, -34, 0n),
  strto('strtoul', '-1', 10, -22, 0n),

  strncmp('abc', 'abc', 8, 0),
  strncmp('abc', 'abd', 3, -1),
  strncmp('abd', 'abc', 3, 1),
  strncmp('abc', 'abx', 2, 0),
  strncmp('ab', 'abc', 3, -1),

  // 0x0102 + 0x0304 in the packet's order; the sums here are of little-endian words, as memory holds them.
  csum('a sum from nothing', [], [0x0001_0002, 0x0003_0004], 0, 0x000a),
  csum('a seed and a carry', [], [0xffff_ffff | 0], 1, 0x0001),
  csum('one word replaced by another', [0x0000_0005], [0x0000_0007], 0, 0x0002),
  csum('one word replaced by a smaller one', [0x0000_0007], [0x0000_0005], 0, 0xfffd),
  csum('bytes taken away', [0x0000_0005], [], 7, 0x0002),
  csum('words that are taken away and add up to all ones', [0x8000_0000 | 0, 0x7fff_ffff], [0], 0, 0),
  csum('all ones taken away from nothing', [0xffff_ffff | 0], [], 0, 0),
  csum('one word replaced by itself', [0x0000_0005], [0x0000_0005], 0, 0xffff),
  csum(
    'a carry that brings another',
    [],
    [0xffff_fffe | 0, 0xffff_ffff | 0, 0xffff_ffff | 0],
    0xffff,
    0xfffe,
  ),
  csum('nothing for nothing keeps the seed', [], [], 0x1234, 0x1234),

  {
    name: 'bpf_fib_lookup by a gateway',
    source: FIB,
    network,
    maps: { out: FIB_OUT },
    program: fib(1, 100, 0),
    verdict: 0,
    mapsAfter: {
      out: [
        [
          u32(0),
          concat(
            [2, 0, 0, 0, 0, 0],
            u16(1500),
            u32(2),
            u32(0),
            [10, 0, 0, 254, 0, 0, 0, 0],
            u32(0),
            [2, 0, 0, 0],
            [0, 1, 2, 0, 0, 0, 0, 2],
          ),
        ],
      ],
    },
  },
  {
    name: 'bpf_fib_lookup of a packet that is too long is BPF_FIB_LKUP_RET_FRAG_NEEDED',
    source: FIB,
    network,
    maps: { out: FIB_OUT },
    program: fib(1, 1501, 0),
    verdict: 8,
    mapsAfter: {
      out: [
        [u32(0), concat([2, 0, 0, 0, 0, 0], u16(1500), u32(1), u32(0), [192, 168, 0, 2], new Uint8Array(20))],
      ],
    },
  },
  {
    name: 'bpf_fib_lookup on a device that is not there is -ENODEV',
    source: FIB,
    network,
    maps: { out: FIB_OUT },
    program: fib(3, 0, 0),
    verdict: 0xffff_ffed,
  },
  {
    name: 'bpf_fib_lookup with unknown flags is -EINVAL',
    source: FIB,
    network,
    maps: { out: FIB_OUT },
    program: fib(1, 0, 64),
    verdict: 0xffff_ffea,
  },
  {
    name: 'bpf_fib_lookup on a host without network is -ENODEV',
    source: FIB,
    maps: { out: FIB_OUT },
    program: fib(1, 0, 0),
    verdict: 0xffff_ffed,
  },
  checkMtu('of a frame that fits', 2, 0, 0, 0, 1500),
  checkMtu('of a frame that would be too long', 2, 0, 1451, 1, 1500),
  checkMtu('of an L3 length', 2, 1500, 0, 0, 1500),
  checkMtu('of an L3 length that is too long', 2, 1501, 0, 1, 1500),
  checkMtu('on a device that is not there', 9, 5, 0, -19, 5),

  {
    name: 'bpf_sk_lookup_tcp finds no socket',
    source: 'the testbed declares none',
    program: `
      *(u64 *)(r10 -16) = 0
      *(u64 *)(r10 -8) = 0
      r2 = r10
      r2 += -16
      r3 = 12
      r4 = -1
      r5 = 0
      call bpf_sk_lookup_tcp
      if r0 != 0 goto found
      r0 = 2
      exit
    found:
      r1 = r0
      call bpf_sk_release
      r0 = 1
      exit`,
    verdict: XDP_PASS,
  },
];

function checkMtu(
  name: string,
  ifindex: number,
  mtuLength: number,
  lengthDifference: number,
  verdict: number,
  after: number,
): XdpCase {
  return {
    name: `bpf_check_mtu ${name}`,
    source: MTU,
    network,
    metadata: { ingressIfindex: 1 },
    maps: {
      length: {
        type: 'BPF_MAP_TYPE_ARRAY',
        keySize: 4,
        valueSize: 4,
        maxEntries: 1,
        entries: [[u32(0), u32(mtuLength)]],
      },
    },
    program: `
      r2 = ${ifindex}
      r3 = map[length][0]+0
      r4 = ${lengthDifference}
      r5 = 0
      call bpf_check_mtu
      exit`,
    verdict: verdict >>> 0,
    mapsAfter: { length: [[u32(0), u32(after)]] },
  };
}

/** The n-th number of seed 0, worked out independently of RunState. */
function prandom(n: number): number {
  let state = 0x9e37_79b9_7f4a_7c15n;
  for (let i = 0; i < n; i++) {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
  }
  return Number(state >> 32n);
}
