import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { probeBpf } from '../linux/bpf-probe.js';
import { tcp, udp } from '../packet/plain-frames.js';
import {
  loadProgram,
  type ElementMap,
  type LoadProgramOptions,
  type ObjectMap,
  type PerCpuMap,
  type ProgramSource,
  type RecordMap,
  type TestProgram,
} from './index.js';

const PROGRAMS = 'testbeds/programs';
const noKernel = probeBpf().status === 'supported' ? '' : ' (skipped: no BPF here)';

const opened: TestProgram<unknown, unknown>[] = [];
afterEach(async () => {
  for (const program of opened.splice(0)) await program.close();
});

async function load<Maps = TestProgram['maps'], Globals = Record<string, unknown>>(
  source: ProgramSource,
  options?: LoadProgramOptions,
): Promise<TestProgram<Maps, Globals>> {
  const program = await loadProgram<Maps, Globals>(source, options);
  opened.push(program);
  return program;
}

interface Blocklist {
  readonly blocked: ElementMap<{ prefixlen: number; address: string }, number>;
  readonly counters: PerCpuMap<number, { packets: bigint; bytes: bigint }>;
  readonly events: RecordMap;
}

describe.each(['interpreter', 'wasm', 'differential'])('the blocklist in executor %s', (executor) => {
  const options = { executor, cpus: 2 };

  it('drops what comes from a network of the trie, counts it on its CPU and reports it', async () => {
    const blocklist = await load<Blocklist>(`${PROGRAMS}/blocklist.o`, options);
    const { blocked, counters, events } = blocklist.maps;
    blocked.set({ prefixlen: 24, address: '198.51.100.0' }, 7);
    blocked.set({ prefixlen: 32, address: '198.51.100.9' }, 8);

    expect(blocklist.run(udp({ src: '203.0.113.1' }))).toMatchObject({ verdict: 'XDP_PASS' });
    expect(blocklist.run(udp({ src: '198.51.100.1' }), { cpu: 1 }).verdict).toBe('XDP_DROP');
    expect(blocklist.run(tcp({ src: '198.51.100.9', size: 100 }), { cpu: 1 }).verdict).toBe('XDP_DROP');

    const none = { packets: 0n, bytes: 0n };
    expect(counters.get(0)).toEqual([{ packets: 1n, bytes: 60n }, none]);
    expect(counters.get(1)).toEqual([none, { packets: 2n, bytes: 160n }]);
    const padding = [0, 0, 0];
    expect(events.records({ type: 'drop_event' })).toEqual([
      { source: '198.51.100.1', destination: '192.0.2.1', rule: 7, protocol: 17, padding },
      { source: '198.51.100.9', destination: '192.0.2.1', rule: 8, protocol: 6, padding },
    ]);
    expect(events.records({ type: 'drop_event' })).toEqual([]);
  });

  it('is after a reset, when the call returns, what it was after loading', async () => {
    const blocklist = await load<Blocklist>(`${PROGRAMS}/blocklist.o`, {
      ...options,
      maps: { blocked: [{ key: { prefixlen: 8, address: '10.0.0.0' }, value: 1 }] },
    });
    const { blocked, counters, events } = blocklist.maps;
    blocked.set({ prefixlen: 8, address: '11.0.0.0' }, 2);
    blocklist.run(udp({ src: '11.0.0.1' }));
    const done = blocklist.reset();
    expect([...blocked]).toEqual([[{ prefixlen: 8, address: '10.0.0.0' }, 1]]);
    expect(events.rawRecords()).toEqual([]);
    expect(counters.get(1)).toEqual(Array(2).fill({ packets: 0n, bytes: 0n }));
    await done;
  });
});

describe('maps', () => {
  it('of elements are asked, changed and walked as a Map is', async () => {
    const { maps } = await load(`${PROGRAMS}/blocklist.o`);
    const blocked = maps.blocked!;
    const network = { prefixlen: 16, address: '192.0.0.0' };
    expect([blocked.has(network), blocked.get(network), blocked.delete(network)]).toEqual([
      false,
      undefined,
      false,
    ]);
    blocked.set(network, 3);
    // A trie finds the longest prefix that an address lies in.
    expect(blocked.get({ prefixlen: 32, address: '192.0.2.1' })).toBe(3);
    expect([blocked.size, blocked.entries()]).toEqual([1, [[network, 3]]]);
    expect([blocked.delete(network), blocked.size]).toEqual([true, 0]);
    // Of an array every element is there.
    expect([maps.counters!.size, maps.counters!.has(2)]).toEqual([2, false]);
  });

  it('of each CPU take one value for all or a list, and not another number of values', async () => {
    const { maps } = await load<Blocklist>(`${PROGRAMS}/blocklist.o`, { cpus: 3 });
    const one = { packets: 1n, bytes: 2n };
    maps.counters.set(0, one);
    expect(maps.counters.get(0)).toEqual([one, one, one]);
    maps.counters.set(0, [one, { packets: 5 }, { bytes: '0x10' }]);
    expect(maps.counters.get(0)).toEqual([one, { packets: 5n, bytes: 0n }, { packets: 0n, bytes: 16n }]);
    expect(() => maps.counters.set(0, [one])).toThrow('counters: 1 values for 3 CPUs');
  });

  it('name the member that does not fit, and what may have been meant', async () => {
    const { maps } = await load(`${PROGRAMS}/blocklist.o`);
    const blocked = maps.blocked!;
    const key = { prefixlen: 1, address: 0 };
    expect(() => blocked.set({ prefixlen: 1, adress: '10.0.0.0' }, 1)).toThrow(
      expect.objectContaining({
        code: 'map-invalid',
        message: expect.stringContaining('blocked key.adress: there is no member adress') as string,
        hint: "did you mean 'address'?",
      }),
    );
    expect(() => blocked.set(key, 2 ** 32)).toThrow('blocked value: 4294967296 does not fit in 32');
    expect(() => blocked.set({ ...key, prefixlen: 33 }, 1)).toThrow(
      'blocked.set of {"prefixlen":33,"address":0}: EINVAL, a BPF_MAP_TYPE_LPM_TRIE does not take this',
    );
    expect(() => maps.counters!.set(0, { packets: 1, octets: 1 })).toThrow(
      'counters value.octets: there is no member octets',
    );
    expect(() => maps.counters!.delete(0)).toThrow('counters.delete of 0: EINVAL');
  });

  it('that are full say how many elements they hold', async () => {
    const { maps } = await load(`${PROGRAMS}/blocklist.o`, { maxEntries: { blocked: 1 } });
    maps.blocked!.set({ prefixlen: 8, address: '10.0.0.0' }, 1);
    expect(() => maps.blocked!.set({ prefixlen: 8, address: '11.0.0.0' }, 1)).toThrow(
      'blocked.set of {"prefixlen":8,"address":"11.0.0.0"}: ENOSPC, there is no element beyond max_entries, 1',
    );
  });

  it('of records refuse another type, and tell of one that the BTF does not have', async () => {
    const program = await load(`${PROGRAMS}/blocklist.o`);
    const { maps } = program;
    maps.blocked!.set({ prefixlen: 0, address: 0 }, 1);
    program.run(udp());
    expect(() => maps.events!.records({ type: 'struct network' })).toThrow(
      'record 1 of events has 16 bytes, and struct network has 8',
    );
    expect(() => maps.events!.records({ type: 'drop_evnt' })).toThrow(
      expect.objectContaining({ hint: "did you mean 'drop_event'?" }),
    );
  });

  it('have the methods of their kind alone', async () => {
    const { maps } = await load(`${PROGRAMS}/blocklist.o`);
    expect(() => maps.events!.get(0)).toThrow('events.get: a BPF_MAP_TYPE_RINGBUF has records, and no keys');
    expect(() => maps.blocked!.records()).toThrow('blocked.records: a BPF_MAP_TYPE_LPM_TRIE has no records');
    expect(() => maps.blocked!.push(1)).toThrow('blocked.push: a BPF_MAP_TYPE_LPM_TRIE has no push');
  });
});

describe('buffers of records', () => {
  it('are of the CPU that sent them, and of perf events what is behind the type is left out', async () => {
    const perf = await load(`${PROGRAMS}/events.o`, { program: 'perf_sample', cpus: 2 });
    const packet = udp({ size: 62 });
    for (let i = 0; i < 2; i++) {
      perf.run(packet, { cpu: 1, now: 5n });
      const [record] = perf.map('perf_events').rawRecords();
      expect(record).toMatchObject({ cpu: 1, lost: 0 });
      // What bpf_perf_event_output was given, and all of the packet.
      expect(record!.data.subarray(16, 16 + 62)).toEqual(packet);
    }
    perf.run(packet, { now: 5n });
    // Of 24 bytes, as no other that this BTF has: the 16 of struct event, and the packet's first 8.
    expect(perf.map('perf_events').records({ type: 'xdp_md' })).toEqual([
      { data: 5, data_end: 0, data_meta: 62, ingress_ifindex: 0, rx_queue_index: 2, egress_ifindex: 0x20200 },
    ]);
    expect(() => perf.map('perf_events').records({ type: 'event' })).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('__attribute__((unused))') as string }),
    );
  });

  it('give bytes where nothing says what they are', async () => {
    const ring = await load(`${PROGRAMS}/events.o`, { program: 'ring_output' });
    ring.run(udp(), { now: 0x0102n });
    const event = new Uint8Array(16);
    event.set([2, 1, 0, 0, 0, 0, 0, 0, 60]);
    expect(ring.map('ring').records()).toEqual([event]);
  });
});

const KERNEL = noKernel === '' ? ['kernel'] : [];
describe.each(['interpreter', 'wasm', 'differential', ...KERNEL])('in executor %s', (executor) => {
  const IPV4 = 17;
  const options = { program: 'tail_entry', executor };

  it('programs are put into an array of them by name, and taken out', async () => {
    const chain = await load<{ stages: ObjectMap; visits: ElementMap<number, bigint> }>(
      `${PROGRAMS}/tail_chain.o`,
      { ...options, maps: { stages: [{ key: 0, value: 'stage3' }] } },
    );
    const { stages, visits } = chain.maps;
    const counts = (): bigint[] => visits.entries().map(([, count]) => count);
    chain.run(udp());
    expect(counts()).toEqual([1n, 0n, 0n, 1n, 1n]);
    stages.set(0, 'stage4');
    expect([stages.size, stages.has(3)]).toEqual([4, true]);
    chain.run(udp());
    expect(counts()).toEqual([2n, 0n, 0n, 1n, 2n]);
    expect([stages.delete(0), stages.has(0)]).toEqual([true, false]);
    chain.run(udp());
    expect(counts()).toEqual([3n, 0n, 0n, 1n, 2n]);
    await chain.reset();
    chain.run(udp());
    expect(counts()).toEqual([1n, 0n, 0n, 1n, 1n]);
  });

  it('maps are put into a map of them by name, and taken out', async () => {
    type Counts = ElementMap<number, bigint>;
    const program = await load<{
      by_family: ObjectMap;
      counts_v4: Counts;
      counts_v6: Counts;
      queue1: Counts;
    }>(`${PROGRAMS}/map_in_map.o`, { executor, maps: { counts_v6: [{ key: IPV4, value: 40 }] } });
    const { by_family: families, counts_v4: v4, counts_v6: v6 } = program.maps;
    program.run(udp());
    families.set(0, 'counts_v6');
    program.run(udp());
    expect([v4.get(IPV4), v6.get(IPV4)]).toEqual([1n, 41n]);
    expect(families.delete(0)).toBe(true);
    program.run(udp());
    expect([v4.get(IPV4), v6.get(IPV4)]).toEqual([1n, 41n]);
    expect(() => families.set(1, 'queue1')).toThrow(
      'by_family value: map queue1, a BPF_MAP_TYPE_HASH of 4 + 8 bytes, is not like those that by_family holds',
    );
    expect(() => families.set(4, 'counts_v4')).toThrow(/by_family: .* cannot be set: E2BIG/);
  });
});

describe('what a map of maps or programs is given', () => {
  const assembly = `.license GPL
.map jumps prog_array key=4 value=4 entries=2
.program main
  r2 = map[jumps]
  r3 = 0
  call bpf_tail_call
  r0 = 2
  exit
.program drop
  r0 = 1
  exit
.program loops
  again:
  goto again
  exit
`;
  const program = 'main';

  it('is loaded with the program, if it is told to be', async () => {
    const bare = await load({ assembly }, { program });
    expect(() => bare.map('jumps').set(0, 'drop')).toThrow(
      expect.objectContaining({
        message: "jumps: 'drop' is not loaded with the program",
        hint: "have it loaded: loadProgram(…, { also: ['drop'] })",
      }),
    );
    const whole = await load({ assembly }, { program, also: ['drop'] });
    expect(whole.run(udp()).verdict).toBe('XDP_PASS');
    whole.map('jumps').set(0, 'drop');
    expect(whole.run(udp()).verdict).toBe('XDP_DROP');
    await whole.reset();
    expect(whole.run(udp()).verdict).toBe('XDP_PASS');
  });

  it('is judged by the verifier, and has to be there', async () => {
    await expect(load({ assembly }, { program, also: ['loops'] })).rejects.toThrow(
      /^loops: rejected by abstract/,
    );
    await expect(load({ assembly }, { program, also: ['dorp'] })).rejects.toThrow(
      expect.objectContaining({
        message: "the object has neither a program nor a map 'dorp'",
        hint: "did you mean 'drop'?",
      }),
    );
    const bare = await load({ assembly }, { program });
    expect(() => bare.map('jumps').set(0, 'dorp')).toThrow("jumps value: the object has no program 'dorp'");
    expect(() => bare.map('jumps').set(0, 7)).toThrow('jumps value: the name of a program of the object');
    await expect(
      load({ assembly }, { program, maps: { jumps: [{ key: 2, value: 'drop' }] } }),
    ).rejects.toThrow('map jumps has no element 2, its last is 1');
  });
});

it('queues and stacks are pushed to and popped from', async () => {
  const fifo = (type: string) =>
    `.map jobs ${type} key=0 value=4 entries=2\n.program main\nr1 = map[jobs]\nr2 = r10\nr2 += -4\n` +
    '*(u32 *)(r10 -4) = 9\nr3 = 0\ncall bpf_map_push_elem\nr0 = 2\nexit\n';
  for (const [type, taken] of [
    ['queue', [1, 9]],
    ['stack', [9, 1]],
  ] as const) {
    const program = await load({ assembly: fifo(type) });
    const jobs = program.map('jobs');
    expect([jobs.peek(), jobs.pop()]).toEqual([undefined, undefined]);
    jobs.push(1);
    program.run(udp());
    expect(() => jobs.push(2)).toThrow('jobs.push: E2BIG, there is no element beyond max_entries, 2');
    expect([jobs.peek(), jobs.pop(), jobs.pop(), jobs.pop()]).toEqual([taken[0], ...taken, undefined]);
    expect(() => jobs.get(0)).toThrow('has push, pop and peek, and no keys');
  }
});

it('a redirect says where to: the device behind the key, the CPU, the interface', async () => {
  const to = (program: string) => load(`${PROGRAMS}/redirect_kinds.o`, { program, cpus: 3 });
  const device = await to('to_device');
  device.map('tx_hash').set(3, { ifindex: 7 });
  expect(device.map('tx_hash').get(3)).toMatchObject({ ifindex: 7 });
  expect(device.run(udp(), { ingressIfindex: 3 })).toMatchObject({
    verdict: 'XDP_REDIRECT',
    redirect: { map: 'tx_hash', key: 3, ifindex: 7 },
  });
  const cpu = await to('to_cpu');
  cpu.map('cpus').set(2, { qsize: 192 });
  expect(cpu.run(udp(), { rxQueueIndex: 2 }).redirect).toEqual({ map: 'cpus', key: 2, cpu: 2 });
  expect((await to('to_ifindex')).run(udp(), { ingressIfindex: 5 }).redirect).toEqual({ ifindex: 5 });
});

describe('global variables', () => {
  it('are read and assigned by name, and constant ones given before loading', async () => {
    const loaded = await load<unknown, { packets: bigint; min_len: bigint; buckets: number[] }>(
      `${PROGRAMS}/globals.o`,
      { globals: { log_first: 0, drop_short: 1, min_len: 61 } },
    );
    const { globals } = loaded;
    expect(loaded.run(udp()).verdict).toBe('XDP_DROP');
    expect(globals).toMatchObject({ packets: 1n, bytes: 60n, log_first: 0, min_len: 61n, seed: 0x9e3779b9 });
    globals.min_len = 60n;
    expect(loaded.run(udp()).verdict).toBe('XDP_PASS');
    expect(globals.buckets.reduce((sum, count) => sum + count)).toBe(1);
    expect(loaded.traces).toEqual([]);
    await loaded.reset();
    expect(globals).toMatchObject({ packets: 0n, min_len: 61n });
  });

  it('are told by name where there is none, it is constant, or the value does not fit', async () => {
    await expect(load(`${PROGRAMS}/globals.o`, { globals: { min_length: 1 } })).rejects.toMatchObject({
      code: 'map-invalid',
      message: "the object has no global variable 'min_length'",
      hint: expect.stringContaining('min_len') as string,
    });
    const { globals } = await load(`${PROGRAMS}/globals.o`);
    expect(() => void (globals.log_first = 1)).toThrow(
      'variable log_first is constant once the program is loaded',
    );
    expect(() => void (globals.seed = -1)).toThrow('seed: -1 does not fit in 32 unsigned bits');
    expect(() => void (globals.sed = 1)).toThrow(TypeError);
  });

  it('say what was printed of them', async () => {
    const program = await load(`${PROGRAMS}/globals.o`);
    program.run(udp());
    expect(program.traces).toEqual(['packet 0 len 60', 'globals']);
  });
});

describe('loading', () => {
  it('takes a path, a URL, bytes and text', async () => {
    const path = `${PROGRAMS}/xdp1.o`;
    const text = 'r0 = 1\nexit\n';
    for (const source of [
      path,
      new URL(`../../${path}`, import.meta.url),
      await readFile(path),
      { assembly: text },
    ]) {
      expect((await load(source)).run(udp()).verdict).toBe('XDP_DROP');
    }
  });

  it('takes a packet by its layers as well', async () => {
    const program = await load(`${PROGRAMS}/xdp1.o`);
    const eth = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
    program.run({ eth, ipv4: { src: '192.0.2.1', dst: '192.0.2.2', protocol: 47 } });
    expect(program.map('rxcnt').get(47)).toBe(1n);
  });

  it('throws the explanation of a rejection, in words and field by field', async () => {
    const reading = load({ assembly: '.program a\nr2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)\nexit\n' });
    await expect(reading).rejects.toMatchObject({
      name: 'XdpbedError',
      code: 'program-rejected',
      at: { insn: 1 },
      rejection: { code: 'packet-bounds', programName: 'a', registers: ['R2=pkt(r=0)'] },
      message: expect.stringMatching(
        /^a: rejected by abstract[^]*\[packet-bounds\][^]*at insn 1[^]*what would help: compare data \+ 1/,
      ) as string,
    });
  });

  it('says what is wrong with what it was given', async () => {
    await expect(load('no-such.o')).rejects.toMatchObject({
      code: 'file-unreadable',
      message: 'no-such.o: there is no such file',
    });
    await expect(load(`${PROGRAMS}/events.o`)).rejects.toThrow('the object holds 3 XDP programs; name one');
    await expect(load(`${PROGRAMS}/xdp1.o`, { cpus: 65 })).rejects.toThrow(
      'cpus is 65, not an integer from 1 to 64',
    );
    await expect(load(`${PROGRAMS}/xdp1.o`, { executor: 'wsam' })).rejects.toMatchObject({
      code: 'plugin-not-found',
    });
    await expect(
      load(`${PROGRAMS}/xdp1.o`, { maps: { rxcnt: [{ key: 1, value: -1, cpus: {} }] } }),
    ).rejects.toThrow('rxcnt[0]');
    await expect(load(`${PROGRAMS}/xdp1.o`, { maxEntries: { rxct: 4 } })).rejects.toMatchObject({
      hint: "did you mean 'rxcnt'?",
    });
  });

  it('names the maps that there are', async () => {
    const program = await load(`${PROGRAMS}/blocklist.o`);
    expect(() => program.map('blockd')).toThrow(expect.objectContaining({ hint: "did you mean 'blocked'?" }));
    for (const cpu of [1, -1, 0.5, NaN]) {
      expect(() => program.run(udp(), { cpu })).toThrow(`there is no CPU ${cpu}`);
    }
  });

  it('is over with close, once or twice, and with await using', async () => {
    let map;
    {
      await using program = await loadProgram(`${PROGRAMS}/xdp1.o`);
      map = program.map('rxcnt');
      expect(map.get(17)).toBe(0n);
    }
    expect(() => map.get(17)).toThrow('the program is closed');
    const program = await load(`${PROGRAMS}/xdp1.o`);
    await program.close();
    await program.close();
    expect(() => program.run(udp())).toThrow('the program is closed');
  });

  it('keeps what is loaded apart', async () => {
    const programs = await Promise.all(Array.from({ length: 20 }, () => load(`${PROGRAMS}/xdp1.o`)));
    for (const [index, program] of programs.entries()) {
      for (let i = 0; i < index; i++) program.run(udp());
    }
    expect(programs.map((program) => program.map('rxcnt').get(17))).toEqual(
      Array.from({ length: 20 }, (_, index) => BigInt(index)),
    );
  });
});

it.skipIf(noKernel !== '')(`the running kernel has a program load again to be reset${noKernel}`, async () => {
  const program = await load(`${PROGRAMS}/blocklist.o`, {
    executor: 'kernel',
    verifier: ['abstract', 'kernel'],
  });
  program.map('blocked').set({ prefixlen: 24, address: '198.51.100.0' }, 7);
  expect(program.run(udp()).verdict).toBe('XDP_DROP');
  expect(program.map('events').records({ type: 'drop_event' })).toMatchObject([{ rule: 7 }]);
  const values = program.map('counters').get(1) as { packets: bigint }[];
  expect(values.reduce((sum, { packets }) => sum + packets, 0n)).toBe(1n);
  await program.reset();
  expect(program.run(udp()).verdict).toBe('XDP_PASS');
});
