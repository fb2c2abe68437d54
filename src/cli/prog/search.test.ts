import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCapture, writePcap } from '../../packet/index.js';
import { interruptForTest, runForTest } from '../testing-terminal.js';
import { searchWords } from './search-run.js';

const root = new URL('../../..', import.meta.url).pathname;
const XDP1 = join(root, 'testbeds/programs/xdp1.o');
const prog = (...args: string[]) => runForTest(['prog', ...args]);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-search-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Drops frames of EtherType 0x88b5 whose byte 14 is above LIMIT. */
const filter = (limit: number): string => `.program filter
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 15
  r0 = 2
  if r4 > r3 goto out
  r5 = *(u16 *)(r2 +12)
  if w5 != 0xb588 goto out
  r5 = *(u8 *)(r2 +14)
  if w5 <= ${limit} goto out
  r0 = 1
out:
  exit
`;

function write(name: string, text: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Passes a packet while the number in its map is below a limit. */
const gate = (limit: number): string => `.map gate array key=4 value=8 entries=1
.program gate
  *(u32 *)(r10 -4) = 0
  r1 = map[gate]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  r0 = 2
  if r1 < ${limit} goto out
  r0 = 1
out:
  exit
`;

describe('prog diff', () => {
  it('says that a program is the same as itself', async () => {
    const { exit, out } = await prog('diff', XDP1, XDP1, '--packets', '300');
    expect(exit).toBe(0);
    expect(out).toMatch(/^\w+: the same on 3\d\d packets in \d+ sequences \(seed 1\)\n$/);
  });

  it('shows the smallest packet between two bounds, and writes it', async () => {
    const [old, recent] = [write('old.s', filter(9)), write('new.s', filter(10))];
    const file = join(folder, 'found.pcap');
    const { exit, out } = await prog('diff', old, recent, '--out', file);
    expect(exit).toBe(1);
    expect(out).toContain('this packet tells them apart');
    expect(out).toContain('0000  00 00 00 00 00 00 00 00 00 00 00 00 88 b5 0a\n');
    expect(out).toContain('verdict: XDP_DROP, now XDP_PASS');
    // 10 is above 9 and not above 10.
    const packet = new Uint8Array(15);
    packet.set([0x88, 0xb5, 10], 12);
    expect(readCapture(readFileSync(file)).packets.map(({ data }) => Uint8Array.from(data))).toEqual([
      packet,
    ]);
    expect((await prog('diff', old, recent)).out).toBe(out);
  });

  it('begins with captures, and goes by them alone', async () => {
    const [old, recent] = [write('old.s', filter(9)), write('new.s', filter(10))];
    const packet = new Uint8Array(60).fill(7);
    packet.set([0x88, 0xb5, 10], 12);
    const telling = write('telling.pcap', writePcap([{ data: new Uint8Array(60) }, { data: packet }]));
    const silent = write('silent.pcap', writePcap([{ data: new Uint8Array(60) }]));
    const found = await prog('diff', old, recent, '--pcap', telling, '--packets', '0');
    expect(found.exit).toBe(1);
    expect(found.out).toContain('0000  00 00 00 00 00 00 00 00 00 00 00 00 88 b5 0a\n');
    const none = await prog('diff', old, recent, '--pcap', silent, '--packets', '0');
    expect(none).toMatchObject({ exit: 0, out: 'filter: the same on 1 packets in 1 sequences (seed 1)\n' });
  });

  it('starts from maps, and tells a program that only one object has', async () => {
    const more = '.program extra\n  r0 = 2\n  exit\n';
    const [old, recent] = [write('old.s', gate(5)), write('new.s', gate(7) + more)];
    const maps = write('maps.yaml', 'gate: [{ key: 0, value: 6 }]\n');
    const without = await prog('diff', old, recent, '--packets', '50');
    expect(without.exit).toBe(0);
    expect(without.out).toContain(`program extra is only in ${recent}`);
    const found = await prog('diff', old, recent, '--packets', '50', '--maps', maps);
    expect(found.exit).toBe(1);
    expect(found.out).toContain('verdict: XDP_DROP, now XDP_PASS');
  });

  it('begins with cases, with what they place in maps', async () => {
    const [old, recent] = [write('old.s', gate(5)), write('new.s', gate(7))];
    const cases = write(
      'gate.cases.yaml',
      `cases:
  - name: below both
    packet: { hex: '${'00'.repeat(60)}' }
    maps: { gate: [{ key: 0, value: 4 }] }
    expect: { verdict: XDP_PASS }
  - name: between them
    packet: { hex: '${'00'.repeat(60)}' }
    maps: { gate: [{ key: 0, value: 6 }] }
    expect: { verdict: XDP_DROP }
`,
    );
    const args = ['diff', old, recent, '--packets', '0'];
    expect(await prog(...args)).toMatchObject({ exit: 0 });
    const { exit, out } = await prog(...args, '--cases', cases);
    expect(exit).toBe(1);
    expect(out).toContain('in map gate: 0x00000000 = 0x0600000000000000\n');
    expect(out).toContain('verdict: XDP_DROP, now XDP_PASS');
  });

  it('ends with what it has found, too, when it is interrupted while it makes that small', async () => {
    // Drops from some packet on: all before it are needed, and each of them is made small by itself; which the loop makes slow.
    const counting = (limit: number): string => `.map count array key=4 value=8 entries=1
.program count
  r6 = map[count][0]+0
  r1 = *(u64 *)(r6 +0)
  r1 += 1
  *(u64 *)(r6 +0) = r1
  r2 = 0
more:
  r2 += 1
  if r2 < 500 goto more
  r0 = 2
  if r1 < ${limit} goto out
  r0 = 1
out:
  exit
`;
    const frames = Array.from({ length: 200 }, (_, index) => new Uint8Array(1500).fill(1 + (index % 255)));
    const pcap = write('many.pcap', writePcap(frames.map((data) => ({ data }))));
    const [old, recent] = [write('old.s', counting(200)), write('new.s', counting(201))];
    const words = ['prog', 'diff', old, recent, '--packets', '0', '--pcap', pcap];
    const { exit, out } = await interruptForTest(words, /making it small, 1 s/);
    expect(exit).toBe(130);
    expect(out).toContain('count: these 200 packets, one after the other, tell them apart');
    expect(out).toMatch(/interrupted: there may be a smaller one\n$/);
  });

  it('says the same as JSON, with what each packet comes with', async () => {
    const [old, recent] = [write('old.s', gate(5)), write('new.s', gate(7))];
    const cases = write(
      'json.cases.yaml',
      `cases:
  - name: between them
    packet: { hex: '${'00'.repeat(14)}' }
    context: { ingress-ifindex: 3, rx-queue-index: 2 }
    time: 5000
    maps: { gate: [{ key: 0, value: 6 }] }
    expect: { verdict: XDP_DROP }
`,
    );
    const args = ['diff', old, recent, '--packets', '0', '--cases', cases, '--format', 'json'];
    const { exit, out, err } = await prog(...args);
    expect([exit, err]).toEqual([1, '']);
    expect(JSON.parse(out)).toEqual({
      schema: 'xdpbed.prog-diff/1',
      old,
      new: recent,
      seed: '1',
      notCompared: [],
      programs: [
        {
          program: 'gate',
          newProgram: 'gate',
          result: 'different',
          notCompared: [],
          packets: 1,
          sequences: 1,
          difference: {
            packets: [
              {
                packet: '00'.repeat(14),
                // Of packets that are made small, the first comes after a millisecond.
                time: '1000000',
                ingressIfindex: 3,
                rxQueueIndex: 2,
                egressIfindex: 0,
                cpu: 0,
                metadata: '',
                elements: [{ map: 'gate', key: '00000000', value: '0600000000000000' }],
                differences: [{ what: 'verdict', old: 'XDP_DROP', new: 'XDP_PASS' }],
              },
            ],
            maps: [],
            mapsCut: false,
          },
        },
      ],
    });
    const same = await prog('diff', old, old, '--packets', '20', '--format', 'json');
    expect(same.exit).toBe(0);
    expect(JSON.parse(same.out)).toMatchObject({ programs: [{ result: 'same' }] });
  });

  it('has a rejection in JSON, and explains it on stderr', async () => {
    const rejected = write('bad.s', '.program xdp_prog1\n  r0 = *(u8 *)(r1 +900)\n  exit\n');
    const { exit, out, err } = await prog('diff', XDP1, rejected, '--format', 'json');
    expect(exit).toBe(1);
    expect(err).toMatch(/^.*bad\.s: xdp_prog1: rejected by abstract/);
    expect(JSON.parse(out)).toMatchObject({
      programs: [
        { result: 'rejected', packets: 0, rejection: { object: 'new', program: 'xdp_prog1', insn: 0 } },
      ],
    });
  });

  it('refuses a format that there is not', async () => {
    for (const verb of ['diff', 'fuzz', 'run', 'verify', 'info'])
      expect(await prog(verb, XDP1, XDP1, '--format', 'jsn')).toMatchObject({
        exit: 2,
        err: expect.stringContaining('text, json') as string,
      });
  });

  it('refuses what is no number, and says which program is not there', async () => {
    expect(await prog('diff', XDP1, XDP1, '--packets', 'many')).toMatchObject({ exit: 2 });
    expect(await prog('diff', XDP1, XDP1, '--program', 'xdp_prog2')).toMatchObject({ exit: 2 });
    const rejected = write('bad.s', '.program xdp_prog1\n  r0 = *(u8 *)(r1 +900)\n  exit\n');
    expect(await prog('diff', rejected, rejected)).toMatchObject({ exit: 1, out: '' });
  });
});

describe('prog fuzz', () => {
  it('holds where nothing aborts, and says how far the packets came', async () => {
    const { exit, out } = await prog('fuzz', XDP1, '--packets', '500');
    expect(exit).toBe(0);
    expect(out).toMatch(
      /^no-abort: holds on 5\d\d packets in \d+ sequences \(seed 1\); lines \d+ of \d+, branches/,
    );
  });

  it('finds the packet that breaks a property, as a case that fails', async () => {
    const object = write('filter.s', filter(9));
    const { exit, out } = await prog('fuzz', object, '--expect', 'verdict=XDP_PASS', '--seed', '3');
    expect(exit).toBe(1);
    expect(out).toContain('verdict=XDP_PASS: does not hold after this packet');
    expect(out).toContain('0000  00 00 00 00 00 00 00 00 00 00 00 00 88 b5 0a\n');
    const cases = write('found.cases.yaml', `cases:\n${out.slice(out.indexOf('- name'))}`);
    const test = await prog('test', object, cases);
    expect(test.exit).toBe(1);
    expect(test.out).toContain('verdict is XDP_DROP, not XDP_PASS');
  });

  it('writes a sequence as the steps of a case, which fails', async () => {
    // Drops from the third packet on.
    const object = write(
      'third.s',
      `.map count array key=4 value=8 entries=1
.program third
  *(u32 *)(r10 -4) = 0
  r1 = map[count]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
  if r1 < 3 goto out
  r0 = 1
  exit
out:
  r0 = 2
  exit
`,
    );
    const { exit, out } = await prog('fuzz', object, '--expect', 'verdict=XDP_PASS');
    expect(exit).toBe(1);
    expect(out).toContain('after these 3 packets');
    const cases = write('third.cases.yaml', `cases:\n${out.slice(out.indexOf('- name'))}`);
    const test = await prog('test', object, cases);
    expect(test.exit).toBe(1);
    expect(test.out).toContain('verdict is XDP_DROP, not XDP_PASS');
  });

  it('says the same as JSON, with the case', async () => {
    const object = write('filter.s', filter(9));
    const args = ['fuzz', object, '--expect', 'verdict=XDP_PASS', '--seed', '3'];
    const text = await prog(...args);
    const { exit, out } = await prog(...args, '--format', 'json');
    expect(exit).toBe(1);
    const document = JSON.parse(out) as { packets: number; violation: { case: string } };
    expect(document).toMatchObject({
      schema: 'xdpbed.prog-fuzz/1',
      object,
      program: 'filter',
      seed: '3',
      properties: ['verdict=XDP_PASS'],
      result: 'violated',
      violation: {
        property: 'verdict=XDP_PASS',
        reason: 'verdict is XDP_DROP',
        packet: 1,
        packets: [{ packet: `${'00'.repeat(12)}88b50a`, ingressIfindex: 1, elements: [] }],
      },
    });
    expect(text.out).toContain(`found after ${document.packets} packets`);
    expect(text.out.endsWith(`as a case:\n${document.violation.case}`)).toBe(true);
    const holds = await prog('fuzz', XDP1, '--packets', '20', '--format', 'json');
    expect(holds.exit).toBe(0);
    expect(JSON.parse(holds.out)).toMatchObject({ result: 'holds', coverage: { lines: {}, branches: {} } });
    const rejected = write('bad.s', '.program p\n  r0 = *(u8 *)(r1 +900)\n  exit\n');
    const refused = await prog('fuzz', rejected, '--format', 'json');
    expect(refused.exit).toBe(1);
    expect(JSON.parse(refused.out)).toMatchObject({ result: 'rejected', rejection: { program: 'p' } });
  });

  it('looks at maps', async () => {
    const { exit, out } = await prog('fuzz', XDP1, '--expect', 'map rxcnt[6] == 0');
    expect(exit).toBe(1);
    expect(out).toContain('rxcnt[6] is 1, not == 0');
    expect(await prog('fuzz', XDP1, '--expect', 'map rxcnt 6')).toMatchObject({ exit: 2 });
  });

  it('shows on a terminal how far it is, and ends with 130 and what it had when it is interrupted', async () => {
    const words = ['prog', 'fuzz', XDP1, '--packets', '1000000000'];
    const { exit, out, err } = await interruptForTest(words, /packets/);
    expect(exit).toBe(130);
    expect(out).toMatch(/^no-abort: interrupted; holds so far on \d+ packets/);
    const lines = err.split('\r\u001b[K');
    expect(lines.at(-2)).toMatch(/^\w+: [\d ]+ of 1 000 000 000 packets \(0 %\), [\d ]+\/s, .* left$/);
    // And takes it away again.
    expect(lines.at(-1)).toBe('');
    const json = await interruptForTest([...words, '--format', 'json'], /packets/);
    expect(json.exit).toBe(130);
    expect(JSON.parse(json.out)).toMatchObject({ result: 'holds', interrupted: true });
  });

  it.each([
    [500, 2000, undefined, 5, '500 of 2 000 packets (25 %), 100/s, 15 s left'],
    // Time is up before: in 10 s, not in 15.
    [500, 2000, 15_000, 5, '500 packets, 100/s, 10 s left'],
    [500, 2000, 60_000, 5, '500 of 2 000 packets (25 %), 100/s, 15 s left'],
    // Captures are run first.
    [0, 2000, 15_000, 5, '0 packets, 10 s left'],
    [0, 2000, undefined, 5, '0 of 2 000 packets (0 %)'],
  ])('%s of %s packets, %s ms at most, after %s s', (generated, packets, milliseconds, seconds, words) => {
    expect(searchWords(generated, { packets, milliseconds }, seconds)).toBe(words);
  });
});
