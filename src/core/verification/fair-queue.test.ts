import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairQueue } from './fair-queue.js';

/** Works that end when they are told to, and a record of what began and ended. */
class Works {
  readonly begun: string[] = [];
  readonly #ends = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();

  work(label: string): () => Promise<void> {
    return () => {
      this.begun.push(label);
      return new Promise((resolve, reject) => this.#ends.set(label, { resolve, reject }));
    };
  }

  async end(label: string, error?: Error): Promise<void> {
    const end = this.#ends.get(label)!;
    this.#ends.delete(label);
    if (error === undefined) end.resolve();
    else end.reject(error);
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

describe('a queue that lets work begin', () => {
  it('has no more under way than it may, and begins the next when one ends', async () => {
    const works = new Works();
    const queue = new FairQueue({ atOnce: 2, atOncePerName: 2 });
    for (const label of ['1', '2', '3']) void queue.run('a', undefined, works.work(label));
    await settle();
    expect(works.begun).toEqual(['1', '2']);
    expect(queue.waiting).toBe(1);
    await works.end('2');
    expect(works.begun).toEqual(['1', '2', '3']);
    expect(queue.waiting).toBe(0);
  });

  it('has no more of one name under way than it may, though there is room', async () => {
    const works = new Works();
    const queue = new FairQueue({ atOnce: 3, atOncePerName: 1 });
    for (const label of ['a1', 'a2', 'b1']) void queue.run(label[0]!, undefined, works.work(label));
    await settle();
    expect(works.begun).toEqual(['a1', 'b1']);
    await works.end('b1');
    expect(works.begun).toEqual(['a1', 'b1']);
    await works.end('a1');
    expect(works.begun).toEqual(['a1', 'b1', 'a2']);
  });

  it('takes turns: who has queued much waits no shorter for it', async () => {
    const works = new Works();
    const queue = new FairQueue({ atOnce: 1, atOncePerName: 1 });
    const labels = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'];
    for (const label of labels) void queue.run(label[0]!, undefined, works.work(label));
    await settle();
    for (let i = 0; i < labels.length; i++) await works.end(works.begun[i]!);
    expect(works.begun).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  it('goes on after work that failed', async () => {
    const works = new Works();
    const queue = new FairQueue({ atOnce: 1, atOncePerName: 1 });
    const first = queue.run('a', undefined, works.work('1'));
    void queue.run('a', undefined, works.work('2'));
    await settle();
    const told = expect(first).rejects.toThrow('no');
    await works.end('1', new Error('no'));
    await told;
    expect(works.begun).toEqual(['1', '2']);
  });

  it('forgets what was given up while it waited, and what was given up before', async () => {
    const works = new Works();
    const queue = new FairQueue({ atOnce: 1, atOncePerName: 1 });
    const abort = new AbortController();
    void queue.run('a', undefined, works.work('1'));
    const second = queue.run('a', abort.signal, works.work('2'));
    void queue.run('a', undefined, works.work('3'));
    const told = expect(second).rejects.toThrow('given up');
    abort.abort(new Error('given up'));
    await told;
    await expect(queue.run('a', abort.signal, works.work('4'))).rejects.toThrow('given up');
    expect(queue.waiting).toBe(1);
    await works.end('1');
    expect(works.begun).toEqual(['1', '3']);
    await works.end('3');
    expect(works.begun).toEqual(['1', '3']);
  });

  it('keeps its limits, loses nothing and keeps the order of each name, whatever comes', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('run' as const), name: fc.constantFrom('a', 'b', 'c') }),
      fc.record({ kind: fc.constant('end' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('give-up' as const), which: fc.nat() }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 60 }),
        async (atOnce, atOncePerName, steps) => {
          const queue = new FairQueue({ atOnce, atOncePerName });
          const works = new Works();
          const running: string[] = [];
          const aborts = new Map<string, AbortController>();
          const asked: string[] = [];
          const givenUp = new Set<string>();
          const end = async (label: string): Promise<void> => {
            running.splice(running.indexOf(label), 1);
            await works.end(label);
          };
          for (const each of steps) {
            if (each.kind === 'run') {
              const label = `${each.name}${asked.length}`;
              asked.push(label);
              const abort = new AbortController();
              aborts.set(label, abort);
              const work = works.work(label);
              void queue
                .run(each.name, abort.signal, () => {
                  running.push(label);
                  return work();
                })
                .catch(() => givenUp.add(label));
            } else if (each.kind === 'end') {
              if (running.length > 0) await end(running[each.which % running.length]!);
            } else if (asked.length > 0) {
              const label = asked[each.which % asked.length]!;
              if (!works.begun.includes(label)) aborts.get(label)!.abort(new Error('given up'));
            }
            await settle();
            expect(running.length).toBeLessThanOrEqual(atOnce);
            for (const name of ['a', 'b', 'c']) {
              const ofName = running.filter((label) => label.startsWith(name)).length;
              expect(ofName).toBeLessThanOrEqual(atOncePerName);
              // What waits does so because there is no room, in all or for its name.
              const waits = asked.some(
                (label) => label.startsWith(name) && !works.begun.includes(label) && !givenUp.has(label),
              );
              if (waits) expect(running.length === atOnce || ofName === atOncePerName).toBe(true);
            }
          }
          while (running.length > 0) await end(running[0]!);
          expect(queue.waiting).toBe(0);
          for (const name of ['a', 'b', 'c']) {
            const mine = (label: string): boolean => label.startsWith(name);
            expect(works.begun.filter(mine)).toEqual(
              asked.filter((label) => mine(label) && !givenUp.has(label)),
            );
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
