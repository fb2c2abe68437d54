import type { TSchema } from '@sinclair/typebox';
import { nearest } from '../nearest.js';
import type { YamlPath } from './yaml-source.js';

/** Runs that one testbed may expand to. */
export const MAX_RUNS = 4096;

/** The matrix as the testbed writes it: axis → variant → path → value. */
export type Matrix = Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, unknown>>>>>>;

/** One combination: a variant for each axis, and the assignments that they make. */
export interface Combination {
  readonly axes: Readonly<Record<string, string>>;
  readonly assignments: readonly Assignment[];
}

/** `path: value`, and where it is written, so that its problems are reported there. */
export interface Assignment {
  readonly path: string;
  readonly value: unknown;
  readonly origin: AssignmentOrigin;
}

export type AssignmentOrigin =
  | { readonly kind: 'matrix'; readonly at: YamlPath }
  /** `--set`; `text` is the whole argument. */
  | { readonly kind: 'command-line'; readonly text: string };

/** All combinations, the last axis fastest, in the order of the file. `only` keeps the named variants. */
export function expandMatrix(
  matrix: Matrix,
  only: Readonly<Record<string, readonly string[]>> = {},
): Combination[] {
  let combinations: Combination[] = [{ axes: {}, assignments: [] }];
  for (const [axis, variants] of Object.entries(matrix)) {
    const wanted = Object.hasOwn(only, axis) ? only[axis]! : Object.keys(variants);
    combinations = combinations.flatMap((combination) =>
      Object.entries(variants)
        .filter(([variant]) => wanted.includes(variant))
        .map(([variant, values]) => ({
          axes: { ...combination.axes, [axis]: variant },
          assignments: [
            ...combination.assignments,
            ...Object.entries(values).map(([path, value]): Assignment => ({
              path,
              value,
              origin: { kind: 'matrix', at: ['matrix', axis, variant, path] },
            })),
          ],
        })),
    );
  }
  return combinations;
}

export function combinationCount(matrix: Matrix): number {
  return Object.values(matrix).reduce((count, variants) => count * Object.keys(variants).length, 1);
}

/**
 * The paths that a path with `*` for a step stands for: one for each member that the map or list there has. None when
 * there is nothing of the kind; a path without `*` stands for itself.
 */
export function expandPath(data: unknown, path: string): string[] {
  const steps = path.split('.');
  if (!steps.includes('*')) return [path];
  let found: { readonly node: unknown; readonly path: readonly string[] }[] = [{ node: data, path: [] }];
  for (const step of steps) {
    found = found.flatMap(({ node, path: walked }) => {
      const members = typeof node === 'object' && node !== null ? (node as Record<string, unknown>) : {};
      const names = step === '*' ? Object.keys(members) : [step];
      return names.map((name) => ({
        node: Object.hasOwn(members, name) ? members[name] : undefined,
        path: [...walked, name],
      }));
    });
  }
  return found.map(({ path: walked }) => walked.join('.'));
}

/**
 * Puts a value at a dotted path of plain data. A string says why it cannot: a step that is not there, or is no
 * map or list. Besides the last, a step may be new where the schema has a section of that name: it then starts
 * as the schema's default.
 */
export function assign(data: unknown, path: string, value: unknown, schema: TSchema): string | undefined {
  const steps = path.split('.');
  let node: unknown = data;
  let shape: TSchema | undefined = schema;
  for (const [index, step] of steps.entries()) {
    const last = index === steps.length - 1;
    if (typeof node !== 'object' || node === null) {
      return `'${steps.slice(0, index).join('.')}' is not a map or list`;
    }
    if (step === '' || step === '__proto__') return `'${path}' is not a path`;
    const container = node as Record<string, unknown>;
    if (last) {
      if (Array.isArray(node) && !(/^\d+$/.test(step) && Number(step) < node.length))
        return `the list has no item ${step}`;
      container[step] = structuredClone(value);
      return undefined;
    }
    shape = (shape?.properties as Record<string, TSchema> | undefined)?.[step];
    if (!Object.hasOwn(container, step) && shape?.type === 'object') {
      container[step] = structuredClone((shape.default as object | undefined) ?? {});
    }
    // What may be in a plugin's config its own schema knows, which is asked later.
    if (!Object.hasOwn(container, step) && steps.indexOf('config') < index && steps.includes('config')) {
      container[step] = {};
    }
    if (!Object.hasOwn(container, step)) {
      const near = nearest(step, Object.keys(container));
      return `there is no '${steps.slice(0, index + 1).join('.')}'${near === undefined ? '' : `; did you mean '${near}'?`}`;
    }
    node = container[step];
  }
  return undefined;
}
