import { describe, expect, it } from 'vitest';
import { readAssembly } from '../../bpf/assembly-object.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { buildFrame } from '../../packet/index.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { parseMapInput } from '../testbed/map-input.js';
import { readObjectFile } from '../testbed/object-file.js';
import { parseProperty } from './property.js';
import { Subject } from './subject.js';

const registry = new PluginRegistry(BUILT_IN_PLUGINS);

/** What a property says after one packet; maps with the content given. */
async function after(
  object: ObjectSpec,
  texts: readonly string[],
  packet: Uint8Array = new Uint8Array(60),
  maps: Record<string, unknown> = {},
): Promise<(string | undefined)[]> {
  const initial = parseMapInput(object, maps);
  const subject = await Subject.open(registry, {
    object,
    spec: object.programs[0]!,
    verifiers: ['abstract'],
    initial,
  });
  if (!(subject instanceof Subject)) throw new Error(subject.reason);
  try {
    const step = subject.send({ data: packet, input: {} });
    return texts.map((text) => parseProperty(text, object.maps).violation(step, subject));
  } finally {
    await subject.close();
  }
}

const returning = (verdict: number): ObjectSpec => readAssembly(`.program p\n  r0 = ${verdict}\n  exit\n`);

describe('parseProperty', () => {
  it('knows verdicts', async () => {
    expect(
      await after(returning(1), [
        'verdict=XDP_PASS,XDP_DROP',
        'verdict = XDP_PASS',
        'verdict!=XDP_DROP',
        'no-abort',
      ]),
    ).toEqual([undefined, 'verdict is XDP_DROP', 'verdict is XDP_DROP', undefined]);
    expect(await after(returning(0), ['no-abort', 'verdict!=XDP_ABORTED'])).toEqual([
      'verdict is XDP_ABORTED',
      'verdict is XDP_ABORTED',
    ]);
    expect(await after(returning(77), ['no-abort'])).toEqual(['returned 77, which is no verdict']);
  });

  it('reads numbers in maps by key, and of every element', async () => {
    const object = await readObjectFile(
      new URL('../../../testbeds/programs/xdp1.o', import.meta.url).pathname,
      {},
    );
    const udp = buildFrame({
      eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' },
      ipv4: { src: '10.0.0.1', dst: '10.0.0.2' },
      udp: { srcPort: 1, dstPort: 2 },
    });
    const maps = { rxcnt: [{ key: 17, value: 41 }] };
    expect(
      await after(
        object,
        [
          'map rxcnt[17] == 42',
          'map rxcnt[17] < 42',
          'map rxcnt[0x11] >= 43',
          'map rxcnt[*] <= 41',
          'map rxcnt[6] != 1',
        ],
        udp,
        maps,
      ),
    ).toEqual([
      undefined,
      'rxcnt[17] is 42, not < 42',
      'rxcnt[0x11] is 42, not >= 43',
      'rxcnt[17] is 42, not <= 41',
      undefined,
    ]);
  });

  it('reads global variables', async () => {
    const object = await readObjectFile(
      new URL('../../../testbeds/programs/ip_sanity.o', import.meta.url).pathname,
      {},
    );
    const spoofed = buildFrame({
      eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' },
      ipv4: { src: '127.0.0.1', dst: '10.0.0.2' },
      udp: { srcPort: 1, dstPort: 2 },
    });
    // A __be32 counts as the number that its bytes are on the wire.
    expect(
      await after(
        object,
        ['map .bss.expired == 0', 'map .bss.spoofer == 0', 'map .bss.spoofer == 0x7f000001'],
        spoofed,
      ),
    ).toEqual([undefined, '.bss.spoofer is 2130706433, not == 0', undefined]);
  });

  it('holds where there is no such element', async () => {
    const object = readAssembly(
      '.map seen hash key=4 value=8 entries=4\n.program p\n  r1 = map[seen]\n  r0 = 2\n  exit\n',
    );
    expect(await after(object, ['map seen[5] == 9', 'map seen[*] == 9'])).toEqual([undefined, undefined]);
  });

  it('says what it does not understand, and what was meant', async () => {
    const object = await readObjectFile(
      new URL('../../../testbeds/programs/ip_sanity.o', import.meta.url).pathname,
      {},
    );
    const refused = (text: string): unknown => {
      try {
        parseProperty(text, object.maps);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(refused('counts go up')).toMatchObject({ code: 'usage' });
    expect(refused('verdict=XDP_DORP')).toMatchObject({ code: 'usage', hint: "did you mean 'XDP_DROP'?" });
    expect(refused('map .bbs.expired <= 1')).toMatchObject({
      code: 'map-invalid',
      hint: "did you mean '.bss'?",
    });
    expect(refused('map .bss.expird <= 1')).toMatchObject({
      code: 'map-invalid',
      hint: "did you mean 'expired'?",
    });
    expect(refused('map .bss <= 1')).toMatchObject({ code: 'map-invalid' });
  });
});
