import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteQueue } from './byte-queue.js';

describe('a queue of bytes', () => {
  it('gives back what was put in, in order, whatever the pieces are', () => {
    const step = fc.oneof(
      fc.uint8Array({ maxLength: 9000 }).map((push) => ({ push })),
      fc.nat(12_000).map((take) => ({ take })),
      fc.nat(12_000).map((skip) => ({ skip })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const queue = new ByteQueue();
        let expected = Buffer.alloc(0);
        for (const each of steps) {
          if ('push' in each) {
            queue.push(each.push);
            expected = Buffer.concat([expected, each.push]);
          } else if ('take' in each) {
            expect(Buffer.compare(queue.take(each.take), expected.subarray(0, each.take))).toBe(0);
            expected = expected.subarray(each.take);
          } else {
            queue.skip(each.skip);
            expected = expected.subarray(each.skip);
          }
          expect(queue.length).toBe(expected.length);
          expect(Buffer.compare(queue.peek(), expected)).toBe(0);
        }
      }),
      { numRuns: 200, seed: 4 },
    );
  });

  it('takes a megabyte byte by byte', () => {
    const queue = new ByteQueue();
    for (let index = 0; index < 1 << 20; index++) queue.push(Uint8Array.of(index));
    expect(queue.length).toBe(1 << 20);
    expect(queue.take(1 << 20)[259]).toBe(3);
  });
});
