import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tcp, udp } from 'xdpbed/packet';
import {
  loadProgram,
  ProgramRejectedError,
  type ElementMap,
  type PerCpuMap,
  type RecordMap,
  type TestProgram,
} from 'xdpbed/test';

/** The maps of blocklist.bpf.c: `struct network`, `struct traffic` and `struct drop_event` in TypeScript. */
interface BlocklistMaps {
  blocked: ElementMap<{ prefixlen: number; address: string }, number>;
  counters: PerCpuMap<number, { packets: bigint; bytes: bigint }>;
  events: RecordMap;
}

interface DropEvent {
  source: string;
  destination: string;
  rule: number;
  protocol: number;
}

const PASSED = 0;
const DROPPED = 1;
const none = { packets: 0n, bytes: 0n };
const object = fileURLToPath(
  import.meta.resolve('xdpbed/package.json').replace(/package\.json$/, 'testbeds/programs/blocklist.o'),
);

describe.each(['interpreter', 'wasm'])('blocklist, by executor %s', (executor) => {
  let blocklist: TestProgram<BlocklistMaps>;

  beforeAll(async () => {
    blocklist = await loadProgram<BlocklistMaps>(object, { executor, cpus: 2 });
  });
  afterEach(() => blocklist.reset());
  afterAll(() => blocklist.close());

  it('passes what no network has', () => {
    const packet = udp({ src: '198.51.100.9' });
    expect(blocklist.run(packet)).toMatchObject({ verdict: 'XDP_PASS', packet });
    expect(blocklist.maps.counters.get(PASSED)).toEqual([{ packets: 1n, bytes: 60n }, none]);
    expect(blocklist.maps.events.records()).toEqual([]);
  });

  it('drops the longest prefix, by its rule', () => {
    const { blocked, events } = blocklist.maps;
    blocked.set({ prefixlen: 24, address: '198.51.100.0' }, 7);
    blocked.set({ prefixlen: 32, address: '198.51.100.9' }, 8);
    expect(blocklist.run(udp({ src: '198.51.100.1' })).verdict).toBe('XDP_DROP');
    expect(blocklist.run(tcp({ src: '198.51.100.9', dst: '192.0.2.53', dstPort: 80 })).verdict).toBe(
      'XDP_DROP',
    );
    expect(events.records<DropEvent>({ type: 'drop_event' })).toMatchObject([
      { source: '198.51.100.1', destination: '192.0.2.1', rule: 7, protocol: 17 },
      { source: '198.51.100.9', destination: '192.0.2.53', rule: 8, protocol: 6 },
    ]);
  });

  it('counts on the CPU that the packet came to', () => {
    const { blocked, counters } = blocklist.maps;
    blocked.set({ prefixlen: 0, address: '0.0.0.0' }, 1);
    blocklist.run(udp({ size: 100 }), { cpu: 1 });
    blocklist.run(udp({ size: 1514 }), { cpu: 1 });
    expect(counters.get(DROPPED)).toEqual([none, { packets: 2n, bytes: 1614n }]);
  });

  it('starts each test with nothing blocked and nothing counted', () => {
    expect(blocklist.maps.blocked.size).toBe(0);
    expect(blocklist.maps.counters.get(DROPPED)).toEqual([none, none]);
  });

  it('leaves alone what is no IPv4', () => {
    blocklist.maps.blocked.set({ prefixlen: 0, address: '0.0.0.0' }, 1);
    expect(blocklist.run(udp({ src: '2001:db8::1' })).verdict).toBe('XDP_PASS');
  });

  it('drops while the ring buffer is full as well', () => {
    const { blocked, events } = blocklist.maps;
    blocked.set({ prefixlen: 0, address: '0.0.0.0' }, 1);
    const verdicts = Array.from({ length: 500 }, () => blocklist.run(udp()).verdict);
    expect(new Set(verdicts)).toEqual(new Set(['XDP_DROP']));
    // Of 4096 bytes, 16 for a record and 8 for its header: one byte is always left free.
    expect(events.records()).toHaveLength(170);
  });
});

it('a value that does not fit is told by its member', async () => {
  await using blocklist = await loadProgram<BlocklistMaps>(object);
  expect(() => blocklist.maps.blocked.set({ prefixlen: 24, address: '198.51.100' }, 7)).toThrow(
    'blocked key.address',
  );
});

it('a program that a kernel would refuse is explained', async () => {
  const text = '.program short\nr2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)\nexit\n';
  const error: unknown = await loadProgram({ assembly: text }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ProgramRejectedError);
  expect((error as ProgramRejectedError).rejection).toMatchObject({ code: 'packet-bounds', insn: 1 });
  expect((error as ProgramRejectedError).message).toContain('if (ptr + 1 > data_end) return XDP_DROP;');
});
