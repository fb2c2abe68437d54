import { XdpbedError, formatLocation } from '../diagnostic.js';
import type { Assignment } from './matrix.js';
import type { Violation } from './schema-validator.js';
import type { Problem, YamlPath, YamlSource } from './yaml-source.js';

/** Problems that are told of one testbed. */
const MAX_PROBLEMS = 100;

/**
 * Collects the problems of a testbed and gives each its place: in the file, at the matrix entry that set the
 * value, or in the `--set` argument. A problem that several variants share is told once.
 */
export class ProblemList {
  readonly #problems = new Map<string, Problem>();
  readonly #warnings = new Map<string, Problem>();
  #assignments: readonly Assignment[] = [];
  #originOfPath: (path: YamlPath) => YamlPath = (path) => path;

  constructor(readonly source: YamlSource) {
    for (const problem of source.problems) this.#add(problem);
  }

  get count(): number {
    return this.#problems.size;
  }

  /** No more are taken: whoever looks for problems can stop. */
  get full(): boolean {
    return this.#problems.size >= MAX_PROBLEMS;
  }

  /** In the order of the file. */
  get problems(): Problem[] {
    return inOrder(this.#problems);
  }

  /** What ends nothing, in the order of the file. */
  get warnings(): Problem[] {
    return inOrder(this.#warnings);
  }

  /**
   * From here on, values under these paths were put there by these assignments.
   *
   * @param originOfPath where what is at a path stands in the file, if it is elsewhere
   */
  within(assignments: readonly Assignment[], originOfPath = (path: YamlPath): YamlPath => path): void {
    this.#assignments = assignments;
    this.#originOfPath = originOfPath;
  }

  report(path: YamlPath, message: string, hint?: string, onKey = false): void {
    if (this.full) return;
    this.#add({ at: this.#locate(path, onKey), message, ...(hint === undefined ? {} : { hint }) });
  }

  /** As `report`, of what is allowed and still hardly what was meant. */
  warn(path: YamlPath, message: string, hint?: string, onKey = false): void {
    if (this.#warnings.size >= MAX_PROBLEMS) return;
    const warning = { at: this.#locate(path, onKey), message, ...(hint === undefined ? {} : { hint }) };
    this.#warnings.set(keyOf(warning), warning);
  }

  /** Problems of another file, which the testbed names. */
  take(problems: readonly Problem[]): void {
    for (const problem of problems) this.#add(problem);
  }

  reportAssignment(assignment: Assignment, message: string): void {
    this.#add({ at: this.#originOf(assignment, true), message });
  }

  reportViolation(violation: Violation, prefix: YamlPath = []): void {
    this.report([...prefix, ...violation.path], violation.message, violation.hint, violation.onKey);
  }

  /** Throws `testbed-invalid` with every problem as one line each, if there are any. */
  throwIfAny(): void {
    if (this.#problems.size === 0) return;
    throw new TestbedError(this.problems, this.full);
  }

  #locate(copy: YamlPath, onKey: boolean): Problem['at'] {
    const path = this.#originOfPath(copy);
    const dotted = path.join('.');
    // The last one wins, as it did when the values were assigned.
    const assignment = this.#assignments.findLast(
      ({ path: set }) => dotted === set || dotted.startsWith(`${set}.`),
    );
    if (assignment !== undefined) return this.#originOf(assignment, false);
    return onKey ? this.source.locateKey(path) : this.source.locate(path);
  }

  #originOf(assignment: Assignment, onKey: boolean): Problem['at'] {
    const { origin } = assignment;
    if (origin.kind === 'matrix')
      return onKey ? this.source.locateKey(origin.at) : this.source.locate(origin.at);
    return { file: `--set ${origin.text}`, line: 1, col: onKey ? 1 : assignment.path.length + 2 };
  }

  #add(problem: Problem): void {
    const key = keyOf(problem);
    if (!this.full && !this.#problems.has(key)) this.#problems.set(key, problem);
  }
}

const keyOf = ({ at, message }: Problem): string => `${formatLocation(at)} ${message}`;

const inOrder = (problems: ReadonlyMap<string, Problem>): Problem[] =>
  [...problems.values()].sort((a, b) => a.at.line - b.at.line || a.at.col - b.at.col);

/** All problems of a testbed file at once; `truncated`: there may be more than these. */
export class TestbedError extends XdpbedError {
  constructor(
    readonly problems: readonly Problem[],
    readonly truncated = false,
  ) {
    super('testbed-invalid', problems.map(formatProblem).join('\n'), { at: problems[0]!.at });
  }
}

/** `file:line:col: message (hint)`. */
export function formatProblem(problem: Problem): string {
  const hint = problem.hint === undefined ? '' : ` (${problem.hint})`;
  return `${formatLocation(problem.at)}: ${problem.message}${hint}`;
}
