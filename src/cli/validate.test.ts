import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runForTest } from './testing-terminal.js';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-validate-'));
afterAll(() => rmSync(folder, { recursive: true }));
const programs = new URL('../../testbeds/programs/', import.meta.url).pathname;
const file = join(folder, 'given.testbed.yaml');

const HOST = `host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
`;
const GUESTS = `guests:
  g0: { nics: { eth0: &nic { tap: tap0, mac: 52:54:00:00:00:02, program: p, placement: host } } }
  g1: { nics: { eth0: { <<: *nic, tap: tap1, mac: 52:54:00:00:00:03 } } }
`;

async function validate(text: string | Uint8Array): Promise<{ exit: number; lines: string[] }> {
  writeFileSync(file, text);
  const { exit, err } = await runForTest(['validate', file]);
  return { exit, lines: err.trimEnd().replaceAll(`${file}:`, '').split('\n') };
}

describe('validate', () => {
  it('tells at once what is wrong with keys, configs, files and every preset', async () => {
    const { exit, lines } = await validate(`version: 1
name: all-wrong
programs:
  p:
    object: ${programs}xdp1.o
    maps:
      rxcnt: [{ key: 1, value: zz }, { key: { a: 1 }, value: 1 }, { key: 2, value: 2 }]
      nomap: [{ key: 1, value: 1 }]
  q: { object: ${programs}flow_count.o, maps: { flows: [{ key: { nosuch: 1 }, value: 1 }] } }
  r: { object: gone.o }
${HOST}${GUESTS}workload: { use: udp-flood, config: { framez: 10 } }
policies: [{ use: quota, config: { per-guest: { mapz: 1 } } }, { use: quotas }]
checks:
  - { kind: expect, value: verdicts.offload.DROP, equals: 1 }
nonsense: 1
`);
    expect(exit).toBe(2);
    const told = [
      [7, 'an integer is expected, not "zz"'],
      [7, 'an integer is expected, not an object'],
      [8, "has no map 'nomap' (maps: rxcnt)"],
      [9, 'there is no member nosuch'],
      [10, 'gone.o'],
      [19, "unknown key 'framez' (did you mean 'frames'?)"],
      [20, "unknown key 'mapz' (did you mean 'maps'?)"],
      [20, "no policy plugin is called 'quotas' (did you mean 'quota'?"],
      [22, "(did you mean 'verdicts.offload.XDP_DROP'?)"],
      [23, "unknown key 'nonsense'"],
    ] as const;
    for (const [line, text] of told) {
      expect(
        lines.some((each) => each.startsWith(`${line}:`) && each.includes(text)),
        text,
      ).toBe(true);
    }
    expect(lines.at(-1)).toBe(`${told.length} problems`);
  });

  it('warns of a tap that is a port of no bridge, in case bridge', async () => {
    const text = `version: 1\nname: apart\nprograms: { p: { object: ${programs}xdp1.o } }\n${HOST}${GUESTS}`;
    const { exit, lines } = await validate(`${text}workload: { use: udp-flood }\n`);
    expect(exit).toBe(0);
    expect(lines).toEqual([
      "7:21: warning: tap 'tap1' is a port of no bridge, so no frame reaches g1.eth0 (put it into host.bridges.<name>.ports)",
      ' valid, 1 run',
    ]);
    const bridged = await validate(
      `${text.replace('[eth0, tap0]', '[eth0, tap0, tap1]')}workload: { use: udp-flood }\n`,
    );
    expect(bridged.lines).toEqual([' valid, 1 run']);
  });

  it('refuses a file that is not UTF-8', async () => {
    const { exit, lines } = await validate(Buffer.from('version: 1\nname: caf\u00e9\n', 'latin1'));
    expect(exit).toBe(2);
    expect(lines).toEqual(['2:10: the file is not UTF-8: byte 0xe9 (save it as UTF-8)', '1 problem']);
  });
});
