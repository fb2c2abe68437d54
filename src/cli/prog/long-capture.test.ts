import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runCommandLine } from '../command-line.js';
import { encodePcapHeader, encodePcapRecord } from '../../packet/index.js';

const root = new URL('../../..', import.meta.url).pathname;
/** MiB of heap that the command gets; the capture is longer, and what it says of the packets longer still. */
const HEAP_MIB = 48;
const PACKETS = 800_000;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-long-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A capture of so many empty frames. */
function writeCapture(name: string, packets: number): string {
  const capture = join(folder, name);
  const file = openSync(capture, 'w');
  writeSync(file, encodePcapHeader());
  const record = encodePcapRecord({ data: new Uint8Array(60) });
  const chunk = Buffer.concat(Array.from({ length: 10_000 }, () => record));
  for (let written = 0; written < packets; written += 10_000) writeSync(file, chunk);
  closeSync(file);
  return capture;
}

it('prog run takes a capture that is longer than its memory', { timeout: 300_000 }, () => {
  const capture = writeCapture('long.pcap', PACKETS);
  expect(statSync(capture).size).toBeGreaterThan(HEAP_MIB << 20);

  const out = join(folder, 'out.pcap');
  const printed = join(folder, 'out.txt');
  const stdout = openSync(printed, 'w');
  const { status, stderr } = spawnSync(
    process.execPath,
    [
      `--max-old-space-size=${HEAP_MIB}`,
      join(root, 'dist/src/cli/main.js'),
      ...['prog', 'run', join(root, 'testbeds/programs/pass.o'), '--pcap', capture, '--pcap-out', out],
      ...['--executor', 'wasm', '--format', 'json'],
    ],
    { stdio: ['ignore', stdout, 'pipe'], encoding: 'utf8' },
  );
  closeSync(stdout);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  // XDP_PASS lets every packet through as it is.
  expect(statSync(out).size).toBe(statSync(capture).size);
  expect(statSync(printed).size).toBeGreaterThan(PACKETS * 60);
});

it('prog run ends with 130 and what it had when it is interrupted', async () => {
  const capture = writeCapture('long.pcap', PACKETS);
  const abort = new AbortController();
  let out = '';
  const terminal = {
    out: (text: string) => void (out += text),
    err: () => undefined,
    input: () => Promise.resolve(''),
    color: false,
    interactive: false,
  };
  // Not before packets are run: verifying gives way as well.
  const timer = setInterval(() => out.length > 0 && abort.abort(), 5);
  const words = ['prog', 'run', join(root, 'testbeds/programs/pass.o'), '--pcap', capture];
  const exit = await runCommandLine(words, terminal, {
    listen: () => undefined,
    signal: () => abort.signal,
  });
  clearInterval(timer);
  expect(exit).toBe(130);
  const [, packets] = /\n(\d+) packets: XDP_PASS \d+\n/.exec(out)!;
  expect(Number(packets)).toBeGreaterThan(0);
  expect(Number(packets)).toBeLessThan(PACKETS);
});
