import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { XdpbedError } from '../core/diagnostic.js';
import { describeState } from './held/format-state.js';
import { printableTerminal, reportError } from './terminal.js';
import { runForTest } from './testing-terminal.js';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-names-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Control characters but tabs and line feeds, format characters, separators of lines. */
const NOT_FOR_A_TERMINAL = /(?![\t\n])[\p{Cc}\p{Cf}\u2028\u2029]/u;

/** The object of pass.o with another license, source line and name, none longer than it was. */
function hostileObject(name: string): string {
  const bytes = readFileSync(new URL('../../testbeds/programs/pass.o', import.meta.url));
  const write = (text: string, at: number): void => bytes.set(Buffer.from(text), at);
  write('\u001bc!', bytes.indexOf('GPL\0'));
  write('\u001b]0;x\u0007\u202e\n', bytes.indexOf('return XDP_PASS;') + 1);
  for (let at = bytes.indexOf('\0pass\0'); at >= 0; at = bytes.indexOf('\0pass\0', at)) write(name, at + 1);
  const path = join(folder, `${Buffer.from(name).toString('hex')}.o`);
  writeFileSync(path, bytes);
  return path;
}

describe('an object whose names command a terminal', () => {
  let escaping: string;
  let breaking: string;
  beforeAll(() => {
    escaping = hostileObject('\u001b[8m');
    breaking = hostileObject('p\nok');
  });

  it.each([
    ['info'],
    ['disasm'],
    ['verify'],
    ['verify', '--log'],
    ['verify', '--program', 'nope'],
    ['run', '--pcap', 'no-such.pcap'],
  ])('is told of and does not: prog %s', async (verb, ...options) => {
    const { out, err } = await runForTest(['prog', verb, escaping, ...options]);
    expect(out + err).not.toBe('');
    expect(out + err).not.toMatch(NOT_FOR_A_TERMINAL);
  });

  it.each([['info'], ['disasm'], ['verify'], ['verify', '--log'], ['verify', '--program', 'nope']])(
    'begins no line of its own: prog %s',
    async (verb, ...options) => {
      const { out, err } = await runForTest(['prog', verb, breaking, ...options]);
      expect(out + err).toContain('ok');
      expect(out + err).not.toMatch(/^ok/m);
    },
  );

  it('is as it is in JSON', async () => {
    const { out } = await runForTest(['prog', 'info', escaping, '--format', 'json']);
    expect(out).not.toMatch(NOT_FOR_A_TERMINAL);
    expect(JSON.parse(out)).toMatchObject({
      license: 'Dual MIT/\u001bc!',
      programs: [{ name: '\u001b[8m' }],
    });
  });
});

describe('what was thrown', () => {
  const print = (message: string): string => {
    let err = '';
    const none = (): undefined => undefined;
    const streams = {
      out: none,
      err: (text: string) => void (err += text),
      color: false,
      interactive: false,
    };
    const terminal = printableTerminal({ ...streams, input: () => Promise.resolve('') });
    reportError(new XdpbedError('usage', message, { hint: message }), terminal);
    return err;
  };

  it('is one message, whatever it repeats', () => {
    expect(print('no map a\u009b2J\nxdpbed: all is well')).toBe(
      `xdpbed: no map a\\u009b2J\n    xdpbed: all is well [usage]\n  hint: no map a\\u009b2J\n    xdpbed: all is well\n`,
    );
  });
});

describe('up and status', () => {
  it('have a reason on the line of its program', () => {
    const reason = 'bytes 0 to 3 touch l\u001b[2J\u202e\n  ✓ xdp1 at offload of g1.eth0: no frame yet';
    const lines = describeState({
      name: 'r',
      testbed: 't',
      run: 'host',
      pid: 1,
      since: 'now',
      namespaces: [],
      hook: 'devmap',
      case: 'bridge',
      log: '/log',
      offloads: [],
      programs: [
        { site: 'offload', node: 'g0.eth0', program: 'p', attached: false, reason, verdicts: {} },
      ] as never,
    });
    expect(lines.join('\n').split('\n')).toHaveLength(lines.length);
    expect(lines.join('\n')).not.toMatch(NOT_FOR_A_TERMINAL);
    expect(lines.join('\n')).toContain('touch l\\u001b[2J\\u202e\\u000a');
  });
});
