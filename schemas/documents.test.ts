import { Ajv, type ValidateFunction } from 'ajv';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { interruptForTest, runForTest } from '../src/cli/testing-terminal.js';
import { exampleEvents, exampleResults } from '../src/conformance/reporter/index.js';
import { probeBpf } from '../src/linux/index.js';
import { probeNamespaces } from '../src/linux/testing-namespace.js';
import { writePcap } from '../src/packet/index.js';
import { eventLine } from '../src/report/event-line.js';
import { schemaMembers } from './schema-members.js';

const root = new URL('..', import.meta.url).pathname;
const programs = `${root}testbeds/programs/`;
const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const noRuns = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const folder = mkdtempSync(`${tmpdir()}/xdpbed-documents-`);
afterAll(() => rmSync(folder, { recursive: true }));

/** A published schema, as somebody else would use it: from its file. */
function schema(name: string): ValidateFunction {
  const text = readFileSync(`${root}schemas/${name}.schema.json`, 'utf8');
  return new Ajv({ allErrors: true }).compile(JSON.parse(text) as object);
}

/** What was printed, by schema. */
const printed = new Map<string, unknown[]>();

/** As `expectValid`, of a document whose members are looked at in the end. */
function expectDocument(name: string, text: string): void {
  expectValid(schema(name), text);
  printed.set(name, [...(printed.get(name) ?? []), JSON.parse(text)]);
}

function expectValid(validate: ValidateFunction, text: string): void {
  expect(validate(JSON.parse(text)), JSON.stringify(validate.errors)).toBe(true);
  // What nobody described is refused: a field that is added must be published.
  expect(validate({ ...(JSON.parse(text) as object), surplus: 1 })).toBe(false);
}

describe('what is printed is what its published schema says', () => {
  const event = schema('event');
  const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

  it('events of a run, and the summary', async () => {
    const { out } = await runForTest(['run', `${root}testbeds/migration.testbed.yaml`, '--format', 'ndjson']);
    const words = lines(out).map((line) => (JSON.parse(line) as { event: string }).event);
    expect(new Set(words)).toEqual(
      new Set([
        'testbed-started',
        'run-started',
        'program-attached',
        'ruling',
        'run-finished',
        'check-finished',
        'testbed-finished',
        'summary',
      ]),
    );
    for (const line of lines(out)) expectValid(event, line);
  });

  it('events of every kind that reporters are tried with', () => {
    const events = Object.values(exampleResults()).flatMap(exampleEvents);
    for (const each of events) expectValid(event, eventLine(each));
    const { anyOf } = JSON.parse(readFileSync(`${root}schemas/event.schema.json`, 'utf8')) as {
      anyOf: { properties: { event: { const: string } } }[];
    };
    const described = anyOf.map(({ properties }) => properties.event.const);
    expect(new Set([...events.map((each) => each.event), 'summary'])).toEqual(new Set(described));
  });

  it.each(readdirSync(programs).filter((name) => name.endsWith('.o')))('prog info %s', async (name) => {
    const { out } = await runForTest(['prog', 'info', programs + name, '--format', 'json']);
    expectValid(schema('object-info'), out);
  });

  it.each([
    ['programs/xdp1.o', true],
    ['programs/balancer.o', true],
    ['programs/events.o', true],
    ['unsafe/short_check.s', false],
  ])('prog verify %s, which is accepted: %s', async (name, accepted) => {
    const { out } = await runForTest([
      'prog',
      'verify',
      `${root}testbeds/${name}`,
      ...['--verifier', 'abstract,structural', '--log', '--format', 'json'],
    ]);
    const document = JSON.parse(out) as { programs: { verifications: { accepted: boolean }[] }[] };
    expect(document.programs[0]!.verifications[0]!.accepted).toBe(accepted);
    expectValid(schema('verification'), out);
  });

  const write = (name: string, text: string | Uint8Array): string => {
    const path = `${folder}/${name}`;
    writeFileSync(path, text);
    return path;
  };

  describe('plan', () => {
    const testbeds = ['', 'golden/', 'attacks/']
      .flatMap((below) => readdirSync(`${root}testbeds/${below}`).map((name) => below + name))
      // Of the attacks, the one that has all of them.
      .filter((name) => /^(golden\/)?[^/]+\.testbed\.yaml$|^attacks\/all\./.test(name));

    it.each(testbeds)('of testbeds/%s', async (name) => {
      const { exit, out } = await runForTest(['plan', `${root}testbeds/${name}`]);
      expect(exit).toBe(0);
      expectDocument('plan', out);
    });

    it('with what none of them has', async () => {
      const planned = async (name: string, ...set: string[]): Promise<void> => {
        const args = set.flatMap((assignment) => ['--set', assignment]);
        const { exit, out, err } = await runForTest(['plan', `${root}testbeds/${name}`, ...args]);
        expect([exit, err]).toEqual([0, '']);
        expectDocument('plan', out);
      };
      await planned(
        'blocklist.testbed.yaml',
        'programs.blocklist.type=xdp',
        'programs.blocklist.maps.counters=[{ key: 0, cpus: { 0: { packets: 1 } } }]',
        'guests.alice.nics.eth0.show=[link]',
        'guests.alice.migration={ after-frames: 5, policies: [{ use: quota, dry-run: true }] }',
        'policies=[{ use: quota, dry-run: true }]',
        'measure={ rate: 1000, nics: [alice.eth0] }',
      );
      await planned('rfc-2019.testbed.yaml', 'plugins.fabric={ use: linux }', 'guests.guest0.kind=qemu');
      const small = (object: string, maps: string): string =>
        write(
          'maps.testbed.yaml',
          `version: 1
name: maps
programs: { own: { object: ${programs}${object}, maps: ${maps} } }
host: { case: bridge, nics: { eth0: { mac: 52:54:00:00:00:01 } }, taps: { tap0: {} }, bridges: { br0: { ports: [eth0, tap0] } } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: own } } } }
`,
        );
      for (const [object, maps] of [
        ['map_in_map.o', '{ by_family: [{ key: 1, value: counts_v4 }] }'],
        ['tail_chain.o, section: tail_entry', '{ stages: [{ key: 0, value: stage4 }] }'],
      ] as const) {
        const { exit, out } = await runForTest(['plan', small(object, maps)]);
        expect(exit).toBe(0);
        expectDocument('plan', out);
      }
    });
  });

  describe('prog test', () => {
    const cases = `${root}testbeds/cases`;

    it('of cases that pass, and that fail', async () => {
      const { out } = await runForTest(['prog', 'test', cases, '--format', 'json']);
      expectDocument('prog-test', out);
      const text = readFileSync(`${cases}/xdp1.cases.yaml`, 'utf8').replace(/XDP_DROP/g, 'XDP_TX');
      const wrong = write('wrong.cases.yaml', text);
      const failed = await runForTest(['prog', 'test', `${programs}xdp1.o`, wrong, '--format', 'json']);
      expect(failed.exit).toBe(1);
      expectDocument('prog-test', failed.out);
    });

    it('with notes, and interrupted', async () => {
      const cut = write('cut.pcap', writePcap([{ data: new Uint8Array(60), originalLength: 100 }]));
      const text = `cases: [{ name: cut, pcap: ${cut}, expect: { verdicts: { XDP_DROP: 1 } } }]\n`;
      const args = ['prog', 'test', `${programs}xdp1.o`, write('cut.cases.yaml', text), '--format', 'json'];
      expectDocument('prog-test', (await runForTest(args)).out);
      const { exit, out } = await runForTest(args, '', AbortSignal.abort());
      expect(exit).toBe(130);
      expectDocument('prog-test', out);
    });
  });

  describe('prog run', () => {
    const run = async (object: string, pcap: string, ...more: string[]): Promise<string> => {
      const args = ['prog', 'run', object, '--pcap', pcap, '--format', 'json', ...more];
      const { out } = await runForTest(args);
      expectDocument('prog-run', out);
      return out;
    };
    const mixed = `${root}testbeds/captures/mixed.pcap`;

    // Metadata, global variables, records, tries, maps in maps.
    it.each(['adjust', 'globals', 'events', 'blocklist', 'map_in_map'])(
      'of every program in %s.o',
      async (name) => {
        const object = `${programs}${name}.o`;
        const info = await runForTest(['prog', 'info', object, '--format', 'json']);
        for (const program of (JSON.parse(info.out) as { programs: { name: string }[] }).programs)
          await run(object, mixed, '--program', program.name);
      },
    );

    it('of what cannot be run, aborts, holds its packets in a queue or says too much', async () => {
      const long = write('long.pcap', writePcap([{ data: new Uint8Array(4000) }]));
      expect(await run(`${programs}xdp1.o`, long)).toContain('"notRun"');
      const short = write('short.pcap', writePcap([{ data: new Uint8Array(14) }]));
      const unsafe = `${root}testbeds/unsafe/short_check.s`;
      expect(await run(unsafe, short, '--verifier', 'structural')).toContain('"fault"');
      const chatty = write(
        'chatty.s',
        `.license GPL
.map jobs queue key=0 value=8 entries=2
.program chatty
  *(u64 *)(r10 -8) = 0x0a78
  r1 = map[jobs]
  r2 = r10
  r2 += -8
  r3 = 0
  call bpf_map_push_elem
  r6 = 0
more:
  r1 = r10
  r1 += -8
  r2 = 3
  call bpf_trace_printk
  r6 += 1
  if r6 < 2000 goto more
  r0 = 2
  exit
`,
      );
      const document = JSON.parse(await run(chatty, mixed)) as { trace: string[]; traceDropped: number };
      // 2000 of each of 10 packets, of which 10 000 are kept.
      expect([document.trace.length, document.traceDropped]).toEqual([10_000, 10_000]);
    });

    it('of keys and values that can only be given as bytes', async () => {
      const maps = write(
        'bytes.maps.yaml',
        'flows: [{ key: { source: 1 }, value: { padded: [{ bytes: "01 02 03 04 05 06 07 08" }] } }]\n',
      );
      await run(`${root}src/bpf/elf/fixtures/written_values.o`, mixed, '--maps', maps);
    });

    it('of every redirect, and when it is interrupted', async () => {
      const object = `${programs}redirect_kinds.o`;
      const maps = write(
        'redirect.maps.yaml',
        `tx_hash: [{ key: 1, value: { ifindex: 4 } }]
cpus: [{ key: 0, value: { qsize: 64 } }]
xsks: [{ key: 0, value: 7 }]
`,
      );
      for (const name of ['to_device', 'to_all_devices', 'to_cpu', 'to_socket', 'to_ifindex'])
        await run(object, mixed, '--program', name, '--maps', maps);
      const args = ['prog', 'run', `${programs}xdp1.o`, '--pcap', mixed, '--format', 'json'];
      const pcap = write(
        'many.pcap',
        writePcap(Array.from({ length: 100_000 }, () => ({ data: new Uint8Array(60) }))),
      );
      const { exit, out } = await interruptForTest([...args, '--pcap', pcap], /"packets"/);
      expect(exit).toBe(130);
      expectDocument('prog-run', out);
    });
  });

  describe.skipIf(noRuns !== '')(`up and status${noRuns}`, () => {
    it('of a run that is up, and of what one has left', async () => {
      vi.stubEnv('XDPBED_STATE', `${folder}/state`);
      mkdirSync(`${folder}/state`);
      const ledger = [
        { ledger: 1, run: 'xb0000000a', owner: `${process.pid} 1`, since: '2026-01-01T00:00:00.000Z' },
        { add: { kind: 'folder', id: `${folder}/state/xb0000000a` } },
      ];
      const stale = `${folder}/state/xb0000000a.ledger`;
      writeFileSync(stale, ledger.map((line) => `${JSON.stringify(line)}\n`).join(''));
      try {
        const only = ['case=redirect', 'program=xdp1', 'placement=host'];
        const args = [
          ...only.flatMap((variant) => ['--only', variant]),
          ...['--set', 'guests.guest0.kind=tap-reader'],
        ];
        const file = `${root}testbeds/rfc-2019.testbed.yaml`;
        // The guest's program is refused, for the reason that its state has then.
        const refusing = ['--set', 'policies=[{ use: quota, config: { per-guest: { maps: 0 } } }]'];
        for (const more of [[], refusing]) {
          const words = ['up', file, '--fabric', 'linux', ...args, ...more, '--format', 'json'];
          const up = await runForTest(words);
          expect([up.exit, up.err]).toEqual([0, '']);
          expectDocument('up', up.out);
        }
        const { out } = await runForTest(['status', '--format', 'json']);
        const { runs } = JSON.parse(out) as { runs: { standing: string; testbed: string | null }[] };
        expect(new Set(runs.map(({ standing }) => standing))).toEqual(new Set(['stale', 'up']));
        expectDocument('status', out);
      } finally {
        expect((await runForTest(['down', '--all'])).exit).toBe(0);
        vi.unstubAllEnvs();
      }
    });
  });

  describe('prog diff and prog fuzz', () => {
    /** Drops what comes while the number in its map, which counts packets then, is a limit or more. */
    const gate = (limit: number): string => `.map seen array key=4 value=8 entries=1
.program filter
  r6 = map[seen][0]+0
  r1 = *(u64 *)(r6 +0)
  r0 = 2
  if r1 < ${limit} goto out
  r1 += 1
  *(u64 *)(r6 +0) = r1
  r0 = 1
out:
  exit
`;
    /** Passes what comes to a CPU that has this number in its map. */
    const perCpu = (number: number): string => `.map seen percpu_array key=4 value=8 entries=1
.program filter
  *(u32 *)(r10 -4) = 0
  r1 = map[seen]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  if r1 == ${number} goto out
  r0 = 1
  exit
out:
  r0 = 2
  exit
`;
    const rejected = '.program filter\n  r0 = *(u8 *)(r1 +900)\n  exit\n';

    it.each([
      ['same', gate(5), gate(5), 'value: 6'],
      ['different', gate(5), gate(7), 'value: 6'],
      ['different', perCpu(5), perCpu(7), 'cpus: { 0: 7 }'],
      ['rejected', gate(5), rejected, 'value: 6'],
    ])('prog diff, %s', async (result, before, after, value) => {
      const [old, recent] = [write('old.s', before), write('new.s', after)];
      const cases = write(
        'diff.cases.yaml',
        `cases:
  - name: with all that may be said of a packet
    packet: { hex: '${'00'.repeat(14)}' }
    maps: { seen: [{ key: 0, ${value} }] }
    context: { ingress-ifindex: 1, rx-queue-index: 2, egress-ifindex: 3 }
    metadata: '01020304'
    random: [7, 8]
    expect: { verdict: XDP_DROP }
`,
      );
      const args = ['prog', 'diff', old, recent, '--cases', cases, '--packets', '20', '--format', 'json'];
      const { out } = await runForTest(args);
      expect(JSON.parse(out)).toMatchObject({ programs: [{ result }] });
      expectDocument('prog-diff', out);
    });

    it.each([
      ['holds', gate(5), 'verdict=XDP_PASS'],
      ['violated', gate(0), 'verdict=XDP_PASS'],
      ['rejected', rejected, 'no-abort'],
    ])('prog fuzz, %s', async (result, program, property) => {
      const args = ['prog', 'fuzz', write('fuzz.s', program), '--expect', property, '--packets', '20'];
      const { out } = await runForTest([...args, '--format', 'json']);
      expect(JSON.parse(out)).toMatchObject({ result });
      expectDocument('prog-fuzz', out);
    });

    it('prog fuzz of an object with line info, and of both what is interrupted', async () => {
      const xdp1 = `${programs}xdp1.o`;
      const fuzzed = await runForTest(['prog', 'fuzz', xdp1, '--packets', '50', '--format', 'json']);
      expect(JSON.parse(fuzzed.out)).toHaveProperty('coverage');
      expectDocument('prog-fuzz', fuzzed.out);
      for (const [verb, args] of Object.entries({ diff: [xdp1, xdp1], fuzz: [xdp1] })) {
        const words = ['prog', verb, ...args, '--packets', '1000000000', '--format', 'json'];
        const { exit, out } = await interruptForTest(words, /packets/);
        expect(exit).toBe(130);
        expect(JSON.parse(out)).toHaveProperty('interrupted');
        expectDocument(`prog-${verb}`, out);
      }
    });
  });

  it('doctor', async () => {
    const { out } = await runForTest(['doctor', '--format', 'json']);
    expectValid(schema('doctor'), out);
  });
});

describe('the published schemas of documents', () => {
  it.each(['plan', 'prog-diff', 'prog-fuzz', 'prog-run', 'prog-test', 'status', 'up'])(
    '%s describes every member, and nothing that is never printed',
    (name) => {
      const text = readFileSync(`${root}schemas/${name}.schema.json`, 'utf8');
      const members = schemaMembers(JSON.parse(text) as object, printed.get(name) ?? []);
      // Of the testbed language, where they are described; of packets, what only cases say, which `prog fuzz` does not take, and
      // maps and programs that they put into maps: no difference of ours comes of one.
      const elsewhere =
        {
          plan: /^checks\./,
          'prog-fuzz': /\.(random|elements\..*)$/,
          'prog-diff': /\.(mapName|programName)$/,
        }[name] ?? /^$/;
      const own = members.filter(({ path }) => !elsewhere.test(path));
      const without = (what: 'described' | 'closed' | 'seen'): string[] =>
        own.filter((member) => !member[what]).map(({ path }) => path);
      expect(without('described')).toEqual([]);
      expect(without('closed')).toEqual([]);
      if (noRuns === '' || !['status', 'up'].includes(name)) expect(without('seen')).toEqual([]);
    },
  );
});
