import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ResultDocument } from '../core/contract/result.js';
import { runForTest } from './testing-terminal.js';

const root = new URL('../..', import.meta.url).pathname;
const main = join(root, 'testbeds/rfc-2019.testbed.yaml');

const xdpbed = (...args: string[]) => runForTest(args);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A testbed file that extends the main one textually, in a folder of its own. */
function testbedIn(place: string, change: (text: string) => string): string {
  mkdirSync(place, { recursive: true });
  const text = readFileSync(main, 'utf8')
    .replaceAll('programs/', join(root, 'testbeds/programs/'))
    .replace('calibration/', join(root, 'testbeds/calibration/'));
  const file = join(place, 'changed.testbed.yaml');
  writeFileSync(file, change(text));
  return file;
}

describe('xdpbed run', () => {
  it('runs the main testbed: eight runs, every check passed', async () => {
    const { exit, out } = await xdpbed('run', main);
    expect(exit).toBe(0);
    expect(out).toContain('8 runs, 6 of 6 checks passed');
    expect(out).not.toContain('\u001b');
  });

  it('prints JSON that its schema accepts, and the same bytes for the same seed', async () => {
    const first = await xdpbed('run', main, '--format', 'json');
    const second = await xdpbed('run', main, '--format', 'json');
    expect(first.exit).toBe(0);
    expect(second.out).toBe(first.out);
    const schema = JSON.parse(readFileSync(join(root, 'schemas/result.schema.json'), 'utf8')) as object;
    const validate = new Ajv({ strict: false }).compile(schema);
    const result = JSON.parse(first.out) as ResultDocument;
    expect(validate(result), JSON.stringify(validate.errors)).toBe(true);
    expect(result.runs.map((run) => run.id)).toEqual([
      'redirect/xdp1/guest',
      'redirect/xdp1/host',
      'redirect/xdp2/guest',
      'redirect/xdp2/host',
      'bridge/xdp1/guest',
      'bridge/xdp1/host',
      'bridge/xdp2/guest',
      'bridge/xdp2/host',
    ]);
  });

  it('counts what the workload’s proportions say', async () => {
    const { out } = await xdpbed('run', main, '--format', 'json');
    const result = JSON.parse(out) as ResultDocument;
    // 2000 frames are 125 rounds of 7 + 4 + 2 + 2 + 1: UDP 125·(7+2), TCP 125·(4+1), ICMP 125·2.
    const counters = [
      ['01000000', 'fa00000000000000'],
      ['06000000', '7102000000000000'],
      ['11000000', '6504000000000000'],
    ];
    for (const run of result.runs) {
      expect(run.maps).toHaveLength(1);
      expect(run.maps[0]!.entries.map(({ key, value }) => [key, value])).toEqual(counters);
      const dropped = run.axes.program === 'xdp1';
      const guestHook = run.hooks.find(
        (hook) => hook.site === (run.axes.placement === 'host' ? 'offload' : 'guest-driver'),
      )!;
      expect(guestHook.verdicts).toEqual({
        XDP_ABORTED: 0,
        XDP_DROP: dropped ? 2000 : 0,
        XDP_PASS: 0,
        XDP_TX: dropped ? 0 : 2000,
        XDP_REDIRECT: 0,
      });
      const end = dropped
        ? { place: run.axes.placement === 'host' ? 'host.tap0' : 'guest0.eth0', fate: 'xdp-drop' }
        : run.axes.case === 'redirect'
          ? { place: 'host.tap0', fate: 'xdp-drop' }
          : { place: 'host.eth0', fate: 'transmitted' };
      expect(run.ends).toEqual([{ ...end, frames: 2000 }]);
      expect(run.links[0]!.framesToGuest).toBe(run.axes.placement === 'host' ? 0 : 2000);
    }
  });

  it('--only keeps variants, --set changes values, --seed is shown', async () => {
    const { exit, out } = await xdpbed(
      ...['run', main, '--format', 'json', '--seed', '7'],
      ...['--only', 'case=bridge', '--only', 'program=xdp1', '--set', 'workload.config.frames=16'],
    );
    const result = JSON.parse(out) as ResultDocument;
    expect(exit).toBe(0);
    expect(result.seed).toBe('7');
    expect(result.runs.map((run) => [run.id, run.framesSent])).toEqual([
      ['bridge/xdp1/guest', 16],
      ['bridge/xdp1/host', 16],
    ]);
  });

  it('a failed check exits with 1 and says which run breaks it', async () => {
    const file = testbedIn(
      join(folder, 'failing'),
      (text) =>
        `${text}  - { kind: expect, value: ends.transmitted, equals: 1, where: { program: xdp2, case: bridge } }\n`,
    );
    const { exit, out } = await xdpbed('run', file);
    expect(exit).toBe(1);
    expect(out).toContain('bridge/xdp2/guest: ends.transmitted is 2000, not 1');
  });

  it('ndjson is a JSON document a line', async () => {
    const { exit, out } = await xdpbed(
      'run',
      main,
      '--format',
      'ndjson',
      '--only',
      'case=bridge',
      '--only',
      'program=xdp1',
    );
    expect(exit).toBe(0);
    const events = out
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { event: string }).event);
    expect(events[0]).toBe('testbed-started');
    expect(events.filter((event) => event === 'run-finished')).toHaveLength(2);
  });
});

describe('a run that fails', () => {
  /** The second of three runs replays a capture that ends in a record's header. */
  function threeRuns(checks = '[{ kind: conservation }]'): string {
    const place = join(folder, 'three');
    mkdirSync(place, { recursive: true });
    const capture = join(root, 'testbeds/captures/mixed.pcap');
    writeFileSync(join(place, 'cut.pcap'), readFileSync(capture).subarray(0, 30));
    const file = join(place, 'three.testbed.yaml');
    writeFileSync(
      file,
      `version: 1
name: three
programs: { p: { object: ${root}testbeds/programs/xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:01:00, program: p, placement: guest } } } }
workload: { use: pcap-replay, config: { file: ${capture} } }
checks: ${checks}
matrix:
  capture:
    a: { workload.config.file: ${capture} }
    b: { workload.config.file: cut.pcap }
    c: { workload.config.file: ${capture} }
`,
    );
    return file;
  }

  it('is told at once, leaves the others as they are and exits with 5', async () => {
    const { exit, out, err } = await xdpbed('run', threeRuns());
    expect(exit).toBe(5);
    expect(err).toContain('run b failed:\nxdpbed: cut.pcap+0x18: ');
    expect(err).toContain('[pcap-invalid]\nrun 3 of 3: c\n');
    expect(out).toContain('3 runs, 1 failed, 0 of 2 checks passed\n');
    expect(out).toContain('\n    b: the run failed\n');
  });

  it('is in a JSON document that its schema accepts', async () => {
    const { out } = await xdpbed('run', threeRuns(), '--bail', '--format', 'json');
    const result = JSON.parse(out) as ResultDocument;
    const schema = JSON.parse(readFileSync(join(root, 'schemas/result.schema.json'), 'utf8')) as object;
    const validate = new Ajv({ strict: false }).compile(schema);
    expect(validate(result), JSON.stringify(validate.errors)).toBe(true);
    expect(result.runs.map(({ id }) => id)).toEqual(['a']);
    expect(result.failures).toMatchObject([{ run: 'b', stage: 'run', code: 'pcap-invalid' }]);
    expect(result.notStarted).toEqual([{ run: 'c', index: 2, axes: { capture: 'c' } }]);
  });

  it('outweighs no check that failed when it is not among the runs', async () => {
    const failing = threeRuns('[{ kind: expect, value: frames-sent, equals: 1 }]');
    expect((await xdpbed('run', failing, '--only', 'capture=a,c')).exit).toBe(1);
    expect((await xdpbed('run', failing)).exit).toBe(5);
    expect((await xdpbed('run', threeRuns(), '--only', 'capture=a,c')).exit).toBe(0);
  });
});

describe('plugins from elsewhere', () => {
  const example = join(root, 'docs/examples/xdpbed-plugin-policy-max-value-size');

  it('a package is found by its short name from the testbed’s folder, and rules', async () => {
    const place = join(folder, 'package');
    mkdirSync(join(place, 'node_modules/@sinclair'), { recursive: true });
    cpSync(example, join(place, 'node_modules/xdpbed-plugin-policy-max-value-size'), { recursive: true });
    symlinkSync(root, join(place, 'node_modules/xdpbed'));
    symlinkSync(join(root, 'node_modules/@sinclair/typebox'), join(place, 'node_modules/@sinclair/typebox'));
    const file = testbedIn(place, (text) =>
      text.replace('policies:\n', 'policies:\n  - { use: max-value-size, config: { bytes: 4 } }\n'),
    );
    const { exit, out, err } = await xdpbed(
      'run',
      file,
      '--format',
      'json',
      '--only',
      'case=bridge',
      '--only',
      'program=xdp1',
    );
    expect(err).not.toContain('problem');
    // rxcnt has 8-byte values, so offloading is denied, and a run without its program is a failed one.
    expect(exit).toBe(1);
    const result = JSON.parse(out) as ResultDocument;
    const denied = result.runs.flatMap((run) => run.rulings).filter((ruling) => ruling.ruling === 'deny');
    expect(denied).toEqual([
      {
        request: 1,
        time: 0,
        guest: 'guest0',
        nic: 'eth0',
        operation: 'map-create',
        policy: 'max-value-size',
        ruling: 'deny',
        reason: 'values of 8 bytes exceed the limit of 4',
        breaches: [{ rule: 'bytes', limit: 4, asked: 8, path: 'policies.0.config.bytes' }],
        count: 1,
      },
    ]);
    expect(result.runs[1]!.attachments[0]!.attached).toBe(false);
  });

  it('the package’s own config schema is checked in place', async () => {
    const file = testbedIn(join(folder, 'package'), (text) =>
      text.replace('policies:\n', 'policies:\n  - { use: max-value-size, config: { bites: 4 } }\n'),
    );
    const { exit, err } = await xdpbed('validate', '--trust', file);
    expect(exit).toBe(2);
    expect(err).toMatch(/changed\.testbed\.yaml:\d+:\d+: unknown key 'bites' \(did you mean 'bytes'\?\)/);
  });

  it('a module is found by its path', async () => {
    const place = join(folder, 'module');
    mkdirSync(place, { recursive: true });
    writeFileSync(
      join(place, 'deny-all.mjs'),
      `export default { name: 'deny-all', version: '1.0.0', role: 'policy', api: '^2', description: 'denies', configSchema: { type: 'object' },
        register(scope) { scope.bindValue(Symbol.for('xdpbed.policy'), { name: 'deny-all', rule: () => ({ ruling: 'deny', reason: 'no' }) }); } };`,
    );
    const file = testbedIn(place, (text) =>
      text.replace('policies:\n', 'policies:\n  - { use: ./deny-all.mjs }\n'),
    );
    const { out } = await xdpbed(
      'run',
      file,
      '--format',
      'json',
      '--only',
      'case=bridge',
      '--only',
      'program=xdp1',
    );
    const result = JSON.parse(out) as ResultDocument;
    expect(result.runs[1]!.attachments[0]).toMatchObject({ attached: false });
    expect(result.runs[1]!.rulings).toContainEqual(
      expect.objectContaining({ policy: 'deny-all', ruling: 'deny' }),
    );
  });

  describe('validate and plan run no code of a testbed’s plugins unless told to', () => {
    const place = () => join(folder, 'untrusted');
    const ran = globalThis as { ranOnImport?: number };
    const testbed = (use: string) =>
      testbedIn(place(), (text) =>
        text.replace('policies:\n', `policies:\n  - { use: ${use}, config: { x: 1 } }\n`),
      );
    beforeAll(() => {
      mkdirSync(join(place(), 'node_modules/xdpbed-plugin-policy-nosy'), { recursive: true });
      const module = `globalThis.ranOnImport = (globalThis.ranOnImport ?? 0) + 1;
        export default { name: 'nosy', version: '1.0.0', role: 'policy', api: '^2', description: 'x',
          configSchema: { type: 'object', additionalProperties: false }, register() {} };`;
      writeFileSync(join(place(), 'nosy.mjs'), module);
      writeFileSync(join(place(), 'node_modules/xdpbed-plugin-policy-nosy/index.js'), module);
      writeFileSync(
        join(place(), 'node_modules/xdpbed-plugin-policy-nosy/package.json'),
        '{ "name": "xdpbed-plugin-policy-nosy", "type": "module", "exports": "./index.js" }',
      );
    });

    it.each(['./nosy.mjs', 'nosy'])('%s is found and not run; --trust runs it', async (use) => {
      const file = testbed(use);
      delete ran.ranOnImport;
      const looked = await xdpbed('validate', file);
      expect([looked.exit, looked.out]).toEqual([0, '']);
      expect(looked.err).toContain(`policy '${use}' was found and not run, so its config is unchecked`);
      expect(looked.err).toContain('valid as far as it was checked, 8 runs');
      const planned = await xdpbed('plan', file);
      expect(planned.exit).toBe(0);
      const { runs } = JSON.parse(planned.out) as { runs: { policies: object[] }[] };
      expect(runs[0]!.policies[0]).toEqual({ use, config: { x: 1 } });
      expect(ran.ranOnImport).toBeUndefined();
      // Its schema allows no keys, which only its code can say.
      const trusted = await xdpbed('validate', '--trust', file);
      expect(trusted.exit).toBe(2);
      expect(trusted.err).toContain("unknown key 'x'");
      expect(ran.ranOnImport).toBe(1);
    });

    it('a name that leads nowhere is a problem, trusted or not', async () => {
      const { exit, err } = await xdpbed('validate', testbed('./gone.mjs'));
      expect([exit, err]).toEqual([2, expect.stringContaining("there is no file './gone.mjs'")]);
    });
  });

  it.each([
    ['register', "register() { throw new Error('out of order'); }"],
    ['render', "register: bind({ render() { throw new Error('out of order'); } })"],
    ['onEvent', "register: bind({ onEvent() { throw new Error('out of order'); }, render: () => '' })"],
  ])('a reporter that throws in %s ends the command with its name', async (phase, register) => {
    const file = reporterIn(`throws-${phase}.mjs`, register);
    const { exit, out, err } = await xdpbed('run', main, '--only', 'case=bridge', '--format', file);
    expect(exit).toBe(1);
    expect(out).toBe('');
    expect(err).toContain(`plugin reporter r failed in ${phase}: out of order [plugin-failed]`);
    expect(err).not.toContain('    at ');
  });

  it('a reporter that --format names gets the defaults of its config, and is stopped', async () => {
    const file = reporterIn(
      'config.mjs',
      'register: (scope, config) => bind({ render: () => JSON.stringify(config), stop() { globalThis.stoppedReporter = true; } })(scope)',
    );
    const { exit, out } = await xdpbed('run', main, '--only', 'case=bridge', '--format', file);
    expect([exit, out]).toEqual([0, '{"width":80}']);
    expect((globalThis as { stoppedReporter?: boolean }).stoppedReporter).toBe(true);
  });

  function reporterIn(name: string, register: string): string {
    const file = join(folder, name);
    writeFileSync(
      file,
      `const bind = (members) => (scope) => scope.bindValue(Symbol.for('xdpbed.reporter'), { name: 'r', ...members });
      export default { name: 'r', version: '1.0.0', role: 'reporter', api: '^2', description: 'x', configSchema: { type: 'object', properties: { width: { default: 80 } } }, ${register} };`,
    );
    return file;
  }

  it.each([
    ['an API version of the past', "api: '^1'", 'it was written for plugin API ^1, this is 2.1.0'],
    ['another role', "role: 'verifier'", 'it implements the role verifier'],
  ])('%s is refused with the reason', async (_, change, reason) => {
    const place = join(folder, 'refused');
    mkdirSync(place, { recursive: true });
    const manifest = { api: "api: '^2'", role: "role: 'policy'" };
    const key = change.split(':')[0] as keyof typeof manifest;
    // A module is cached by its path, so each case has a file of its own.
    const name = `plugin-${key}.mjs`;
    writeFileSync(
      join(place, name),
      `export default { name: 'p', version: '1.0.0', description: 'x', configSchema: {}, register() {},
        ${Object.values({ ...manifest, [key]: change }).join(', ')} };`,
    );
    const file = testbedIn(place, (text) =>
      text.replace('policies:\n', `policies:\n  - { use: ./${name} }\n`),
    );
    const { exit, err } = await xdpbed('validate', '--trust', file);
    expect(exit).toBe(2);
    expect(err).toContain(reason);
  });
});

describe('bad input', () => {
  it('validate tells five mistakes at once, each with its place, and exits with 2', async () => {
    const { exit, out, err } = await xdpbed(
      'validate',
      join(root, 'src/core/testbed/golden/five-mistakes.testbed.yaml'),
    );
    expect(exit).toBe(2);
    expect(out).toBe('');
    expect(err.match(/^.*five-mistakes\.testbed\.yaml:\d+:\d+: /gm)).toHaveLength(5);
    expect(err).toContain('5 problems');
  });

  it.each([
    [['run', 'no-such.testbed.yaml'], 2, 'no-such.testbed.yaml'],
    [['run', main, '--only', 'case=brigde'], 2, "did you mean 'bridge'?"],
    [['run', main, '--only', 'cas=bridge'], 2, "did you mean 'case'?"],
    [['run', main, '--set', 'hots.case=bridge'], 2, "there is no 'hots'; did you mean 'host'?"],
    [
      ['run', main, '--set', 'host.case=brigde', '--set', 'matrix.case.redirect={}'],
      2,
      '--set host.case=brigde',
    ],
    [['run', main, '--set', 'host.case=bridge'], 2, "axis 'case' of the matrix sets 'host.case' anew"],
    [
      ['run', join(root, 'src/core/testbed/golden/valid.testbed.yaml'), '--only', 'case=bridge'],
      2,
      'the testbed has no matrix',
    ],
    [['plugins', 'list', '--format', 'xml'], 2, "'xml' is not one of table, json"],
    [['run', main, '--seed', 'x'], 2, "--seed 'x' is not a whole number"],
    [['run', main, '--format', 'tabel'], 2, "did you mean 'table'?"],
    [['plugins', 'show', 'executer', 'interpreter'], 2, "did you mean 'executor'?"],
    [['frobnicate'], 2, 'unknown command'],
    [['prog', 'info', main], 2, `xdpbed: ${main}: this is not an ELF file (at offset 0x0) [object-invalid]`],
    [['prog', 'verify', '/nowhere/x.o'], 2, 'xdpbed: /nowhere/x.o: there is no such file [file-unreadable]'],
    [['prog', 'disasm', '/nowhere/x.o'], 2, '/nowhere/x.o: there is no such file'],
  ])('%j', async (args, exit, message) => {
    const result = await xdpbed(...args);
    expect(result.exit).toBe(exit);
    expect(result.err).toContain(message);
    expect(result.out).toBe('');
  });
});

describe('plan and plugins', () => {
  it('plan prints every run with its defaults, and no path of the machine', async () => {
    const { exit, out } = await xdpbed('plan', main);
    expect(exit).toBe(0);
    const plan = JSON.parse(out) as { runs: { host: { hook: string }; policies: { use: string }[] }[] };
    expect(plan.runs).toHaveLength(8);
    expect(plan.runs[0]!.host.hook).toBe('tun_recvmsg');
    expect(plan.runs[0]!.policies.map((policy) => policy.use)).toEqual(['helper-allow-list', 'quota']);
    expect(out).not.toContain(root);
  });

  it('plugins list names every role', async () => {
    const { out } = await xdpbed('plugins', 'list', '--format', 'json');
    const roles = new Set((JSON.parse(out) as { role: string }[]).map((plugin) => plugin.role));
    expect([...roles].sort()).toEqual([
      'attack',
      'device',
      'executor',
      'fabric',
      'map-backend',
      'policy',
      'reporter',
      'transport',
      'verifier',
      'workload',
    ]);
  });

  it('plugins show prints the schema of the config', async () => {
    const { out } = await xdpbed('plugins', 'show', 'policy', 'quota');
    expect(JSON.parse(out)).toMatchObject({
      role: 'policy',
      name: 'quota',
      configSchema: { type: 'object' },
    });
  });
});
