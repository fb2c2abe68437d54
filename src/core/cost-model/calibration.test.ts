import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TestbedError } from '../testbed/problem-list.js';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { readCalibration } from './calibration.js';
import { costModel } from './cost-model.js';

const folder = new URL('../../../testbeds/calibration/', import.meta.url);
const files = readdirSync(folder);
const bytes = (name: string): Uint8Array => readFileSync(new URL(name, folder));
const changed = (from: RegExp, to: string): Uint8Array =>
  new TextEncoder().encode(new TextDecoder().decode(bytes('rfc-2019.yaml')).replace(from, to));

function problemsOf(content: Uint8Array): string[] {
  try {
    readCalibration('c.yaml', content);
  } catch (error) {
    if (error instanceof TestbedError)
      return error.problems.map(({ at, message }) => `${at.line}: ${message}`);
    throw error;
  }
  return [];
}

describe('calibration files', () => {
  it.each(files)('%s is one, and names six free parameters at most', (name) => {
    const { parameters } = readCalibration(name, bytes(name));
    const free = Object.values(parameters).filter((parameter) => parameter.free !== undefined);
    expect(free.length).toBeLessThanOrEqual(6);
  });

  it('are told what is wrong with them, and where', () => {
    expect(problemsOf(changed(/^ {2}nic-tx:\n.*\n.*\n/m, ''))[0]).toContain("'nic-tx'");
    expect(problemsOf(changed(/^ {2}nic-tx:$/m, '  nic-txx:')).join('\n')).toMatch(/nic-txx/);
    expect(problemsOf(changed(/value: 40$/m, 'value: -1'))).toHaveLength(1);
    expect(problemsOf(changed(/bpf_redirect_map/, 'bpf_redirect_mop'))).toHaveLength(1);
  });
});

describe('costModel', () => {
  const calibration = readCalibration('rfc-2019.yaml', bytes('rfc-2019.yaml'));

  it('has every value in whole picoseconds, frames or bytes', () => {
    const model = costModel(calibration, {
      'vhost-rx': 12.3456,
      'line-rate': 10,
      'vhost-poll-timeout': 1.5,
      'helper.bpf_map_lookup_elem': 0.25,
      'helper.default': 3,
    });
    const { of } = model;
    expect(of['vhost-rx']).toBe(12_346);
    // 10 Gbit/s are 0.8 ns a byte.
    expect(of['line-rate']).toBe(800);
    expect(of['vhost-poll-timeout']).toBe(1_500_000);
    expect(of['redirect-bulk']).toBe(16);
    expect(model.helper(BPF_FUNC.map_lookup_elem)).toBe(250);
    expect(model.helper(BPF_FUNC.ktime_get_ns)).toBe(3_000);
    expect(Object.values(of).every(Number.isInteger)).toBe(true);
  });

  it.each([
    [{ 'vhost-rxx': 1 }, "no parameter 'vhost-rxx'"],
    [{ 'helper.bpf_nothing': 1 }, "no parameter 'helper.bpf_nothing'"],
    [{ toString: 1 }, "no parameter 'toString'"],
    [{ 'vhost-rx': -1 }, 'costs are numbers from 0 on'],
    [{ 'line-rate': 0 }, 'nothing would arrive'],
  ])('refuses %j', (overrides, message) => {
    expect(() => costModel(calibration, overrides as Record<string, number>)).toThrow(message);
  });
});
