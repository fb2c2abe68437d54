import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
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

it('prog run takes a capture that is longer than its memory', { timeout: 300_000 }, () => {
  const capture = join(folder, 'long.pcap');
  const file = openSync(capture, 'w');
  writeSync(file, encodePcapHeader());
  const record = encodePcapRecord({ data: new Uint8Array(60) });
  const chunk = Buffer.concat(Array.from({ length: 10_000 }, () => record));
  for (let written = 0; written < PACKETS; written += 10_000) writeSync(file, chunk);
  closeSync(file);
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
