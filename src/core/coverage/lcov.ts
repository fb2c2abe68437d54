import { printable } from '../printable.js';
import type { BranchCoverage, FileCoverage, WayCoverage } from './source-coverage.js';

/**
 * A tracefile of lcov (geninfo(1), FILES), which genhtml and editors read; empty where there are no files. Branch 0 of a
 * block is the jump that is taken, branch 1 going on behind it; ways and lines that the verifier says no path leads to are
 * left out, as they could never be covered.
 *
 * @param pathOf name of a source file as readers shall find it; by default as BTF has it
 */
export function formatLcov(
  files: readonly FileCoverage[],
  pathOf: (file: string) => string = (file) => file,
): string {
  return files.map((file) => `${recordOf(file, pathOf(file.file)).join('\n')}\n`).join('');
}

function recordOf(file: FileCoverage, path: string): string[] {
  const functions = file.functions.filter(({ unreachable }) => !unreachable);
  const lines = file.lines.filter(({ unreachable }) => !unreachable);
  const branches = lines.flatMap((line) =>
    line.branches.flatMap((branch, block) =>
      waysOf(branch).map((way) => ({ line: line.line, block, ...way })),
    ),
  );
  return [
    'TN:',
    // Names are the object's: a line feed in one would begin a record of its own.
    `SF:${printable(path)}`,
    ...functions.map(({ name, line }) => `FN:${line},${printable(name)}`),
    ...functions.map(({ name, count }) => `FNDA:${count},${printable(name)}`),
    `FNF:${functions.length}`,
    `FNH:${hits(functions)}`,
    ...branches.map(
      ({ line, block, number, runs, count }) =>
        // `-`: the jump itself never ran.
        `BRDA:${line},${block},${number},${runs === 0 ? '-' : count}`,
    ),
    `BRF:${branches.length}`,
    `BRH:${hits(branches)}`,
    ...lines.map(({ line, count }) => `DA:${line},${count}`),
    `LF:${lines.length}`,
    `LH:${hits(lines)}`,
    'end_of_record',
  ];
}

function waysOf({ taken, fallThrough }: BranchCoverage): { number: number; runs: number; count: number }[] {
  const runs = taken.count + fallThrough.count;
  const way = ({ possible, count }: WayCoverage, number: number) =>
    possible ? [{ number, runs, count }] : [];
  return [...way(taken, 0), ...way(fallThrough, 1)];
}

function hits(parts: readonly { readonly count: number }[]): number {
  return parts.filter(({ count }) => count > 0).length;
}
