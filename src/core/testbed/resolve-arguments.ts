import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { Assignment } from './matrix.js';
import type { Testbed } from './testbed-schema.js';
import { YamlSource } from './yaml-source.js';

/** `path=value`; the value is YAML, so that numbers, lists and maps can be given. */
export function parseSetArgument(text: string): Assignment {
  const equals = text.indexOf('=');
  if (equals <= 0)
    throw new XdpbedError('usage', `--set '${text}' is not path=value`, {
      hint: '--set workload.config.frames=100',
    });
  const value = new YamlSource('--set', text.slice(equals + 1));
  if (value.problems.length > 0)
    throw new XdpbedError('usage', `--set '${text}': ${value.problems[0]!.message}`);
  return { path: text.slice(0, equals), value: value.value, origin: { kind: 'command-line', text } };
}

/** `axis=variant`, several variants with commas between them: those that are kept, by axis. */
export function parseOnlyArguments(
  args: readonly string[],
  matrix: NonNullable<Testbed['matrix']>,
): Record<string, string[]> {
  // An axis may be called `constructor`: what is looked up here is only what was put in.
  const only = Object.create(null) as Record<string, string[]>;
  for (const text of args) {
    const equals = text.indexOf('=');
    if (equals <= 0)
      throw new XdpbedError('usage', `--only '${text}' is not axis=variant`, { hint: '--only case=bridge' });
    const axis = text.slice(0, equals);
    const fail = (what: string, word: string, candidates: readonly string[]): never => {
      const near = nearest(word, candidates);
      throw new XdpbedError('usage', `--only '${text}': ${what}`, {
        hint:
          near !== undefined
            ? `did you mean '${near}'?`
            : candidates.length > 0
              ? `there are: ${candidates.join(', ')}`
              : 'the testbed has no matrix',
      });
    };
    if (!Object.hasOwn(matrix, axis))
      return fail(`the matrix has no axis '${axis}'`, axis, Object.keys(matrix));
    for (const variant of text.slice(equals + 1).split(',')) {
      if (!Object.hasOwn(matrix[axis]!, variant)) {
        return fail(`axis '${axis}' has no variant '${variant}'`, variant, Object.keys(matrix[axis]!));
      }
      (only[axis] ??= []).push(variant);
    }
  }
  return only;
}
