import { describe, expect, it } from 'vitest';
import { exampleResult, exampleRun } from '../../src/conformance/reporter/index.js';
import type { AttackResult, RunResult } from '../../src/core/contract/result.js';
import { attackTables } from './attack-table.js';
import { TableReporter } from './table-reporter.js';

function attacked(attack: string, device: string, broken: AttackResult['broken'] = []): RunResult {
  const held = broken.length === 0;
  const result = { node: 'm.eth0', attack, device, held, aims: ['no-leak'], broken, detail: '' };
  return { ...exampleRun(`${attack}/${device}`), attacks: [result] };
}

describe('the table of attacks', () => {
  it('is not there when nobody attacked', () => {
    expect(attackTables(exampleResult([exampleRun('a')]), false)).toEqual([]);
  });

  it('has a row for each attack and a column for each device, and says what did not hold', () => {
    const leak = { invariant: 'no-leak', what: 'it got 7 bytes' };
    const reset = { invariant: 'reset-frees', what: 'one map is left' };
    const [table] = attackTables(
      exampleResult([
        attacked('peek', 'strong'),
        attacked('peek', 'weak', [reset, leak]),
        attacked('poke', 'strong'),
        attacked('poke', 'weak', [reset]),
      ]),
      false,
    );
    const rows = table!.split('\n').filter((line) => line.startsWith('│'));
    const cells = rows.map((row) =>
      row
        .split('│')
        .slice(1, -1)
        .map((text) => text.trim()),
    );
    expect(cells).toEqual([
      ['attack', 'strong', 'weak'],
      ['peek', 'fails', 'succeeds: it got 7 bytes'],
      ['poke', 'fails', 'misses its aim, but: reset-frees: one map is left'],
    ]);
  });

  it('stands in for the table of runs and for what was refused, where all runs are attacks', () => {
    const audit = exampleRun('a').audit.concat({
      time: 0,
      guest: 'm',
      nic: 'eth0',
      command: 'EBPF_MAP',
      outcome: 'error-ack',
      reason: 'malformed: one of many',
    });
    const run = { ...attacked('peek', 'strong'), audit };
    const text = new TableReporter().render(exampleResult([run]), { color: false });
    expect(text).toContain('│ peek');
    expect(text).not.toContain('one of many');
    const both = new TableReporter().render(exampleResult([run, { ...exampleRun('b'), audit }]), {
      color: false,
    });
    expect(both).toContain('one of many');
  });
});
