import { describe, expect, it } from 'vitest';
import {
  exampleResult,
  exampleResults,
  exampleRun,
  FAILED_CHECK,
  failedResult,
  HOSTILE_TEXT,
  interruptedResult,
  PASSED_CHECK,
  refusedRun,
  RUN_FAILURE,
  reporterConformance,
} from '../../src/conformance/reporter/index.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { Scope } from '../../src/core/plugin/scope.js';
import plugin from './index.js';
import { JunitReporter } from './junit-reporter.js';
import { element, escapeXml } from '../../src/report/xml.js';

reporterConformance('junit', () => new JunitReporter());

/** Throws unless tags nest, attributes are quoted and nothing is left unescaped. Enough XML for what we write. */
function assertWellFormed(text: string): void {
  const open: string[] = [];
  const token =
    /<\?xml [^?]*\?>|<(\/?)([a-z-]+)((?: [a-z]+="[^"<]*")*)(\/?)>|(?:[^<&]|&(?:amp|lt|gt|quot|apos|#\d+);)+/gy;
  let end = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    end = token.lastIndex;
    const [, close, name, attributes, empty] = match;
    if (attributes !== undefined && /&(?!(?:amp|lt|gt|quot|apos|#\d+);)/.test(attributes))
      throw new Error(attributes);
    if (name === undefined || empty === '/') continue;
    if (close !== '/') open.push(name);
    else if (open.pop() !== name) throw new Error(`</${name}> closes nothing`);
  }
  if (end !== text.length) throw new Error(`not XML at ${end}: ${text.slice(end, end + 40)}`);
  if (open.length > 0) throw new Error(`${open.join(', ')} not closed`);
}

describe('junit', () => {
  it('is what the plugin binds', () => {
    const scope = new Scope('test');
    void plugin.register(scope, {});
    expect(scope.resolve(REPORTER)).toBeInstanceOf(JunitReporter);
  });

  it('has a case for each run and each check, and fails with the problems', () => {
    const run = { ...exampleRun('host'), audit: [] };
    const text = new JunitReporter().render(exampleResult([run], [PASSED_CHECK, FAILED_CHECK]));
    expect(text).toBe(
      `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="xdpbed" tests="3" failures="1" errors="0">
  <testsuite name="rfc-2019" tests="3" failures="1" errors="0" skipped="0">
    <properties>
      <property name="seed" value="1"/>
      <property name="xdpbed" value="0.1.0"/>
    </properties>
    <testcase classname="rfc-2019.run" name="host">
      <system-out>frames sent: 10, copied: 0
xdp1 at guest0.eth0 (offload): XDP_DROP 10
host.tap-guest0: xdp-drop 10
guest0.eth0 rxcnt: [1]=3 [17]=7</system-out>
    </testcase>
    <testcase classname="rfc-2019.check" name="conservation: every frame is accounted for exactly once"/>
    <testcase classname="rfc-2019.check" name="expect: ends.transmitted is 10">
      <failure type="expect" message="redirect/xdp1/host: ends.transmitted is 0, not 10 (and 1 more)">redirect/xdp1/host: ends.transmitted is 0, not 10
bridge/xdp1/host: ends.transmitted is 0, not 10</failure>
    </testcase>
  </testsuite>
</testsuites>
`,
    );
  });

  it('has an error for what failed, and skips what was not started', () => {
    const text = new JunitReporter().render(failedResult());
    expect(text).toContain('<testsuites name="xdpbed" tests="4" failures="1" errors="2">');
    expect(text).toContain('errors="2" skipped="1">\n    <properties>');
    const cases = text.split('<testcase ').slice(1);
    expect(cases[0]).toMatch(
      /^classname="rfc-2019.run" name="redirect\/xdp1\/host">\n\s+<error type="leftovers" message="interface tap0 is still there">clean-up: interface tap0 is still there \[leftovers\]<\/error>\n\s+<system-out>/,
    );
    expect(cases[1]).toBe(`classname="rfc-2019.run" name="redirect/xdp2/host">
      <error type="plugin-failed" message="plugin executor wasm failed in run: out of order">plugin executor wasm failed in run: out of order [plugin-failed]
hint: use the interpreter</error>
    </testcase>
    `);
    expect(cases[2]).toContain('<skipped message="a run before it failed"/>');
    const both = {
      ...failedResult(),
      runs: [],
      failures: [RUN_FAILURE, { ...RUN_FAILURE, message: 'stuck' }],
    };
    expect(new JunitReporter().render(both)).toContain('out of order (and 1 more)"');
  });

  it('says why a check must hold, when it does not', () => {
    const text = new JunitReporter().render(
      exampleResult([exampleRun()], [{ ...FAILED_CHECK, why: 'alice pays for two' }]),
    );
    expect(text).toMatch(/<failure [^>]*>[^<]*\nwhy: alice pays for two<\/failure>/);
  });

  it('has an error for the run that was interrupted, and skips those behind it', () => {
    const text = new JunitReporter().render(interruptedResult());
    expect(text).toContain('<testsuites name="xdpbed" tests="4" failures="1" errors="1">');
    expect(text).toContain('errors="1" skipped="1">');
    const cases = text.split('<testcase ').slice(1);
    expect(cases[1]).toContain('name="redirect/xdp2/host"');
    expect(cases[1]).toContain('<error type="interrupted" message="the run was interrupted">');
    expect(cases[2]).toContain('<skipped message="a run before it was interrupted"/>');
  });

  it('says in a run what was not attached and what was refused', () => {
    const text = new JunitReporter().render(exampleResult([refusedRun()]));
    expect(text).toContain('xdp1 not attached at guest0.eth0: offload failed: EPERM');
    expect(text).toContain('guest0.eth0 EBPF_PROG/SET_OFFLOAD: denied: by quota');
  });

  it.each(Object.keys(exampleResults()))('is well-formed: %s', (what) => {
    const text = new JunitReporter().render(exampleResults()[what]!);
    expect(() => assertWellFormed(text)).not.toThrow();
  });

  it('has a check that can fail', () => {
    for (const text of ['<a>', '<a></b>', '<a>&</a>', '<a b="<"/>', '<a b="&"/>', '</a>']) {
      expect(() => assertWellFormed(text), text).toThrow();
    }
  });
});

describe('escapeXml', () => {
  it('escapes markup and replaces what XML cannot hold', () => {
    expect(escapeXml(HOSTILE_TEXT)).toBe(
      '\ufffd[31mred\ufffd[0m &lt;/x&gt;&amp;&quot;&apos;,;&#13;\n\t\ufffd\ufffd&#127;&#133;&#155;2J&#8238;gpj&#8294;&#8232; end',
    );
    expect(escapeXml('\ufffe\uffff é 中 😀')).toBe('\ufffd\ufffd é 中 😀');
  });

  it('keeps white space in attributes', () => {
    expect(element('a', { b: 'x\ty\nz' })).toEqual(['<a b="x&#9;y&#10;z"/>']);
  });
});
