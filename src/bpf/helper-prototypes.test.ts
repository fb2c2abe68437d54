import { expect, it } from 'vitest';
import { helperName } from './helper-ids.js';
import { XDP_HELPER_PROTOTYPES } from './helper-prototypes.js';

// A verifier checks memory together with the size that follows it: without one it would not be checked at all.
it.each(
  [...XDP_HELPER_PROTOTYPES.values()].map((prototype) => [helperName(prototype.id), prototype] as const),
)('memory for %s is followed by its size, and a size follows memory', (_, { args }) => {
  args.forEach((arg, index) => {
    if (arg.kind === 'memory') expect(args[index + 1]?.kind).toBe('size');
    if (arg.kind === 'size') expect(args[index - 1]?.kind).toBe('memory');
  });
});
