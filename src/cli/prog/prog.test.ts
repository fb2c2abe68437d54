import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readCapture, writePcap, writePcapng } from '../../packet/index.js';
import { probeBpf } from '../../linux/bpf-probe.js';
import type { Verification } from '../../core/contract/verifier.js';
import { runForTest } from '../testing-terminal.js';

const root = new URL('../../..', import.meta.url).pathname;
const programs = join(root, 'testbeds/programs');
const mixed = join(root, 'testbeds/captures/mixed.pcap');
/** Where Debian's xdp-tools and libxdp1 put their objects. */
const debian = ['/usr/lib/x86_64-linux-gnu/bpf', '/usr/lib/aarch64-linux-gnu/bpf'].find((place) =>
  existsSync(place),
);
const debianObjects = debian === undefined ? [] : readdirSync(debian).filter((name) => name.endsWith('.o'));
const ours = readdirSync(programs).filter((name) => name.endsWith('.o'));

const prog = (...args: string[]) => runForTest(['prog', ...args]);

const probe = probeBpf();
const noKernel = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-prog-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('prog info and prog disasm', () => {
  it.each(ours)('read our own %s, every program of it', async (name) => {
    const path = join(programs, name);
    const info = JSON.parse((await prog('info', path, '--format', 'json')).out) as {
      programs: { name: string; insns: number; unsupported?: string }[];
    };
    expect(info.programs.length).toBeGreaterThan(0);
    const listing = await prog('disasm', path);
    expect(listing.exit).toBe(0);
    for (const program of info.programs) {
      expect(program.unsupported).toBeUndefined();
      expect(listing.out).toContain(`${program.name} (section`);
    }
  });

  describe.skipIf(debian === undefined)(
    `objects of Debian${debian === undefined ? ' (skipped: xdp-tools and libxdp1 are not installed)' : ''}`,
    () => {
      it.each(debianObjects)('%s', async (name) => {
        const path = join(debian!, name);
        const info = await prog('info', path, '--format', 'json');
        expect(info.exit).toBe(0);
        expect((JSON.parse(info.out) as { programs: unknown[] }).programs.length).toBeGreaterThan(0);
        expect((await prog('disasm', path)).exit).toBe(0);
      });

      it.each(debianObjects.filter((name) => /^(xdpfilt|xsk|xdpdump_xdp)/.test(name)))(
        '%s runs on a capture',
        async (name) => {
          const { exit, out } = await prog('run', join(debian!, name), '--pcap', mixed, '--quiet');
          expect(exit).toBe(0);
          expect(out).toMatch(/^10 packets: /);
          expect(out).not.toContain('XDP_ABORTED');
        },
      );
    },
  );

  it('shows maps with their types, and what a map of maps holds', async () => {
    const { out } = await prog('info', join(programs, 'map_in_map.o'));
    expect(out).toContain('by_family  BPF_MAP_TYPE_ARRAY_OF_MAPS  key 4 B (__u32)  value 4 B  max_entries 4');
    expect(out).toContain('holds BPF_MAP_TYPE_ARRAY');
  });
});

describe('prog run', () => {
  it('counts what the capture holds', async () => {
    const { exit, out } = await prog('run', join(programs, 'xdp1.o'), '--pcap', mixed, '--format', 'json');
    expect(exit).toBe(0);
    const report = JSON.parse(out) as {
      packets: { verdict: string }[];
      maps: { name: string; entries: { text: string }[] }[];
    };
    expect(report.packets.map((packet) => packet.verdict)).toEqual(Array<string>(10).fill('XDP_DROP'));
    // The capture: one ARP (counted as 0), one ICMP, three TCP, five UDP.
    expect(report.maps[0]!.entries.map(({ text }) => text)).toEqual([
      '{ key: 0, value: 1 }',
      '{ key: 1, value: 1 }',
      '{ key: 6, value: 3 }',
      '{ key: 17, value: 5 }',
    ]);
  });

  it('writes a capture of what was let through, which others read', async () => {
    const file = join(folder, 'out.pcap');
    const { exit } = await prog(
      'run',
      join(programs, 'xdp2.o'),
      '--pcap',
      mixed,
      '--pcap-out',
      file,
      '--quiet',
    );
    expect(exit).toBe(0);
    const [before, after] = [mixed, file].map((path) => readCapture(readFileSync(path)).packets);
    expect(after).toHaveLength(10);
    after!.forEach((packet, index) => {
      const sent = before![index]!;
      expect(packet.timestampNs).toBe(sent.timestampNs);
      expect([...packet.data.subarray(0, 6)]).toEqual([...sent.data.subarray(6, 12)]);
      expect([...packet.data.subarray(6, 12)]).toEqual([...sent.data.subarray(0, 6)]);
      expect([...packet.data.subarray(12)]).toEqual([...sent.data.subarray(12)]);
    });
    if (commandExists('tcpdump')) {
      const text = execFileSync('tcpdump', ['-nr', file], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
      expect(text.trim().split('\n')).toHaveLength(10);
    }
  });

  describe('of several captures', () => {
    /** Two packets, as pcapng; and three, the last of them cut off in the file, as pcap. */
    function twoCaptures(): [string, string] {
      const packets = readCapture(readFileSync(mixed)).packets;
      const [first, second] = [join(folder, 'first.pcapng'), join(folder, 'second.pcap')];
      writeFileSync(first, writePcapng(packets.slice(0, 2)));
      const bytes = writePcap(packets.slice(2, 5), { resolution: 'ns' });
      writeFileSync(second, bytes.subarray(0, bytes.length - 1));
      return [first, second];
    }

    const run = (...args: string[]) => prog('run', join(programs, 'xdp1.o'), ...args);

    it('runs them one after the other on the same maps, each counted from 1 under its name', async () => {
      const [first, second] = twoCaptures();
      const { exit, out, err } = await run('--pcap', first, '--pcap', second, '--pcap', first);
      expect(exit).toBe(2);
      expect(err).toContain(`xdpbed: ${second}+0x`);
      expect(err).toContain('packet 3 needs');
      const [head, ...captures] = out.split(/^(?=.*pcap(?:ng)?:$)/m);
      const told = [head!, ...captures].map((text) => text.trimEnd().split('\n'));
      expect(told.map((lines) => lines[0])).toEqual([`${first}:`, `${second}:`, `${first}:`]);
      for (const lines of told) {
        expect(lines.slice(1, 4).map((line) => line.trim().split(/ +/)[0])).toEqual(['1', '2', '2']);
        expect(lines[3]).toBe('2 packets: XDP_DROP 2');
      }
      expect(out).toContain('\ntogether:\n6 packets: XDP_DROP 6\n');
      // What the maps hold adds up over all of them: the same as of the packets in one capture.
      const one = join(folder, 'one.pcap');
      const { packets } = readCapture(readFileSync(mixed));
      writeFileSync(one, writePcap([0, 1, 2, 3, 0, 1].map((index) => packets[index]!)));
      const maps = (text: string): string => text.slice(text.indexOf('\nmaps:'));
      expect(maps(out)).toBe(maps((await run('--pcap', one)).out));
    });

    it('names file and number of each packet in JSON, and writes all that was let through', async () => {
      const [first, second] = twoCaptures();
      const passed = join(folder, 'passed.pcap');
      const args = ['--pcap', first, '--pcap', second, '--pcap-out', passed, '--format', 'json'];
      const { out } = await prog('run', join(programs, 'xdp2.o'), ...args);
      const report = JSON.parse(out) as { packets: { file: string; number: number }[] };
      expect(report.packets.map(({ file, number }) => [file, number])).toEqual([
        [first, 1],
        [first, 2],
        [second, 1],
        [second, 2],
      ]);
      expect(readCapture(readFileSync(passed)).packets).toHaveLength(4);
    });

    it('runs none when one of them cannot be read, and tells of each that is cut off', async () => {
      const [first, second] = twoCaptures();
      const missing = await run('--pcap', first, '--pcap', join(folder, 'missing.pcap'));
      expect([missing.exit, missing.out]).toEqual([2, '']);
      const twice = await run('--pcap', second, '--pcap', second, '--quiet');
      expect(twice.exit).toBe(2);
      expect(twice.err.match(/packet 3 needs/g)).toHaveLength(2);
      expect((await run('--pcap', first, '--pcap', mixed, '--quiet')).exit).toBe(0);
    });
  });

  it('a program that drops everything writes an empty capture', async () => {
    const file = join(folder, 'none.pcap');
    await prog('run', join(programs, 'xdp1.o'), '--pcap', mixed, '--pcap-out', file, '--quiet');
    expect(readCapture(readFileSync(file)).packets).toEqual([]);
  });

  it('takes a program for XDP whose section does not say what it is, when told so', async () => {
    const object = join(root, 'src/bpf/elf/fixtures/legacy_maps.o');
    const run = (...words: string[]): ReturnType<typeof prog> =>
      prog('run', object, '--program', 'unnamed_kind', '--pcap', mixed, '--quiet', ...words);
    const refused = await run();
    expect(refused.exit).toBe(2);
    expect(refused.err).toContain('--type xdp');
    const { exit, out } = await run('--type', 'xdp');
    expect(exit).toBe(0);
    expect(out).toContain('10 packets: XDP_DROP 10');
    expect((await run('--type', 'tc')).exit).toBe(2);
  });

  describe('of a capture that is not all sound', () => {
    let file: string;
    beforeEach(() => {
      file = join(folder, 'unsound.pcap');
    });
    // Minimal IPv4 over UDP, so that xdp1 counts it under 17.
    const udp = new Uint8Array(60);
    udp.set([0x08, 0x00, 0x45], 12);
    udp[23] = 17;

    it('runs the whole packets of one that was cut off, then says where', async () => {
      writeFileSync(file, writePcap([{ data: udp }, { data: udp }, { data: udp }]).subarray(0, -1));
      const { exit, out, err } = await prog('run', join(programs, 'xdp1.o'), '--pcap', file);
      expect(exit).toBe(2);
      expect(out).toContain('2 packets: XDP_DROP 2');
      expect(out).toContain('- { key: 17, value: 2 }');
      // Header 24, two records of 16 + 60, record header 16.
      expect(err).toContain(`${file}+0xc0: packet 3 needs 60 bytes, 59 are left`);
      expect(err).toContain('the 2 packets before it are whole');
    });

    it('says which packets the capture cut, and how long they were', async () => {
      writeFileSync(file, writePcap([{ data: udp }, { data: udp.subarray(0, 34), originalLength: 60 }]));
      const passed = join(folder, 'passed.pcap');
      const run = (...words: string[]): ReturnType<typeof prog> =>
        prog('run', join(programs, 'xdp2.o'), '--pcap', file, ...words);
      const text = await run('--pcap-out', passed);
      expect(text.exit).toBe(0);
      expect(text.out).toMatch(/^ +1 {2}XDP_TX +60 B/m);
      expect(text.out).toMatch(/^ +2 {2}XDP_TX +34 of 60 B/m);
      expect(text.out).toContain('cut short by the capture: 1');
      const { packets } = JSON.parse((await run('--format', 'json')).out) as {
        packets: { length: number; originalLength: number }[];
      };
      expect(packets.map(({ length, originalLength }) => [length, originalLength])).toEqual([
        [60, 60],
        [34, 60],
      ]);
      expect(readCapture(readFileSync(passed)).packets.map((packet) => packet.originalLength)).toEqual([
        60, 60,
      ]);
    });

    it('tells the packet that is too long, and runs the others', async () => {
      writeFileSync(file, writePcap([{ data: udp }, { data: new Uint8Array(9000) }, { data: udp }]));
      const { exit, out } = await prog('run', join(programs, 'xdp1.o'), '--pcap', file, '--quiet');
      expect(exit).toBe(2);
      expect(out).toMatch(/^ +2 {2}not run +9000 B {2}longer than the 3520 bytes/m);
      expect(out).toContain('3 packets: XDP_DROP 2, not run 1');
      expect(out).toContain('- { key: 17, value: 2 }');
      const json = await prog('run', join(programs, 'xdp1.o'), '--pcap', file, '--format', 'json');
      expect((JSON.parse(json.out) as { packets: object[] }).packets[1]).toEqual({
        file: join(folder, 'unsound.pcap'),
        number: 2,
        notRun: 'longer than the 3520 bytes of an XDP frame in one page, and the program is not in xdp.frags',
        length: 9000,
        originalLength: 9000,
      });
    });
  });

  describe('frames in several buffers', () => {
    /** Swaps what lies over the end of the linear part, cuts 4 bytes off, returns XDP_TX if the frame has 9000. */
    const swap = `.program swap frags
  r6 = r1
  call bpf_xdp_get_buff_len
  if r0 != 9000 goto drop
  *(u64 *)(r10 -8) = 0
  r1 = r6
  r2 = 3516
  r3 = r10
  r3 += -8
  r4 = 8
  call bpf_xdp_load_bytes
  r1 = *(u64 *)(r10 -8)
  r1 = be64 r1
  *(u64 *)(r10 -8) = r1
  r1 = r6
  r2 = 3516
  r3 = r10
  r3 += -8
  r4 = 8
  call bpf_xdp_store_bytes
  r1 = r6
  r2 = -4
  call bpf_xdp_adjust_tail
  r0 = 3
  exit
drop:
  r0 = 1
  exit
`;
    const jumbo = Uint8Array.from({ length: 9000 }, (_, i) => (i ^ ((i >> 8) * 31)) & 0xff);
    const expected = jumbo.slice(0, 8996);
    expected.set(jumbo.slice(3516, 3524).reverse(), 3516);
    let [program, capture] = ['', ''];
    beforeAll(() => {
      [program, capture] = [join(folder, 'swap.s'), join(folder, 'jumbo.pcap')];
      writeFileSync(program, swap);
      writeFileSync(capture, writePcap([{ data: jumbo }, { data: jumbo.slice(0, 60) }]));
    });

    it.each(['interpreter', 'wasm', 'differential'])('prog run: executor %s', async (executor) => {
      const passed = join(folder, 'swapped.pcap');
      const args = ['run', program, '--pcap', capture, '--executor', executor, '--pcap-out', passed];
      const { exit, out } = await prog(...args);
      expect(exit).toBe(0);
      expect(out).toMatch(/^ +1 {2}XDP_TX +9000 B {2}now 8996 B; bytes 3516\.\.3523, 8996\.\.8999 changed$/m);
      expect(out).toMatch(/^ +2 {2}XDP_DROP +60 B$/m);
      const [packet] = readCapture(readFileSync(passed)).packets;
      expect(Buffer.compare(packet!.data, expected)).toBe(0);
    });

    it('prog run: says how much is too long', async () => {
      const giant = join(folder, 'giant.pcap');
      writeFileSync(giant, writePcap([{ data: new Uint8Array(73_153) }, { data: new Uint8Array(73_152) }]));
      const { exit, out } = await prog('run', program, '--pcap', giant);
      expect(exit).toBe(2);
      expect(out).toMatch(
        /^ +1 {2}not run +73153 B {2}longer than the 73152 bytes of an XDP frame in 18 pages$/m,
      );
      expect(out).toMatch(/^ +2 {2}XDP_DROP +73152 B$/m);
    });

    it('prog test: a case, and one for a program that takes one page', async () => {
      const file = join(folder, 'jumbo.cases.yaml');
      const long =
        'packet: { eth: { src: 52:54:00:ff:00:01, dst: 52:54:00:00:01:00, type: 0x88b5 }, size: 9000 }';
      writeFileSync(file, `cases:\n  - name: long\n    ${long}\n    expect: { verdict: XDP_TX }\n`);
      expect(await prog('test', program, file)).toMatchObject({ exit: 0 });
      const { exit, out } = await prog('test', join(programs, 'xdp1.o'), file);
      expect(exit).toBe(1);
      expect(out).toContain(
        'a frame of 9000 bytes exceeds the limit of 3520 (only programs in a section xdp.frags',
      );
    });

    it('prog trace and prog bench', async () => {
      const traced = await prog('trace', program, '--pcap', capture);
      expect(traced.exit).toBe(0);
      expect(traced.out).toMatch(/call bpf_xdp_get_buff_len#188 +r0 = 0x2328/);
      expect(traced.out).toContain('returned 3 (XDP_TX)');
      const refused = await prog('trace', join(programs, 'xdp1.o'), '--pcap', capture);
      expect(refused.exit).toBe(2);
      expect(refused.err).toContain('only programs in a section xdp.frags');
      const bench = await prog('bench', program, '--pcap', capture, '--rounds', '1', '--batch', '8');
      expect(bench.exit).toBe(0);
      expect(bench.out).toMatch(/ ns a packet/);
    });
  });

  it('starts from the maps that it is given', async () => {
    const maps = join(folder, 'maps.yaml');
    writeFileSync(maps, 'rxcnt: [{ key: 17, value: 100 }]\n');
    const { out } = await prog('run', join(programs, 'xdp1.o'), '--pcap', mixed, '--maps', maps, '--quiet');
    expect(out).toContain('- { key: 17, value: 105 }');
  });

  it('prints what queues and stacks hold, in the order in which it comes out', async () => {
    const object = join(folder, 'queues.s');
    // Each packet's number goes into both; the third finds no room.
    const push = (map: string): string => `  r1 = map[${map}]
  r2 = r10
  r2 += -8
  r3 = 0
  call bpf_map_push_elem
`;
    writeFileSync(
      object,
      `.map count array key=4 value=8 entries=1
.map fifo queue key=0 value=8 entries=2
.map lifo stack key=0 value=8 entries=2
.program push
  r6 = map[count][0]+0
  r1 = *(u64 *)(r6 +0)
  r1 += 1
  *(u64 *)(r6 +0) = r1
  *(u64 *)(r10 -8) = r1
${push('fifo')}${push('lifo')}  r0 = 2
  exit
`,
    );
    const args = ['run', object, '--pcap', mixed];
    const { out } = await prog(...args, '--quiet');
    expect(out).toContain(`  # fifo: # BPF_MAP_TYPE_QUEUE
    # value 1: 1
    # value 2: 2
  # lifo: # BPF_MAP_TYPE_STACK
    # value 1: 2
    # value 2: 1
`);
    // What is printed can be pasted: there the queue and the stack are comments.
    const pasted = join(folder, 'pasted.maps.yaml');
    writeFileSync(pasted, out.slice(out.indexOf('maps:\n') + 'maps:\n'.length).replace(/^ {2}/gm, ''));
    expect(await prog(...args, '--quiet', '--maps', pasted)).toMatchObject({ exit: 0, err: '' });
    const { maps } = JSON.parse((await prog(...args, '--format', 'json')).out) as {
      maps: { name: string; values?: object[] }[];
    };
    expect(maps.find(({ name }) => name === 'lifo')!.values).toEqual([
      { value: '0200000000000000', text: '2' },
      { value: '0100000000000000', text: '1' },
    ]);
  });

  it('prints maps as they can be given', async () => {
    const object = join(root, 'src/bpf/elf/fixtures/written_values.o');
    const given = join(folder, 'given.yaml');
    const run = (content: string) => {
      writeFileSync(given, content);
      return prog('run', object, '--pcap', mixed, '--maps', given, '--quiet');
    };
    const content = `.rodata: { port: 53, enabled: true }
.bss: { total: { packets: 1 } }
traffic: [{ key: 10.0.0.1, value: { packets: 18446744073709551615, bytes: 7 } }]
flows:
  - key: { source: 192.0.2.1, source_port: 4000, mac: 02:00:00:00:00:01, address: 2001:db8::1 }
    value: { flag: true, action: LOG, few: ALLOW, label: "a: b", many: [1, 2], v6: ::1, padded: { bytes: ${'01 02 03 04 05 06 07 08'.repeat(2)} } }
`;
    const { exit, out, err } = await run(content);
    expect([exit, err]).toEqual([0, '']);
    const printed = out.slice(out.indexOf('maps:\n') + 'maps:\n'.length);
    expect(printed).toContain('- { key: 10.0.0.1, value: { packets: "18446744073709551615", bytes: 7 } }');
    expect(printed).toContain('    { total: { packets: 1, bytes: 10 } }\n');
    expect(printed).toContain('{ key: { source: 192.0.2.1, destination: 0.0.0.0, source_port: 4000,');
    // Padding that is not zero: the bytes, and beside them what the members say.
    expect(printed).toMatch(/value: \{ bytes: "[0-9a-f ]+" \} \} # \{ flow: .*action: LOG/);
    const again = await run(printed.replace('total: { packets: 1, bytes: 10 }', 'total: { packets: 1 }'));
    expect(again.out).toBe(out);
  });

  it.each([
    ['flows: [{ key: { sauce: 1 }, value: {} }]', '1:18: flows[0].key.sauce: there is no member sauce'],
    [
      'traffic: [{ key: 10.0.0.256, value: {} }]',
      '1:18: traffic[0].key: an IPv4 address, 10.0.0.1, or a number',
    ],
    [
      '.rodata: { ports: 1 }',
      "1:12: .rodata.ports: there is no variable ports, but port, enabled (did you mean 'port'?)",
    ],
    ['traffic: [{ key: 1, value: {}, values: 1 }]', "1:32: traffic[0]: unknown key 'values'"],
    ['traffic: { a: 1 }', '1:10: traffic: a list of { key: …, value: … } is expected'],
    ['trafic: []', "1:1: the object has no map 'trafic' (did you mean 'traffic'?)"],
    ['[]', '1:1: content of maps by their names is expected'],
  ])('refuses --maps with %s', async (content, message) => {
    const file = join(folder, 'wrong.yaml');
    writeFileSync(file, content);
    const object = join(root, 'src/bpf/elf/fixtures/written_values.o');
    const { exit, err } = await prog('run', object, '--pcap', mixed, '--maps', file);
    expect(exit).toBe(2);
    expect(err).toContain(message);
  });

  it('refuses --maps in another encoding than UTF-8', async () => {
    const file = join(folder, 'latin1.yaml');
    writeFileSync(file, Buffer.from('rxcnt: []\n# caf\u00e9\n', 'latin1'));
    const { exit, err } = await prog('run', join(programs, 'xdp1.o'), '--pcap', mixed, '--maps', file);
    expect(exit).toBe(2);
    expect(err).toContain(`${file}:2:6: the file is not UTF-8: byte 0xe9`);
  });

  it.each([
    [['xdp1.o', '--pcap', 'none.pcap'], 'cannot read none.pcap'],
    [['redirect_kinds.o', '--pcap', mixed], 'name one'],
    [['xdp1.o', '--pcap', mixed, '--program', 'xdq1'], "did you mean 'xdp1'?"],
    [['xdp1.o', '--pcap', mixed, '--executor', 'interpeter'], "did you mean 'interpreter'?"],
  ])('%j is bad input', async ([object, ...rest], message) => {
    const { exit, err, out } = await prog('run', join(programs, object!), ...rest);
    expect(exit).toBe(2);
    expect(err).toContain(message);
    expect(out).toBe('');
  });
});

describe('--map NAME.max_entries=N', () => {
  /** Looks up an element far out in an array whose size the object leaves to its loader. */
  const source = `.license GPL
.map big array key=4 value=4 entries=0
.program far
  *(u32 *)(r10 -4) = 33554943
  r1 = map[big]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  r1 = r0
  r0 = 1
  if r1 == 0 goto end
  *(u32 *)(r1 +0) = 7
  r0 = 2
end:
  exit
`;
  let object: string;
  beforeAll(() => {
    object = join(folder, 'far.s');
    writeFileSync(object, source);
  });
  const size = ['--map', 'big.max_entries=33554944'];

  it.each(['interpreter', 'wasm'])('sizes a map of 256 MiB for %s', async (executor) => {
    const { exit, out } = await prog(
      'run',
      object,
      '--pcap',
      mixed,
      '--executor',
      executor,
      '--quiet',
      ...size,
    );
    expect([exit, out]).toEqual([
      0,
      '10 packets: XDP_PASS 10\n\nmaps:\n  big: # BPF_MAP_TYPE_ARRAY\n    - { key: 33554943, value: 7 }\n',
    ]);
    const smaller = await prog(
      'run',
      object,
      '--pcap',
      mixed,
      '--quiet',
      '--map',
      'big.max_entries=33554943',
    );
    expect(smaller.out).toBe('10 packets: XDP_DROP 10\n\n# empty or all zero: big\n');
  });

  it.each([
    ['info', []],
    ['disasm', []],
    ['verify', []],
    ['run', ['--pcap', mixed]],
    ['trace', ['--pcap', mixed]],
    ['bench', ['--pcap', mixed, '--rounds', '1', '--batch', '1']],
  ])('is an option of prog %s, which knows the maps', async (verb, args) => {
    const wrong = await prog(verb, object, ...args, '--map', 'bog.max_entries=4');
    expect([wrong.exit, wrong.err]).toEqual([
      2,
      `xdpbed: ${object}: the object has no map 'bog' [map-invalid]\n  hint: did you mean 'big'?\n`,
    ]);
    expect((await prog(verb, object, ...args, ...size)).exit).toBe(0);
  });

  it('says what is missing without it, and where the limit is', async () => {
    const without = await prog('run', object, '--pcap', mixed);
    expect(without.exit).toBe(2);
    expect(without.err).toContain('0 entries) cannot be created by memory: EINVAL [map-invalid]');
    expect(without.err).toContain(
      'hint: the object leaves the size to its loader: set --map big.max_entries=N, or max-entries in a testbed',
    );
    const huge = await prog('run', object, '--pcap', mixed, '--map', 'big.max_entries=4294967295');
    expect(huge.exit).toBe(2);
    expect(huge.err).toMatch(
      /it wants 32769 MiB; the address space has \d+ MiB, of which [\d.]+ MiB are in use \(ENOMEM\) \[map-invalid\]/,
    );
    expect(huge.err).toContain('hint: set --map big.max_entries=N');
  });

  it('goes before what a file of cases says, and a case before the file', async () => {
    const cases = join(folder, 'far.cases.yaml');
    const packet = `{ hex: '${'00'.repeat(64)}' }`;
    writeFileSync(
      cases,
      `max-entries: { big: 5 }
cases:
  - { name: file, packet: ${packet}, expect: { verdict: XDP_DROP } }
  - { name: case, packet: ${packet}, max-entries: { big: 33554944 }, expect: { verdict: XDP_PASS } }
`,
    );
    expect((await prog('test', object, cases)).out).toContain('2 passed, 0 failed');
    expect((await prog('test', object, cases, ...size)).out).toContain('verdict is XDP_PASS, not XDP_DROP');
    writeFileSync(
      cases,
      `cases: [{ name: a, packet: ${packet}, max-entries: { big: 0 }, expect: { verdict: XDP_DROP } }]`,
    );
    expect((await prog('test', object, cases)).err).toContain('far.cases.yaml:1:');
  });
});

describe('prog test', () => {
  const cases = (text: string): string => {
    const file = join(folder, 'cases.yaml');
    writeFileSync(file, text);
    return file;
  };
  const packet =
    'packet: { eth: { src: 52:54:00:ff:00:01, dst: 52:54:00:00:01:00 }, ipv4: { src: 198.51.100.1, dst: 192.0.2.10 }, udp: { srcPort: 1, dstPort: 2 } }';

  it.each(['xdp1', 'xdp2', 'redirect_kinds', 'adjust'])('the examples for %s pass', async (name) => {
    const { exit, out } = await prog(
      'test',
      join(programs, `${name}.o`),
      join(root, `testbeds/cases/${name}.cases.yaml`),
    );
    expect(out).toContain(', 0 failed');
    expect(exit).toBe(0);
  });

  it('says what differs: verdict, bytes and map content', async () => {
    const file = cases(`cases:
  - name: wrong in every way
    ${packet}
    expect: { verdict: XDP_PASS, unchanged: true, maps: { rxcnt: [{ key: 17, value: 2 }] } }
`);
    const { exit, out } = await prog('test', join(programs, 'xdp2.o'), file);
    expect(exit).toBe(1);
    expect(out).toContain('✗ wrong in every way');
    expect(out).toContain('verdict is XDP_TX, not XDP_PASS');
    expect(out).toContain('packet bytes 3..5 are ff0001, not 000100');
    expect(out).toContain('rxcnt[17] is 1, not 2');
    expect(out).toContain('0 passed, 1 failed');
  });

  describe('of a program that counts per CPU', () => {
    let object: string;
    beforeAll(() => {
      object = join(folder, 'per-cpu.s');
      // Adds 1 to the value of the CPU that it runs on, under key 0.
      writeFileSync(
        object,
        `.map counts percpu_array key=4 value=4 entries=2
.map total array key=4 value=4 entries=1
.program count
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[counts]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u32 *)(r0 +0)
  r1 += 1
  *(u32 *)(r0 +0) = r1
out:
  r0 = 2
  exit
`,
      );
    });
    const run = (text: string, ...words: string[]): ReturnType<typeof prog> =>
      prog('test', object, cases(text), ...words);

    it.each(['interpreter', 'wasm', 'differential'])(
      'values are given and expected by CPU (%s)',
      async (name) => {
        const { exit, out } = await run(
          `cpus: 3
cases:
  - name: one by one
    ${packet}
    context: { cpu: 1 }
    maps: { counts: [{ key: 0, cpus: { 0: 10, 1: 20 } }, { key: 1, value: 7 }] }
    expect:
      maps: { counts: [{ key: 0, cpus: { 0: 10, 1: 21, 2: 0 } }, { key: 1, cpus: { 0: 7, 1: 7, 2: 7 } }, { key: 0, value: 21 }] }
`,
          '--executor',
          name,
        );
        expect(out).toContain('1 passed, 0 failed');
        expect(exit).toBe(0);
      },
    );

    it('says which CPU has another value', async () => {
      const { exit, out } = await run(`cpus: 2
cases:
  - name: wrong
    ${packet}
    context: { cpu: 1 }
    expect: { maps: { counts: [{ key: 0, cpus: { 0: 1, 1: 1 } }, { key: 0, value: 5 }] } }
`);
      expect(exit).toBe(1);
      expect(out).toContain('counts[0] of CPU 0 is 0, not 1');
      expect(out).toContain('counts[0] of CPU 1 is 1, not 5');
      expect(out).not.toContain('CPU 1 is 1, not 1');
    });

    it.each([
      ['{ counts: [{ key: 0, cpus: { 2: 1 } }] }', 'there is no CPU 2; there are 0 to 1'],
      ['{ counts: [{ key: 0, cpus: { one: 1 } }] }', 'there is no CPU one'],
      ['{ counts: [{ key: 0, cpus: [1, 2] }] }', 'not an object from CPUs to values'],
      ['{ counts: [{ key: 0, cpus: { 0: 1 }, value: 1 }] }', 'neither { key: …, value: … } nor'],
      ['{ total: [{ key: 0, cpus: { 0: 1 } }] }', 'is a BPF_MAP_TYPE_ARRAY, not per CPU'],
    ])('is bad input where maps are %s', async (maps, message) => {
      const { exit, err } = await run(
        `cpus: 2\ncases:\n  - { name: a, ${packet}, maps: ${maps}, expect: { verdict: XDP_PASS } }\n`,
      );
      expect(exit).toBe(2);
      expect(err).toMatch(/cases\.yaml:3:\d+: /);
      expect(err).toContain(message);
    });
  });

  it('says what differs of metadata and of where a packet goes', async () => {
    const adjust = await prog(
      'test',
      join(programs, 'adjust.o'),
      cases(`program: meta_roundtrip
cases:
  - { name: a, ${packet}, expect: { metadata: 'ef cd ab 89 67 45 23 02' } }
  - { name: b, ${packet}, expect: { metadata: '' } }
`),
    );
    expect(adjust.exit).toBe(1);
    expect(adjust.out).toContain('metadata bytes 7..7 are 01, not 02');
    expect(adjust.out).toContain('metadata has 8 bytes, not 0');
    const one = (program: string, redirect: string): string =>
      `  - { name: ${program}, program: ${program}, ${packet}, context: { ingress-ifindex: 3, rx-queue-index: 1 }, expect: { redirect: ${redirect} } }`;
    const redirects = await prog(
      'test',
      join(programs, 'redirect_kinds.o'),
      cases(`cpus: 4
maps: { tx_hash: [{ key: 3, value: { ifindex: 7 } }], cpus: [{ key: 1, value: { qsize: 8 } }] }
cases:
${one('to_device', '{ ifindex: 8, key: 3 }')}
${one('to_all_devices', '{ ifindex: 7 }')}
${one('to_cpu', '{ cpu: 0 }')}
${one('to_ifindex', '{ ifindex: 4 }')}
${one('to_socket', '{ map: xsks }')}
`),
    );
    expect(redirects.exit).toBe(1);
    for (const line of [
      'redirect goes to tx_hash[3] (ifindex 7): its ifindex is 7, not 8',
      'redirect goes to every device of tx_hash: its ifindex is absent, not 7',
      'redirect goes to cpus[1] (CPU 1): its cpu is 1, not 0',
      'redirect goes to ifindex 3: its ifindex is 3, not 4',
      'nothing is redirected: the verdict is XDP_PASS',
    ]) {
      expect(redirects.out).toContain(line);
    }
    expect(redirects.out).not.toContain('its key is');
  });

  it('each case starts from fresh maps', async () => {
    const one = `  - name: N\n    ${packet}\n    expect: { maps: { rxcnt: [{ key: 17, value: 1 }] } }\n`;
    const { exit } = await prog(
      'test',
      join(programs, 'xdp1.o'),
      cases(`cases:\n${one.replace('N', 'first')}${one.replace('N', 'second')}`),
    );
    expect(exit).toBe(0);
  });

  it('repeats a packet, sets global variables and sees traces', async () => {
    const file = cases(`cases:
  - name: five times
    ${packet}
    repeat: 5
    expect: { maps: { rxcnt: [{ key: 17, value: 5 }] } }
`);
    expect((await prog('test', join(programs, 'xdp1.o'), file)).exit).toBe(0);
  });

  it('writes JUnit', async () => {
    const file = cases(`cases:\n  - name: a < b & c\n    ${packet}\n    expect: { verdict: XDP_PASS }\n`);
    const { out } = await prog('test', join(programs, 'xdp1.o'), file, '--format', 'junit');
    expect(out).toContain('tests="1" failures="1"');
    expect(out).toContain('name="a &lt; b &amp; c"');
  });

  it.each([
    [
      'cases: [{ name: a, packet: { hex: xyz }, expect: { verdict: XDP_PASS } }]',
      /cases\.yaml:1:\d+: 'xyz' is not hex bytes/,
    ],
    ['cases: [{ name: a, packet: { hex: "00" }, expect: { verdict: XDP_PAS } }]', /did you mean 'XDP_PASS'/],
    [
      'cases: [{ name: a, packet: { hex: "00" }, metadata: "112233", expect: { metadata: "" } }]',
      /:1:\d+: 3 bytes: metadata is a multiple of 4 bytes, 216 at most/,
    ],
    [
      'cases: [{ name: a, packet: { hex: "00" }, context: { cpu: 1 }, expect: { metadata: "" } }]',
      /:1:\d+: there is no CPU 1: cpus is 1/,
    ],
    [
      'cases: [{ name: a, packet: { eth: { src: a, dst: b } }, expect: { verdict: XDP_PASS } }]',
      /cases\.yaml:1:\d+: /,
    ],
    ['cases: []', /at least 1 needed/],
  ])('a mistake in the file has its place: %s', async (text, message) => {
    const { exit, err } = await prog('test', join(programs, 'xdp1.o'), cases(text));
    expect(exit).toBe(2);
    expect(err).toMatch(message);
  });

  it('a map that is not there is bad input, told with the nearest name', async () => {
    const file = cases(
      `cases:\n  - name: a\n    ${packet}\n    expect: { maps: { rxcn: [{ key: 1, value: 1 }] } }\n`,
    );
    const { exit, err } = await prog('test', join(programs, 'xdp1.o'), file);
    expect(exit).toBe(2);
    expect(err).toContain("the object has no map 'rxcn' (did you mean 'rxcnt'?)");
  });
});

describe('prog verify', () => {
  it('says of each program of an object what it can, also when one of them cannot be loaded', async () => {
    const { exit, out } = await prog('verify', join(root, 'src/bpf/elf/fixtures/core_and_externs.o'));
    expect(exit).toBe(1);
    expect(out).toMatch(/^\w+: cannot be loaded: /m);
    expect(out).toMatch(/^\w+: accepted by abstract/m);
  });

  it('says where the effort goes, by source line or by insn, and in JSON by slot', async () => {
    const object = join(programs, 'xdp1.o');
    const byLine = await prog('verify', object, '--complexity');
    expect(byLine.out).toMatch(/^ {2}abstract {2}source line/m);
    expect(byLine.out).toMatch(/^ +\d+ {2}if \(count\) {2}\(rxcnt\.h:22\)$/m);
    const byInsn = await prog('verify', object, '--by-insn');
    expect(byInsn.out).toMatch(/^ +1 +0: r2 = \*\(u32 \*\)\(r1 \+4\)$/m);
    expect((await prog('verify', object)).out).not.toContain('source line');
    const { out } = await prog('verify', object, '--complexity', '--format', 'json');
    const [{ verifications }] = (JSON.parse(out) as { programs: [{ verifications: Verification[] }] })
      .programs;
    const { visits, processedInsns } = verifications[0]!.statistics;
    expect(visits!.reduce((sum, visit) => sum + visit, 0)).toBe(processedInsns);
  });
});

function commandExists(name: string): boolean {
  return (process.env.PATH ?? '').split(':').some((place) => existsSync(join(place, name)));
}

describe.skipIf(noKernel !== '')(`executor kernel${noKernel}`, () => {
  // What depends on the time, on a map's seed or on ids is not compared.
  it.each(['xdp1.o', 'xdp2.o', 'xdp_redirect.o', 'pass.o'])(
    'runs %s as the interpreter does, on maps of the kernel',
    async (name) => {
      const run = (...more: string[]) =>
        prog('run', join(programs, name), '--pcap', mixed, '--format', 'json', ...more);
      const there = await run('--executor', 'kernel');
      expect(there.err).toBe('');
      expect(there.exit).toBe(0);
      expect(JSON.parse(there.out)).toEqual(JSON.parse((await run()).out));
    },
  );

  it('runs cases', async () => {
    for (const name of ['xdp1', 'xdp2', 'adjust']) {
      const cases = join(root, `testbeds/cases/${name}.cases.yaml`);
      const { exit, out } = await prog('test', join(programs, `${name}.o`), cases, '--executor', 'kernel');
      expect(out).toContain(', 0 failed');
      expect(exit).toBe(0);
    }
  });

  it('reads what programs send through a ring buffer', async () => {
    const object = join(programs, 'events.o');
    const args = ['--program', 'ring_output', '--pcap', mixed, '--executor', 'kernel', '--format', 'json'];
    const { exit, out } = await prog('run', object, ...args);
    expect(exit).toBe(0);
    const { maps } = JSON.parse(out) as { maps: { records?: string[] }[] };
    expect(maps.map(({ records }) => records?.length)).toEqual([10]);
  });

  it('wants maps of the kernel', async () => {
    const object = join(programs, 'xdp1.o');
    const args = ['--pcap', mixed, '--executor', 'kernel', '--map-backend', 'memory'];
    const { exit, err } = await prog('run', object, ...args);
    expect(exit).toBe(3);
    expect(err).toContain('map rxcnt is not in the kernel [executor-unsupported]');
    expect(err).toContain('hint: use map backend kernel with it');
  });
});
