import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readCapture, writePcap } from '../../packet/index.js';
import { runCommandLine } from '../command-line.js';
import { runForTest } from '../testing-terminal.js';

const root = new URL('../../..', import.meta.url).pathname;
const programs = join(root, 'testbeds/programs');
const mixed = join(root, 'testbeds/captures/mixed.pcap');

let folder: string;
let count = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-cases-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A cases file for a program of ours. */
function cases(object: string, text: string): string {
  const file = join(folder, `${++count}.cases.yaml`);
  writeFileSync(file, `object: ${join(programs, object)}\n${text}`);
  return file;
}

/** What failing cases say, without the file's name. */
async function run(
  object: string,
  text: string,
  ...more: string[]
): Promise<{ exit: number; out: string; err: string }> {
  const file = cases(object, text);
  const { exit, out, err } = await runForTest(['prog', 'test', file, ...more]);
  return { exit, out: out.replaceAll(`${file}:`, ''), err: err.replaceAll(`${file}:`, '') };
}

const EXECUTORS = ['interpreter', 'wasm', 'differential'];
const UDP = 'ipv4: { src: 198.51.100.1, dst: 192.0.2.10 }, udp: { srcPort: 4000, dstPort: 53 }';

describe('a blocklist, step by step', () => {
  const SEQUENCE = `cpus: 2
event-types: { events: struct drop_event }
maps: { blocked: [{ key: { prefixlen: 8, address: 10.0.0.0 }, value: 7 }] }
cases:
  - name: blocks, tells and counts by CPU
    packet: { ${UDP}, size: 100 }
    steps:
      - expect: { verdict: XDP_PASS, unchanged: true, events: { events: [] } }
      - name: from a blocked network
        packet: { ipv4: { src: 10.1.2.3, dst: 192.0.2.10 }, udp: { srcPort: 1, dstPort: 2 }, size: 60 }
        context: { cpu: 1 }
        expect:
          verdict: XDP_DROP
          events: { events: [{ source: 10.1.2.3, rule: 7, protocol: 17 }] }
          maps: { counters: [{ key: 1, value: { packets: 1, bytes: 60 } }] }
      - maps: { blocked: [{ key: { prefixlen: 32, address: 198.51.100.1 }, value: 9 }] }
        expect: { verdict: XDP_DROP, events: { events: [{ source: 198.51.100.1, destination: 192.0.2.10, rule: 9 }] } }
    expect:
      verdicts: { XDP_PASS: 1, XDP_DROP: 2 }
      whole-maps:
        blocked:
          - { key: { prefixlen: 8, address: 10.0.0.0 }, value: 7 }
          - { key: { prefixlen: 32, address: 198.51.100.1 }, value: 9 }
        counters:
          - { key: 0, cpus: { 0: { packets: 1, bytes: 100 } } }
          - { key: 1, cpus: { 0: { packets: 1, bytes: 100 }, 1: { packets: 1, bytes: 60 } } }
  - name: and nothing of it is left to the next
    packet: { ${UDP}, size: 100 }
    expect: { verdict: XDP_PASS, whole-maps: { counters: [{ key: 0, cpus: { 0: { packets: 1, bytes: 100 } } }] } }
`;
  it.each(EXECUTORS)('%s', async (executor) => {
    const { exit, out } = await run('blocklist.o', SEQUENCE, '--executor', executor);
    expect(out).toMatch(
      /^✓ blocks, tells and counts by CPU\n✓ and nothing of it is left to the next\n\n2 passed, 0 failed in \d/,
    );
    expect(exit).toBe(0);
  });

  it('tells each thing that is otherwise at its place, by member', async () => {
    const wrong = SEQUENCE.replace('rule: 7, protocol', 'rule: 8, protocol')
      .replace('events: [{ source: 198.51.100.1,', 'events: [{ source: 198.51.100.2,')
      .replace(
        'address: 198.51.100.1 }, value: 9 }\n        counters',
        'address: 198.51.100.9 }, value: 9 }\n        counters',
      )
      .replace('1: { packets: 1, bytes: 60 } }', '1: { packets: 1, bytes: 61 } }')
      .replace('XDP_DROP: 2', 'XDP_DROP: 3')
      .replace('events: []', 'events: [{}]');
    const { exit, out } = await run('blocklist.o', wrong);
    expect(exit).toBe(1);
    expect(out.split('\n').slice(0, 9)).toEqual([
      '✗ blocks, tells and counts by CPU',
      expect.stringMatching(/^ {4}9:\d+: step 1: events\[0\] was not sent$/),
      expect.stringMatching(/^ {4}15:\d+: step 2, from a blocked network: events\[0\]\.rule is 7, not 8$/),
      expect.stringMatching(
        /^ {4}18:\d+: step 3: events\[0\]\.source is 198\.51\.100\.1, not 198\.51\.100\.2$/,
      ),
      '    20:42: 2 packets are XDP_DROP, not 3',
      expect.stringMatching(
        /^ {4}24:13: blocked\[\{ prefixlen: 32, address: 198\.51\.100\.9 \}\] is not there$/,
      ),
      expect.stringMatching(
        /^ {4}\d+:\d+: blocked has \{ key: \{ prefixlen: 32, address: 198\.51\.100\.1 \}, value: 9 \}, which is not expected$/,
      ),
      expect.stringMatching(/^ {4}27:\d+: counters\[1\] of CPU 1\.bytes is 60, not 61$/),
      '✓ and nothing of it is left to the next',
    ]);
  });

  it('an event that is not expected is told with what it says', async () => {
    const { out } = await run(
      'blocklist.o',
      SEQUENCE.replace(
        'events: { events: [{ source: 10.1.2.3, rule: 7, protocol: 17 }] }',
        'events: { events: [] }',
      ),
    );
    expect(out).toContain(
      'events[0] was sent and not expected: { source: 10.1.2.3, destination: 192.0.2.10, rule: 7, protocol: 17, padding: [0, 0, 0] }',
    );
  });
});

describe('a packet by its fields', () => {
  const swapped = (expected: string): Promise<{ exit: number; out: string }> =>
    run(
      'xdp2.o',
      `cases: [{ name: a, packet: { ${UDP}, vlan: [{ id: 5, priority: 3 }], payload: hello }, expect: { packet: { ${expected} } } }]\n`,
    );

  it('only those that are named count', async () => {
    for (const fields of [
      'eth: { src: 02:00:00:00:00:02 }',
      'eth: { dst: 02-00-00-00-00-01, type: 0x800 }',
      'ipv4: { ttl: 64, protocol: 17, dontFragment: false }, udp: { dstPort: 53 }',
      'vlan: [{ id: 5 }], payload: hello, checksums: valid',
      'payload: { bytes: "68 65 6c6c 6f" }, size: 60',
    ]) {
      const { out } = await swapped(fields);
      expect(out, fields).toContain('1 passed');
    }
  });

  it.each([
    ['eth: { src: 02:00:00:00:00:01 }', 'eth.src is 02:00:00:00:00:02, not 02:00:00:00:00:01'],
    ['ipv4: { ttl: 63, src: 198.51.100.2 }', 'ipv4.ttl is 64, not 63'],
    ['ipv4: { ttl: 63, src: 198.51.100.2 }', 'ipv4.src is 198.51.100.1, not 198.51.100.2'],
    ['udp: { dstPort: 54 }', 'udp.dstPort is 53, not 54'],
    ['tcp: { flags: [SYN] }', 'the packet has no tcp header'],
    ['vlan: [{ id: 6, priority: 3 }]', 'vlan[0].id is 5, not 6'],
    ['vlan: []', 'the packet has 1 vlan tags, not 0'],
    ['payload: hallo', 'payload bytes 1..1 are 65, not 61'],
    ['size: 61', 'size is 60, not 61'],
  ])('%s', async (fields, message) => {
    const { exit, out } = await swapped(fields);
    expect(exit).toBe(1);
    expect(out).toMatch(/^ {4}2:\d+: /m);
    expect(out).toContain(message);
  });

  it('tells a checksum that is wrong, and TCP flags whatever their order', async () => {
    const given =
      'ipv4: { src: 1.2.3.4, dst: 1.2.3.5, checksum: 7 }, tcp: { srcPort: 1, dstPort: 2, flags: [SYN, ACK], seq: 5 }';
    const { out } = await run(
      'xdp2.o',
      `cases:
  - { name: a, packet: { ${given} }, expect: { packet: { checksums: valid } } }
  - { name: b, packet: { ${given} }, expect: { packet: { tcp: { flags: [ACK, SYN], seq: 5 } } } }
  - { name: c, packet: { ${given} }, expect: { packet: { tcp: { flags: [ACK] } } } }
  - { name: d, packet: { ipv6: { src: '2001:db8:0:0::1', dst: '::2' }, udp: { srcPort: 1, dstPort: 2 } }, expect: { packet: { ipv6: { src: '2001:DB8::1', hopLimit: 63 } } } }
`,
    );
    expect(out).toMatch(
      /✗ a\n.*ipv4\.checksum is wrong\n✓ b\n✗ c\n.*tcp\.flags is \[ACK, SYN\], not \[ACK\]\n✗ d\n.*ipv6\.hopLimit is 64, not 63\n\n/,
    );
  });
});

describe('tables', () => {
  it('make a case of each row, values and texts', async () => {
    const { exit, out } = await run(
      'xdp1.o',
      `cases:
  - name: ${'${proto}'} is counted under $number
    each:
      - { proto: udp, number: 17, layer: { srcPort: 1, dstPort: 2 }, packets: 1 }
      - { proto: nothing, number: 200, packets: 0 }
    packet: { ${UDP}, payload: $$$proto }
    expect: { maps: { rxcnt: [{ key: $number, value: $packets }] } }
  - name: unnamed
    each: [{ size: 60 }, { size: 64 }]
    packet: { ${UDP}, size: $size }
    expect: { packet: { size: $size }, verdict: XDP_DROP }
`,
    );
    expect(out.split('\n').slice(0, 4)).toEqual([
      '✓ udp is counted under 17',
      '✓ nothing is counted under 200',
      '✓ unnamed #1',
      '✓ unnamed #2',
    ]);
    expect(exit).toBe(0);
  });

  it.each([
    ['{ size: 60, port: 70000 }', 'udp: { srcPort: 1, dstPort: $port }', /^4:\d+: 70000 is out of range/],
    [
      '{ size: 60, port: 1 }',
      'udp: { srcPort: 1, dstPort: $prot }',
      /^5:\d+: the row has no 'prot' \(did you mean '\$port'\?\)/,
    ],
    ['{ size: big, port: 1 }', 'size: $size', /^4:\d+: expected an integer, found 'big'/],
  ])('tell what is wrong in the cell: %s', async (row, packet, message) => {
    const { exit, err } = await run(
      'xdp1.o',
      `cases:
  - name: $port
    each: [${row}]
    packet: { ipv4: { src: 1.1.1.1, dst: 2.2.2.2, protocol: 17 }, ${packet} }
    expect: { verdict: XDP_DROP }
`,
    );
    expect(exit).toBe(2);
    expect(err).toMatch(message);
  });
});

describe('captures', () => {
  it('are input, packet by packet at the time of each, and what is let through is a capture', async () => {
    const text = (expected: string): string => `cases:
  - name: a
    pcap: ${mixed}
    packets: 1,3-4
    expect: { ${expected} }
`;
    const good = await run('xdp1.o', text('verdict: XDP_DROP, verdicts: { XDP_DROP: 3, XDP_PASS: 0 }'));
    expect(good.exit).toBe(0);
    const bad = await run('xdp1.o', text('verdict: XDP_PASS'));
    expect(bad.out.match(/packet \d+: verdict is XDP_DROP, not XDP_PASS/g)).toHaveLength(3);
    expect(bad.out).toContain('packet 4: verdict');
    const passed = join(folder, 'passed.pcap');
    const captured = text(`pcap: ${passed}`);
    const missing = await run('xdp2.o', captured);
    expect([missing.exit, missing.out]).toEqual([
      1,
      expect.stringContaining('6:21: there is no such file; --update writes it'),
    ]);
    const written = await run('xdp2.o', captured, '--update');
    expect(written.out).toContain(`note: written: ${passed}`);
    expect(readCapture(readFileSync(passed)).packets).toHaveLength(3);
    expect((await run('xdp2.o', captured)).exit).toBe(0);
    const { packets } = readCapture(readFileSync(passed));
    packets[1]!.data[0]! ^= 1;
    writeFileSync(passed, writePcap(packets.slice(0, 2)));
    const { out } = await run('xdp2.o', captured);
    expect(out).toMatch(/packet 2 of the capture bytes 0\.\.0 are/);
    expect(out).toContain('3 packets are let through, not 2');
  });

  it('refuse a snapshot or capture that cannot be read, at its place, and take line ends of any kind', async () => {
    const cases = (expected: string): string =>
      `cases: [{ name: a, pcap: ${mixed}, packets: 1, expect: { ${expected} } }]\n`;
    const told = async (expected: string): Promise<string> => {
      const { err, exit } = await run('xdp1.o', cases(expected));
      expect(exit).toBe(2);
      return err;
    };
    const bad = join(folder, 'latin-1.txt');
    writeFileSync(bad, Buffer.from('1 XDP_DROP\xe9\n', 'latin1'));
    expect(await told(`snapshot: ${folder}`)).toMatch(/^2:\d+: cannot read .*EISDIR/);
    expect(await told(`pcap: ${folder}`)).toMatch(/^2:\d+: cannot read .*EISDIR/);
    expect(await told(`snapshot: ${bad}`)).toMatch(/^2:\d+: .*latin-1.txt is not UTF-8/);
    const windows = join(folder, 'windows.txt');
    writeFileSync(windows, '1 XDP_DROP\r\n');
    expect((await run('xdp1.o', cases(`snapshot: ${windows}`))).exit).toBe(0);
  });

  it('have the verdict of each packet as a snapshot', async () => {
    const snapshot = join(folder, 'verdicts.txt');
    const text = `cases: [{ name: a, pcap: ${mixed}, context: { ingress-ifindex: 3 }, expect: { snapshot: ${snapshot} } }]\n`;
    const test = (...more: string[]) => run('redirect_kinds.o', `program: to_ifindex\n${text}`, ...more);
    expect((await test()).exit).toBe(1);
    expect((await test('--update')).exit).toBe(0);
    expect(readFileSync(snapshot, 'utf8').split('\n').slice(0, 2)).toEqual([
      '1 XDP_REDIRECT to ifindex 3',
      '2 XDP_REDIRECT to ifindex 3',
    ]);
    expect((await test()).exit).toBe(0);
    writeFileSync(snapshot, readFileSync(snapshot, 'utf8').replace('2 XDP_REDIRECT', '2 XDP_PASS'));
    const { exit, out } = await test();
    expect(exit).toBe(1);
    expect(out).toContain("line 2 is '2 XDP_REDIRECT to ifindex 3', not '2 XDP_PASS to ifindex 3'");
  });

  it('run on where one packet is too long for the program, which is told by its number', async () => {
    const { packets } = readCapture(readFileSync(mixed));
    const jumbo = join(folder, 'jumbo.pcap');
    writeFileSync(jumbo, writePcap([packets[0]!, { data: new Uint8Array(9000) }, packets[1]!]));
    const text = `cases: [{ name: a, pcap: ${jumbo}, expect: { verdicts: { XDP_DROP: 2 } } }]\n`;
    const { exit, out } = await run('xdp1.o', text);
    expect(out).toMatch(
      /^✗ a\n {4}2:9: packet 2 is not run: a frame of 9000 bytes exceeds the limit of 3520 \(only programs in a section xdp\.frags .*\)\n\n/,
    );
    expect(exit).toBe(1);
    expect(
      (await run('redirect_kinds.o', `program: count_frags\n${text.replace('XDP_DROP: 2', 'XDP_PASS: 3')}`))
        .exit,
    ).toBe(0);
  });

  it('say what is missing of packets that were cut, and whether a file is whole', async () => {
    const [packet] = readCapture(readFileSync(mixed)).packets;
    const cut = join(folder, 'cut.pcap');
    writeFileSync(cut, writePcap([{ data: packet!.data.subarray(0, 34), originalLength: 60 }]));
    const text = `cases: [{ name: a, pcap: ${cut}, expect: { verdict: XDP_DROP } }]\n`;
    const { exit, out } = await run('xdp1.o', text);
    expect(out).toContain('    note: packet 1: the capture has 34 of its 60 bytes\n');
    expect(exit).toBe(0);
    writeFileSync(cut, readFileSync(cut).subarray(0, 50));
    const spoilt = await run('xdp1.o', text);
    expect(spoilt.exit).toBe(2);
    expect(spoilt.err).toMatch(/^2:26: .*cut\.pcap: packet 1 needs 34 bytes, 10 are left/);
  });
});

describe('what a program finds', () => {
  it.each(EXECUTORS)('the random number and the time that it is given (%s)', async (executor) => {
    const object = join(folder, 'draws.s');
    writeFileSync(
      object,
      `.license GPL
.program draws
  r6 = r1
  call bpf_get_prandom_u32
  if r0 == 12345 goto next
  r0 = 1
  exit
next:
  call bpf_ktime_get_ns
  if r0 == 99 goto right
  r0 = 1
  exit
right:
  r0 = 2
  exit
`,
    );
    const file = join(folder, 'draws.cases.yaml');
    writeFileSync(
      file,
      `object: draws.s
cases:
  - name: given
    random: 12345
    time: 99
    packet: { hex: '${'00 '.repeat(14)}' }
    steps: [{ expect: { verdict: XDP_PASS } }, { random: 5, expect: { verdict: XDP_DROP } }, { time: 98, expect: { verdict: XDP_DROP } }]
`,
    );
    const { out } = await runForTest(['prog', 'test', file, '--executor', executor]);
    expect(out).toContain('1 passed, 0 failed');
  });

  it.each(EXECUTORS)(
    'the random numbers that it is given, anew for each run of a packet (%s)',
    async (executor) => {
      writeFileSync(
        join(folder, 'rolls.s'),
        `.license GPL
.map rolls array key=4 value=8 entries=1
.program rolls
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[rolls]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r6 = r0
  r7 = *(u64 *)(r6 +0)
  call bpf_get_prandom_u32
  r7 += r0
  call bpf_get_prandom_u32
  r7 *= 10
  r7 += r0
  *(u64 *)(r6 +0) = r7
out:
  r0 = 2
  exit
`,
      );
      const file = join(folder, 'rolls.cases.yaml');
      writeFileSync(
        file,
        `object: rolls.s
cases: [{ name: a, packet: { hex: '${'00 '.repeat(14)}' }, random: [5, 1], repeat: 2, expect: { maps: { rolls: [{ key: 0, value: 561 }] } } }]
`,
      );
      // (0 + 5) * 10 + 1, then (51 + 5) * 10 + 1.
      const { out } = await runForTest(['prog', 'test', file, '--executor', executor]);
      expect(out).toContain('1 passed, 0 failed');
    },
  );

  it.each(EXECUTORS)('the programs and maps that its maps are given, by name (%s)', async (executor) => {
    const chain = `program: tail_entry
cases:
  - name: from the first stage to the last
    packet: { hex: '525400000100 525400ff0001 88b5' }
    maps: { stages: [{ key: 0, value: stage3 }] }
    expect:
      maps: { visits: [{ key: 1, value: 0 }, { key: 3, value: 1 }, { key: 4, value: 1 }] }
      whole-maps:
        stages: [{ key: 0, value: stage3 }, { key: 1, value: stage2 }, { key: 2, value: stage3 }, { key: 3, value: stage4 }]
`;
    const passed = await run('tail_chain.o', chain, '--executor', executor);
    expect(passed.out).toContain('1 passed, 0 failed');
    const { out } = await run(
      'tail_chain.o',
      chain.replace('value: stage2', 'value: stage1'),
      '--executor',
      executor,
    );
    expect(out).toContain('stages[1] is stage2, not stage1');

    const families = `cases:
  - name: another map for each step
    packet: { ipv4: { src: 198.51.100.1, dst: 192.0.2.10 }, udp: { srcPort: 4000, dstPort: 53 } }
    steps:
      - maps: { by_family: [{ key: 0, value: counts_v6 }] }
        expect: { maps: { counts_v6: [{ key: 17, value: 1 }], counts_v4: [{ key: 17, value: 0 }] } }
      - maps: { by_family: [{ key: 0, value: counts_v4 }] }
        expect: { maps: { counts_v6: [{ key: 17, value: 1 }], counts_v4: [{ key: 17, value: 1 }] } }
    expect: { whole-maps: { by_family: [{ key: 0, value: counts_v4 }, { key: 2, value: counts_v6 }] } }
`;
    expect((await run('map_in_map.o', families, '--executor', executor)).out).toContain('1 passed, 0 failed');
  });

  it('the socket of an XSKMAP', async () => {
    const text = (socket: number): string => `program: to_socket
maps: { xsks: [{ key: 2, value: 11 }] }
cases: [{ name: a, packet: { hex: '525400000100 525400ff0001 88b5' }, context: { rx-queue-index: 2 }, expect: { redirect: { map: xsks, key: 2, socket: ${socket} } } }]
`;
    expect((await run('redirect_kinds.o', text(11))).exit).toBe(0);
    const { out } = await run('redirect_kinds.o', text(12));
    expect(out).toContain('redirect goes to xsks[2] (socket 11): its socket is 11, not 12');
  });
});

describe('what is wrong in a cases file', () => {
  it('is a byte that is no UTF-8, at its place', async () => {
    const file = join(folder, 'latin1.cases.yaml');
    // 11 characters are in front of it in the second line.
    writeFileSync(file, Buffer.from('cases:\n- name: caf\u00e9\n', 'latin1'));
    const { exit, err } = await runForTest(['prog', 'test', file]);
    expect(err).toBe(`${file}:2:12: the file is not UTF-8: byte 0xe9 (save it as UTF-8)\n1 problem\n`);
    expect(exit).toBe(2);
  });

  const one = (rest: string): string => `cases:\n  - name: a\n    packet: { ${UDP} }\n    ${rest}\n`;
  it.each([
    [
      one('expect: { maps: { countres: [] } }'),
      /^5:23: the object has no map 'countres' \(did you mean 'counters'\?\)/,
    ],
    [
      one('expect: { maps: { counters: [{ key: 0, value: { packet: 1 } }] } }'),
      /^5:\d+: counters\[0\]\.value\.packet: there is no member packet, but packets, bytes \(did you mean 'packets'\?\)/,
    ],
    [
      one(
        'maps: { blocked: [{ key: { prefixlen: 300000000000 }, value: 1 }] }\n    expect: { verdict: XDP_PASS }',
      ),
      /^5:\d+: blocked\[0\]\.key\.prefixlen: 300000000000 does not fit in 32 unsigned bits/,
    ],
    [
      one('expect: { maps: { counters: [{ key: 0, cpus: { 3: {} } }] } }'),
      /^5:\d+: counters\[0\]\.cpus: there is no CPU 3; there are 0 to 0 \(set 'cpus' of the file\)/,
    ],
    [
      one('expect: { events: { counters: [] } }'),
      /^5:\d+: counters is a BPF_MAP_TYPE_PERCPU_ARRAY: only ring buffers/,
    ],
    [
      one('expect: { events: { events: [{ a: 1 }] } }'),
      /^5:\d+: events\[0\]: what events sends has no type \(name its type in 'event-types'/,
    ],
    [
      `event-types: { events: drop_evnt }\n${one('expect: { events: { events: [] } }')}`,
      /^2:\d+: the object's BTF has no type 'drop_evnt' \(did you mean 'drop_event'\?\)/,
    ],
    [
      `event-types: { events: drop_event }\n${one('expect: { events: { events: [{ sorce: 1 }] } }')}`,
      /^6:\d+: events\[0\]\.sorce: there is no member sorce.*did you mean 'source'/,
    ],
    [
      one('expect: { maps: { events: [] } }'),
      /^5:\d+: events has no keys \(expect what is sent through it as 'events'\)/,
    ],
    [one('expect: { packet: { ipv4: { src: 10.0.0 } } }'), /^5:\d+: "10\.0\.0" is not an IPv4 address/],
    [one('expect: { redirect: { map: block } }'), /^5:\d+: the object has no map 'block'/],
    [one('context: { cpu: 1 }\n    expect: { verdict: XDP_PASS }'), /^5:\d+: there is no CPU 1: cpus is 1/],
    [one('random: []\n    expect: { verdict: XDP_PASS }'), /^5:\d+: at least 1 needed in cases\.0\.random/],
    [
      one(`random: [${'1, '.repeat(64)}1]\n    expect: { verdict: XDP_PASS }`),
      /^5:13: must NOT have more than 64 items/,
    ],
    [one('random: [1, -1]\n    expect: { verdict: XDP_PASS }'), /^5:17: -1 is out of range/],
    [
      one('random: some\n    expect: { verdict: XDP_PASS }'),
      /^5:13: expected an integer or an array, found 'some'/,
    ],
    [one('pcap: x.pcap\n    expect: { verdict: XDP_PASS }'), /^5:5: there is a 'packet' already/],
    [one(''), /^3:5: 'expect' is missing/],
    [one('steps: [{ name: b }]'), /^3:5: 'expect' is missing/],
    [
      `${one('expect: { verdict: XDP_PASS }')}  - name: a\n    packet: { ${UDP} }\n    expect: { verdict: XDP_PASS }\n`,
      /^6:11: there is a case 'a' already, in line 3/,
    ],
    [
      one('steps: [{ expect: { verdict: XDP_PASS } }]\n    expect: { unchanged: true }'),
      /^6:\d+: 'unchanged' is expected of a step/,
    ],
    [one('packets: 3\n    expect: { verdict: XDP_PASS }'), /^5:\d+: 'packets' are those of a 'pcap'/],
    [
      `cases: [{ name: a, pcap: ${mixed}, packets: 9-11, expect: { verdict: XDP_PASS } }]\n`,
      /^2:\d+: .*mixed\.pcap: it holds packets 1 to 10, not 9-11/,
    ],
    [
      `cases: [{ name: a, pcap: none.pcap, expect: { verdict: XDP_PASS } }]\n`,
      /^2:\d+: cannot read .*none\.pcap/,
    ],
    [
      one('program: blocklost\n    expect: { verdict: XDP_PASS }'),
      /^5:14: the object has no program or section 'blocklost' \(did you mean 'blocklist'\?\)/,
    ],
    [
      one('max-entries: { blocket: 1 }\n    expect: { verdict: XDP_PASS }'),
      /^5:\d+: the object has no map 'blocket'/,
    ],
  ])('is told at its place (%#)', async (text, message) => {
    const { exit, err } = await run('blocklist.o', text);
    expect(err).toMatch(message);
    expect(exit).toBe(2);
  });

  it('is told all at once', async () => {
    const { err } = await run(
      'blocklist.o',
      one('expect: { maps: { countres: [], blocket: [] }, redirect: { map: x } }'),
    );
    expect(err).toContain('3 problems\n');
  });

  it('is an object that is not there, or not named', async () => {
    const file = join(folder, 'none.cases.yaml');
    writeFileSync(file, `object: none.o\n${one('expect: { verdict: XDP_PASS }')}`);
    const missing = await runForTest(['prog', 'test', file]);
    expect([missing.exit, missing.err]).toEqual([
      2,
      `${file}:1:9: none.o: there is no such file\n1 problem\n`,
    ]);
    writeFileSync(file, one('expect: { verdict: XDP_PASS }'));
    const unnamed = await runForTest(['prog', 'test', file]);
    expect(unnamed.err).toContain(
      ":1:1: no object is named (set 'object', or give it in front of the cases)",
    );
  });
});

describe('the tool', () => {
  const passing =
    'cases: [{ name: drops it, packet: { hex: "000000000000 000000000000 0800" }, expect: { verdict: XDP_DROP } }]\n';
  const place = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  beforeAll(() => {
    const object = `object: ${join(programs, 'xdp1.o')}\n`;
    place('tree/a.cases.yaml', object + passing);
    place('tree/sub/b.cases.yaml', object + passing.replace('XDP_DROP', 'XDP_PASS'));
    place('tree/sub/c.cases.yaml', object + passing.replace('drops it', 'drops another'));
    place('tree/other.yaml', 'x: 1\n');
  });
  const tree = (...args: string[]) =>
    runForTest(['prog', 'test', ...args.map((arg) => arg.replace('TREE', join(folder, 'tree')))]);
  const files = (out: string): string[] =>
    [...out.matchAll(/^(\S+\.yaml):$/gm)].map(([, file]) => file!.replace(`${join(folder, 'tree')}/`, ''));

  it.each([
    [['TREE'], ['a.cases.yaml', 'sub/b.cases.yaml', 'sub/c.cases.yaml']],
    [['TREE/**/*.cases.yaml'], ['a.cases.yaml', 'sub/b.cases.yaml', 'sub/c.cases.yaml']],
    [['TREE/sub/?.cases.yaml'], ['sub/b.cases.yaml', 'sub/c.cases.yaml']],
    [
      ['TREE/sub/c.cases.yaml', 'TREE/a.cases.yaml', 'TREE/sub'],
      ['sub/c.cases.yaml', 'a.cases.yaml', 'sub/b.cases.yaml'],
    ],
  ])('takes %j', async (args, found) => {
    const { exit, out } = await tree(...args);
    expect(files(out)).toEqual(found);
    expect(exit).toBe(1);
  });

  it('takes one object for all, as an option or in front', async () => {
    for (const args of [
      ['--object', join(programs, 'pass.o'), 'TREE'],
      [join(programs, 'pass.o'), 'TREE'],
    ]) {
      const { out } = await tree(...args);
      expect(out).toContain('1 passed, 2 failed');
      expect(out).toContain('verdict is XDP_PASS, not XDP_DROP');
    }
  });

  it('runs what is asked for', async () => {
    const one = await tree('TREE', '--filter', 'another');
    expect(one.out).toContain('1 passed, 0 failed');
    const none = await tree('TREE', '--filter', 'nothing');
    expect([none.exit, none.err]).toEqual([2, expect.stringContaining("no case has 'nothing' in its name")]);
    const first = await tree('TREE', '--bail');
    expect(files(first.out)).toEqual(['a.cases.yaml', 'sub/b.cases.yaml']);
    expect(first.exit).toBe(1);
    const nowhere = await tree('TREE/*.none');
    expect([nowhere.exit, nowhere.err]).toEqual([
      2,
      expect.stringContaining('there are no such cases files'),
    ]);
  });

  it('runs the sound files and tells what is wrong in others', async () => {
    const { exit, out, err } = await tree('TREE/sub/c.cases.yaml', 'TREE/other.yaml');
    expect(out).toContain('1 passed, 0 failed');
    expect(err).toContain("other.yaml:1:1: unknown key 'x'");
    expect(exit).toBe(2);
  });

  it('prints TAP and JSON', async () => {
    const tap = await tree('TREE', '--format', 'tap');
    expect(tap.out.replaceAll(`${join(folder, 'tree')}/`, '')).toBe(`TAP version 14
1..3
ok 1 - a.cases.yaml: drops it
not ok 2 - sub/b.cases.yaml: drops it
  ---
  problems:
    - "sub/b.cases.yaml:2:97: verdict is XDP_DROP, not XDP_PASS"
  ...
ok 3 - sub/c.cases.yaml: drops another
`);
    const json = await tree('TREE', '--format', 'json');
    expect(JSON.parse(json.out)).toMatchObject({
      schema: 'xdpbed.prog-test/1',
      passed: 2,
      failed: 1,
      files: [
        { cases: [{ name: 'drops it', line: 2, passed: true, problems: [] }] },
        { cases: [{ passed: false, problems: [{ line: 2, message: 'verdict is XDP_DROP, not XDP_PASS' }] }] },
        { object: join(programs, 'xdp1.o') },
      ],
    });
  });
});

describe('--watch', () => {
  it('builds and tests again when a file changes, whatever is wrong meanwhile, and ends with an interruption', async () => {
    const source = join(folder, 'watched.s');
    const object = join(folder, 'built.s');
    const file = join(folder, 'watched.cases.yaml');
    const text = (verdict: string): string =>
      `object: built.s\ncases: [{ name: a, packet: { hex: '${'00'.repeat(14)}' }, expect: { verdict: ${verdict} } }]\n`;
    writeFileSync(source, 'r0 = 2\nexit\n');
    writeFileSync(file, text('XDP_PASS'));
    let [out, err] = ['', ''];
    const controller = new AbortController();
    const terminal = {
      out: (more: string) => void (out += more),
      err: (more: string) => void (err += more),
      input: () => Promise.resolve(''),
      color: false,
      interactive: false,
    };
    const build = `cp ${source} ${object}; echo built`;
    const exit = runCommandLine(['prog', 'test', file, '--watch', '--build', build], terminal, {
      listen: () => undefined,
      signal: () => controller.signal,
    });
    const round = async (count: number, last: string): Promise<void> => {
      await vi.waitFor(() => expect(err.match(/waiting for changes/g) ?? []).toHaveLength(count), {
        timeout: 20_000,
      });
      expect(out + err).toContain(last);
    };
    try {
      await round(1, '1 passed, 0 failed');
      expect(err).toContain('built\n');
      writeFileSync(file, text('XDP_DROP'));
      await round(2, 'verdict is XDP_PASS, not XDP_DROP');
      writeFileSync(file, text('XDP_DROPS'));
      await round(3, "'XDP_DROPS' is not one of");
      writeFileSync(file, text('XDP_TX'));
      await round(4, 'verdict is XDP_PASS, not XDP_TX');
    } finally {
      controller.abort();
    }
    const aborted = performance.now();
    expect(await exit).toBe(130);
    expect(performance.now() - aborted).toBeLessThan(5000);
  }, 60_000);

  it('--build is for it', async () => {
    const { exit, err } = await runForTest(['prog', 'test', 'x.cases.yaml', '--build', 'make']);
    expect([exit, err]).toEqual([2, expect.stringContaining('--build is for --watch')]);
  });
});
