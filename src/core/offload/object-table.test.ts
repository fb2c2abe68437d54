import { describe, expect, it } from 'vitest';
import type { BtfObject, MapObject, ObjectReference } from './device-object.js';
import { NO_USAGE, QuotaAccounts, type Charge } from './quota-accounts.js';
import { ObjectTable } from './object-table.js';

function setUp(options: ConstructorParameters<typeof ObjectTable>[0] = {}) {
  const accounts = new QuotaAccounts();
  /** What was closed, and `-name` for what lost its last name. */
  const closed: string[] = [];
  const table = new ObjectTable(options);
  // The table looks at nothing of an object but its kind and id.
  const addMap = (
    name: string,
    uses: readonly ObjectReference[] = [],
    close = () => void closed.push(name),
  ) => {
    const charge = accounts.charge('g', { maps: 1 });
    const added = table.add<MapObject>('map', {
      charge,
      uses,
      make: (id) => ({ kind: 'map', id, name }) as MapObject,
      close,
      unnamed: () => void closed.push(`-${name}`),
    });
    if (added === undefined) charge.release();
    return added;
  };
  const addBtf = (charge: Charge = accounts.charge('g', { btfMemory: 10 })) =>
    table.add<BtfObject>('btf', {
      charge,
      make: (id) => ({ kind: 'btf', id, name: '', bytes: new Uint8Array() }),
    });
  return { accounts, closed, table, addMap, addBtf };
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
      expect(table.get(handle), String(handle)).toBeUndefined();
      expect(table.free(handle)).toBe(false);
    }
    expect(table.find('map', mine.handle)).toBe(mine.object);
    expect(table.free(mine.handle)).toBe(true);
    expect(table.get(mine.handle)).toBeUndefined();
    expect(table.free(mine.handle)).toBe(false);
  });

  it('keeps a freed object, and its charge, until what uses it is gone', () => {
    const { table, addMap, closed, accounts } = setUp();
    const used = addMap('used')!;
    const user = addMap('user', [table.hold('map', used.handle)!])!;
    table.free(used.handle);
    expect(closed).toEqual(['-used']);
    expect(accounts.usageOf('g')).toEqual({ ...NO_USAGE, maps: 2 });
    expect(table.usage).toEqual(accounts.usageOf('g'));
    table.free(user.handle);
    expect(closed).toEqual(['-used', '-user', 'user', 'used']);
    expect(accounts.guests).toEqual([]);
    expect(table.size).toBe(0);
  });

  it('keeps what is held until it is let go of, however often that is said', () => {
    const { table, addMap, closed } = setUp();
    const { handle } = addMap('m')!;
    const first = table.hold('map', handle)!;
    const second = table.hold('map', handle)!;
    table.free(handle);
    first.release();
    first.release();
    expect(closed).toEqual(['-m']);
    second.release();
    expect(closed).toEqual(['-m', 'm']);
  });

  it('gives several handles for one object, which goes with the last', () => {
    const { table, addMap, closed, accounts } = setUp();
    const { handle, object } = addMap('m')!;
    const second = table.open(object)!;
    expect(second).not.toBe(handle);
    table.free(handle);
    expect(table.get(handle)).toBeUndefined();
    expect(table.get(second)).toBe(object);
    expect(closed).toEqual([]);
    expect(accounts.usageOf('g').maps, 'charged once').toBe(1);
    table.free(second);
    expect(closed).toEqual(['-m', 'm']);
    expect(table.open(object), 'what is gone').toBeUndefined();
  });

  it('has no more handles than slots, however few objects', () => {
    const { table, addMap } = setUp({ capacity: 3 });
    const { object } = addMap('m')!;
    expect(table.open(object)).toBeDefined();
    expect(table.open(object)).toBeDefined();
    expect(table.open(object)).toBeUndefined();
    expect(table.hasRoom).toBe(false);
  });

  it('keeps what is pinned, lists pins in order, and gives a name away once', () => {
    const { table, addMap, closed } = setUp();
    const { handle, object } = addMap('m')!;
    table.pin('b', object);
    table.pin('a', object);
    table.free(handle);
    expect(closed).toEqual([]);
    expect(table.pinned('a')).toBe(object);
    expect(table.isPinned('c')).toBe(false);
    expect([table.pinAfter(''), table.pinAfter('a'), table.pinAfter('b')]).toEqual(['a', 'b', undefined]);
    expect(table.unpin('a')).toBe(true);
    expect(table.unpin('a')).toBe(false);
    expect(closed).toEqual([]);
    table.unpin('b');
    expect(closed).toEqual(['-m', 'm']);
  });

  it('counts handles and pins as names, whatever they name', () => {
    const { table, addMap, addBtf } = setUp();
    expect(table.nameCount).toBe(0);
    const { handle, object } = addMap('m')!;
    addBtf();
    table.pin('a', object);
    table.pin('b', object);
    const again = table.open(object)!;
    expect(table.nameCount).toBe(5);
    table.free(handle);
    table.unpin('a');
    expect(table.nameCount).toBe(3);
    table.free(again);
    table.freeAll();
    expect(table.nameCount).toBe(0);
  });

  it('says each time that an object has lost its last name', () => {
    const { table, addMap, closed } = setUp();
    const { handle, object } = addMap('m')!;
    const reference = table.holdObject(object);
    table.free(handle);
    table.free(table.open(object)!);
    expect(closed).toEqual(['-m', '-m']);
    reference.release();
    expect(closed).toEqual(['-m', '-m', 'm']);
  });

  it('numbers objects by kind, from 1, and never again', () => {
    const { table, addMap, addBtf } = setUp();
    const first = addMap('m')!;
    const second = addMap('m')!;
    expect([first.object.id, second.object.id, addBtf()!.object.id]).toEqual([1, 2, 1]);
    expect([table.idAfter('map', 0), table.idAfter('map', 1), table.idAfter('map', 2)]).toEqual([
      1,
      2,
      undefined,
    ]);
    table.free(second.handle);
    expect(table.idAfter('map', 1)).toBeUndefined();
    expect(addMap('m')!.object.id).toBe(3);
    expect(table.byId('map', 3)).toBeDefined();
    expect(table.byId('map', 2)).toBeUndefined();
    expect(table.byId('program', 1)).toBeUndefined();
  });

  it('does not take a handle of one kind for another', () => {
    const { table, addBtf } = setUp();
    const { handle } = addBtf()!;
    expect(table.find('map', handle)).toBeUndefined();
    expect(table.hold('map', handle)).toBeUndefined();
    expect(table.find('btf', handle)).toBeDefined();
  });

  it('goes on when closing fails', () => {
    const failures: unknown[] = [];
    const { table, accounts, addMap, closed } = setUp({ onCloseFailure: (error) => failures.push(error) });
    addMap('broken', [], () => {
      throw new Error('stuck');
    });
    addMap('m');
    table.freeAll();
    expect(failures).toHaveLength(1);
    expect(closed).toEqual(['-broken', '-m', 'm']);
    expect(accounts.totalUsage()).toEqual(NO_USAGE);
  });

  it('takes away handles and pins at once, and keeps only what is held', () => {
    const { table, addMap, closed, accounts } = setUp();
    const { object } = addMap('pinned')!;
    table.pin('p', object);
    const held = table.holdObject(addMap('held')!.object);
    table.freeAll();
    // First all names, then what has none.
    expect(closed).toEqual(['-pinned', '-held', 'pinned']);
    expect(table.pinCount).toBe(0);
    expect(table.pinned('p')).toBeUndefined();
    held.release();
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
