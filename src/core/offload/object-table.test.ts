import { describe, expect, it } from 'vitest';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { LoadedProgram } from '../contract/executor.js';
import { NO_USAGE, QuotaAccounts } from './quota-accounts.js';
import { ObjectTable } from './object-table.js';

const ATTRIBUTES = { type: 2, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 };

const SUMMARY = { insnCount: 5, helpers: [], mapTypes: [], gplCompatible: true };

function setUp(options: ConstructorParameters<typeof ObjectTable>[0] = {}) {
  const accounts = new QuotaAccounts();
  const closed: string[] = [];
  const table = new ObjectTable(options);
  const map = (name: string): BpfMap => ({ close: () => void closed.push(name) }) as unknown as BpfMap;
  const addMap = (name: string) => table.addMap(map(name), ATTRIBUTES, accounts.charge('g', { maps: 1 }));
  return { accounts, closed, table, addMap };
}

describe('object table', () => {
  it('never gives a handle twice, and none that could be a file descriptor', () => {
    const { table, addMap } = setUp();
    const seen = new Set<number>();
    for (let i = 0; i < 20_000; i++) {
      const { handle } = addMap('m')!;
      expect(handle).toBeGreaterThanOrEqual(4096);
      expect(handle).toBeLessThan(2 ** 31);
      expect(seen.has(handle)).toBe(false);
      seen.add(handle);
      if (i % 3 !== 0 || i > 2000) table.free(handle);
    }
  });

  it('retires a slot whose generations are used up', () => {
    const { table, addMap } = setUp({ capacity: 2, generations: 3 });
    const handles = Array.from({ length: 6 }, () => {
      const { handle } = addMap('m')!;
      table.free(handle);
      return handle;
    });
    expect(new Set(handles).size).toBe(6);
    expect(table.hasRoom).toBe(false);
    expect(addMap('m')).toBeUndefined();
  });

  it('does not find freed, forged or foreign handles', () => {
    const { table, addMap } = setUp();
    const other = setUp();
    const mine = addMap('m')!;
    for (let i = 0; i < 5; i++) other.addMap('x');
    const foreign = other.addMap('theirs')!;
    for (const handle of [0, 1, 3, 255, 4096 + 1, mine.handle + 4096, -1, NaN, 2 ** 32 - 1, foreign.handle]) {
      expect(table.map(handle), String(handle)).toBeUndefined();
      expect(table.free(handle)).toBe(false);
    }
    expect(table.map(mine.handle)).toBe(mine);
    expect(table.free(mine.handle)).toBe(true);
    expect(table.map(mine.handle)).toBeUndefined();
    expect(table.free(mine.handle)).toBe(false);
  });

  it('keeps a freed map, and its charge, until the program that uses it is gone', () => {
    const { table, addMap, closed, accounts } = setUp();
    const map = addMap('m')!;
    const reference = table.hold(map.handle)!;
    const program = { close: () => void closed.push('p') } as unknown as LoadedProgram;
    const charge = accounts.charge('g', { programs: 1, insns: 5 });
    const object = table.addProgram(
      { program, summary: SUMMARY, properties: undefined, tag: new Uint8Array(8), loadTime: 0, charge },
      [reference],
    )!;
    reference.release();
    reference.release();
    table.free(map.handle);
    expect(closed).toEqual([]);
    expect(accounts.usageOf('g')).toEqual({ ...NO_USAGE, maps: 1, programs: 1, insns: 5 });
    expect(table.usage).toEqual(accounts.usageOf('g'));
    table.free(object.handle);
    expect(closed).toEqual(['p', 'm']);
    expect(accounts.guests).toEqual([]);
    expect(table.size).toBe(0);
  });

  it('does not take a program’s handle for a map’s', () => {
    const { table, accounts } = setUp();
    const program = { close: () => {} } as unknown as LoadedProgram;
    const charge = accounts.charge('g', { programs: 1 });
    const { handle } = table.addProgram(
      { program, summary: SUMMARY, properties: undefined, tag: new Uint8Array(8), loadTime: 0, charge },
      [],
    )!;
    expect(table.map(handle)).toBeUndefined();
    expect(table.hold(handle)).toBeUndefined();
  });

  it('goes on when closing fails', () => {
    const failures: unknown[] = [];
    const { table, accounts, addMap, closed } = setUp({ onCloseFailure: (error) => failures.push(error) });
    const broken = {
      close: () => {
        throw new Error('stuck');
      },
    } as unknown as BpfMap;
    table.addMap(broken, ATTRIBUTES, accounts.charge('g', { maps: 1 }));
    addMap('m');
    table.freeAll();
    expect(failures).toHaveLength(1);
    expect(closed).toEqual(['m']);
    expect(accounts.totalUsage()).toEqual(NO_USAGE);
  });
});

describe('host accounts', () => {
  it('adds up by guest and in total, and releases once', () => {
    const accounts = new QuotaAccounts();
    const a = accounts.charge('a', { maps: 1, mapMemory: 100, entries: 4 });
    const b = accounts.charge('b', { maps: 2, mapMemory: 50 });
    expect(accounts.usageOf('a')).toMatchObject({ maps: 1, mapMemory: 100 });
    expect(accounts.totalUsage()).toMatchObject({ maps: 3, mapMemory: 150, entries: 4 });
    expect(accounts.usageOf('a', a)).toEqual(NO_USAGE);
    expect(accounts.totalUsage(a)).toMatchObject({ maps: 2, mapMemory: 50, entries: 0 });
    a.release();
    a.release();
    expect(accounts.guests).toEqual(['b']);
    b.release();
    expect(accounts.totalUsage()).toEqual(NO_USAGE);
  });
});
