import { nearest } from '../nearest.js';
import { setOwn } from '../own-property.js';
import { countValues, MAX_VALUES } from '../testbed/count-values.js';
import type { MapProblem } from '../testbed/map-values.js';
import type { YamlPath } from '../testbed/yaml-source.js';

/** Data of a cases file with a case for each row of a table. */
export interface ExpandedCases {
  readonly data: unknown;
  /** What is wrong with tables, where it is written. */
  readonly problems: readonly MapProblem[];
  /** Where what stands at a path of `data` is written in the file: in the cell, where it is all of the value. */
  readonly origin: (path: YamlPath) => YamlPath;
}

type Row = Readonly<Record<string, unknown>>;

/** `$name`, `${name}`, or `$$`, which is a `$`. */
const PLACEHOLDER = /\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g;
/** A text that is a placeholder and nothing else. */
const WHOLE = /^\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})$/;

function placeholder(text: string): string | undefined {
  const [, plain, braced] = WHOLE.exec(text) ?? [];
  return plain ?? braced;
}

/**
 * Replaces each case that has a table (`each`) by one case for each row: `$name`, or `${name}`, in any text of it is what the row says
 * under that name; a text that is this alone becomes the value itself, a number, say. Cases without a table are left as
 * they are. The data need not be valid, nor is what comes out when it was not.
 */
export function expandCases(data: unknown): ExpandedCases {
  const problems: MapProblem[] = [];
  const cases: unknown = isObject(data) ? data['cases'] : undefined;
  if (!Array.isArray(cases)) return { data, problems, origin: (path) => path };
  const origins: { readonly index: number; readonly row?: number; readonly template: unknown }[] = [];
  const expanded: unknown[] = [];
  let values = 0;
  cases.forEach((template: unknown, index) => {
    const rows = isObject(template) ? template['each'] : undefined;
    if (!Array.isArray(rows) || rows.length === 0 || !rows.every(isObject)) {
      origins.push({ index, template });
      expanded.push(template);
      return;
    }
    const { each: _, ...body } = template as Record<string, unknown>;
    values += rows.length * countValues(body);
    if (values > MAX_VALUES) {
      const message = `more than ${MAX_VALUES} values in the cases of all tables`;
      if (!problems.some((problem) => problem.message === message))
        problems.push({ path: ['cases', index, 'each'], message });
      return;
    }
    const isNamed = typeof body['name'] === 'string' && /\$\{?[A-Za-z_]/.test(body['name']);
    rows.forEach((row: Row, number) => {
      const filled = new Filling(row, problems).fill(body, ['cases', index]) as Record<string, unknown>;
      const name = filled['name'];
      if (typeof name === 'string' || typeof name === 'number')
        filled['name'] = isNamed ? String(name) : `${name} #${number + 1}`;
      origins.push({ index, row: number, template });
      expanded.push(filled);
    });
  });
  return {
    data: { ...(data as object), cases: expanded },
    problems,
    origin: (path) => {
      const [first, at, ...rest] = path;
      const found = first === 'cases' && at !== undefined ? origins[Number(at)] : undefined;
      if (found === undefined) return path;
      const cell = found.row === undefined ? undefined : cellOf(found.template, rest);
      return cell === undefined
        ? ['cases', found.index, ...rest]
        : ['cases', found.index, 'each', found.row!, cell];
    },
  };
}

/** The name that all of a value stands for, if it is a placeholder; the value may be around the path's end. */
function cellOf(template: unknown, path: YamlPath): string | undefined {
  let at = template;
  for (const step of path) {
    if (typeof at === 'string') break;
    if (typeof at !== 'object' || at === null) return undefined;
    at = (at as Record<string, unknown>)[String(step)];
  }
  return typeof at === 'string' ? placeholder(at) : undefined;
}

class Filling {
  constructor(
    readonly row: Row,
    readonly problems: MapProblem[],
  ) {}

  fill(value: unknown, path: YamlPath): unknown {
    if (typeof value === 'string') return this.#text(value, path);
    if (Array.isArray(value)) return value.map((item: unknown, index) => this.fill(item, [...path, index]));
    if (!isObject(value)) return value;
    const filled: Record<string, unknown> = {};
    for (const [key, inner] of Object.entries(value)) setOwn(filled, key, this.fill(inner, [...path, key]));
    return filled;
  }

  #text(text: string, path: YamlPath): unknown {
    const whole = placeholder(text);
    if (whole !== undefined) return this.#cell(whole, path);
    return text.replace(PLACEHOLDER, (_, plain: string | undefined, braced: string | undefined) => {
      const name = plain ?? braced;
      if (name === undefined) return '$';
      const cell = this.#cell(name, path);
      return typeof cell === 'string' ? cell : (JSON.stringify(cell) ?? '');
    });
  }

  #cell(name: string, path: YamlPath): unknown {
    if (Object.hasOwn(this.row, name)) return this.row[name];
    const near = nearest(name, Object.keys(this.row));
    this.problems.push({
      path,
      message: `the row has no '${name}'`,
      hint:
        near === undefined
          ? `it has ${Object.keys(this.row).join(', ')}; $$ is a $`
          : `did you mean '$${near}'?`,
    });
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
