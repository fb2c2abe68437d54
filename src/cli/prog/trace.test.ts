import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writePcap } from '../../packet/index.js';
import { runForTest } from '../testing-terminal.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const PROGRAM = `.map seen hash key=4 value=16 entries=4
.map slots array key=4 value=8 entries=3
.program p
  r6 = *(u32 *)(r1 +0)
  r7 = *(u32 *)(r1 +4)
  r2 = r6
  r2 += 20
  if r2 > r7 goto out
  r1 = *(u16 *)(r6 +12)
  *(u32 *)(r10 -4) = 7
  r2 = r10
  r2 += -4
  r1 = map[seen]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +8)
  r1 += 1
  *(u64 *)(r0 +8) = r1
  *(u32 *)(r10 -4) = 2
  r2 = r10
  r2 += -4
  r1 = map[slots]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  *(u8 *)(r0 +3) = 9
  *(u8 *)(r6 +5) = 17
out:
  r0 = 2
  exit
`;

it('names what lies at an address, and shows values that are loaded and stored', async () => {
  const object = write('p.s', PROGRAM);
  const packet = new Uint8Array(60);
  packet.set([0x08, 0x00], 12);
  const capture = write('p.pcap', writePcap([{ data: packet }]));
  // 7 in four bytes; of the value's 16 bytes the upper half is 41.
  const maps = write(
    'p.yaml',
    'seen: [{ key: 7, value: { bytes: "00 00 00 00 00 00 00 00 29 00 00 00 00 00 00 00" } }]\n',
  );
  const { exit, out } = await runForTest(['prog', 'trace', object, '--pcap', capture, '--maps', maps]);
  expect(exit).toBe(0);
  const effects = out.split('\n').map((line) => line.replace(/ {2,}/g, ' | ').trim());
  const has = (...texts: RegExp[]): void => {
    for (const text of texts) expect(effects).toContainEqual(expect.stringMatching(text));
  };
  has(
    /r6 = \*\(u32 \*\)\(r1 \+0\) \| r6 = 0x[0-9a-f]+ \(packet\+0\); load 4 B at ctx\+0 = 0x/,
    /r7 = 0x[0-9a-f]+ \(packet\+60\)/,
    /load 2 B at packet\+12 = 0x8$/,
    /\*\(u32 \*\)\(r10 -4\) = 7 \| store 4 B at fp-4 = 0x7$/,
    /r2 = r10 \| r2 = 0x[0-9a-f]+ \(fp\)$/,
    /r2 \+= -4 \| r2 = 0x[0-9a-f]+ \(fp-4\)$/,
    /r1 = map\[seen\] \| r1 = map seen$/,
    /call bpf_map_lookup_elem#1 \| r0 = 0x[0-9a-f]+ \(seen\[7\]\); helper reads 4 B at fp-4 = 0x7$/,
    /r1 = 0x29; load 8 B at seen\[7\]\+8 = 0x29$/,
    /store 8 B at seen\[7\]\+8 = 0x2a$/,
    /r0 = 0x[0-9a-f]+ \(slots\[2\]\)/,
    /store 1 B at slots\[2\]\+3 = 0x9$/,
    /store 1 B at packet\+5 = 0x11$/,
  );
  // Without content the look-up finds nothing.
  const bare = await runForTest(['prog', 'trace', object, '--pcap', capture]);
  expect(bare.out).not.toContain('seen[7]');
});

it('prog bench starts from the content of maps', async () => {
  const object = write('p.s', PROGRAM);
  const capture = write('p.pcap', writePcap([{ data: new Uint8Array(60) }]));
  const wrong = write('wrong.yaml', 'seem: []\n');
  const args = ['prog', 'bench', object, '--pcap', capture, '--executor', 'interpreter', '--rounds', '1'];
  expect(await runForTest([...args, '--maps', wrong])).toMatchObject({ exit: 2 });
  const maps = write(
    'p.yaml',
    'seen: [{ key: 7, value: { bytes: "00 00 00 00 00 00 00 00 29 00 00 00 00 00 00 00" } }]\n',
  );
  expect((await runForTest([...args, '--maps', maps])).out).toMatch(/^interpreter +[\d.]+ ns a packet/);
});
