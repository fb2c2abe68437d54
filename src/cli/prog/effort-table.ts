import { listing } from '../../bpf/disassembler.js';
import type { LineInfo } from '../../bpf/btf/btf-ext.js';
import { formatSourceLine, type ProgramSpec } from '../../bpf/program.js';
import { printableLine } from '../../core/printable.js';
import type { Verification } from '../../core/contract/verifier.js';

/** Source lines that are shown: those that took most. */
const MOST_LINES = 20;
const WIDTH = 10;

/** A verifier that counted, and how often it simulated each insn. */
interface Counts {
  readonly verifier: string;
  readonly visits: readonly number[];
}

/**
 * Where verifiers spend their effort, side by side: how often each simulated the insns of a source line, or, `byInsn` or where
 * there is no line info, each insn. A path that is pruned at an insn has not simulated it.
 */
export function renderEffort(
  program: ProgramSpec,
  verifications: readonly Verification[],
  byInsn: boolean,
): string {
  const counts = verifications.flatMap(({ verifier, statistics: { visits } }) =>
    visits === undefined ? [] : [{ verifier, visits }],
  );
  const silent = verifications.filter(({ statistics }) => statistics.visits === undefined);
  const lines = silent.map(({ verifier }) => `  ${verifier}: insns were not counted`);
  if (counts.length > 0) {
    const hasLines = program.debug?.lines.some(({ line }) => line > 0) === true;
    lines.push('', ...(byInsn || !hasLines ? insnRows(program, counts) : lineRows(program, counts)));
  }
  return `${lines.map(printableLine).join('\n')}\n`;
}

function insnRows(program: ProgramSpec, counts: readonly Counts[]): string[] {
  const rows = [`${header(counts)}  insn`];
  const options = { references: program.references, functions: program.debug?.functions };
  for (const text of listing(program.insns, { ...options, lines: program.debug?.lines })) {
    const slot = /^ *(\d+): /.exec(text)?.[1];
    const numbers = slot === undefined ? undefined : counts.map(({ visits }) => visits[Number(slot)] ?? 0);
    rows.push(`${numbers === undefined ? blank(counts) : row(numbers)}  ${text}`);
  }
  return rows;
}

function lineRows(program: ProgramSpec, counts: readonly Counts[]): string[] {
  const sums = sumsByLine(program, counts);
  const shown = [...sums]
    .sort((a, b) => Math.max(...b.numbers) - Math.max(...a.numbers))
    .slice(0, MOST_LINES);
  const left = sums.length - shown.length;
  const all = counts.map(({ visits }) => visits.reduce((sum, visit) => sum + visit, 0));
  return [
    `${header(counts)}  source line${left > 0 ? ` (of ${sums.length}, those that took most)` : ''}`,
    ...shown.map(({ line, numbers }) => `${row(numbers)}  ${sourceOf(line)}`),
    `${row(all)}  all insns`,
  ];
}

/** How often the insns of a line were simulated, wherever the compiler put them; line 0 is of no line in particular. */
interface LineSums {
  readonly line: LineInfo | undefined;
  readonly numbers: number[];
}

function sumsByLine({ insns, debug }: ProgramSpec, counts: readonly Counts[]): LineSums[] {
  const sums = new Map<string, LineSums>();
  const infos = debug?.lines ?? [];
  let next = 0;
  let line: LineInfo | undefined;
  for (let slot = 0; slot < insns.length; slot++) {
    while (next < infos.length && infos[next]!.insn <= slot) line = infos[next++];
    const key = line === undefined || line.line === 0 ? '' : `${line.file}:${line.line}`;
    let entry = sums.get(key);
    if (entry === undefined) {
      entry = { line: key === '' ? undefined : line, numbers: counts.map(() => 0) };
      sums.set(key, entry);
    }
    counts.forEach(({ visits }, index) => (entry.numbers[index]! += visits[slot] ?? 0));
  }
  return [...sums.values()].filter(({ numbers }) => numbers.some((number) => number > 0));
}

function sourceOf(line: LineInfo | undefined): string {
  return line === undefined ? 'insns that are of no source line' : formatSourceLine(line);
}

/** Of two, how much the first took more comes behind them. */
function header(counts: readonly Counts[]): string {
  const names = counts.map(({ verifier }) => verifier.padStart(WIDTH)).join(' ');
  return counts.length === 2 ? `${names} ${'difference'.padStart(WIDTH)}` : names;
}

function row(numbers: readonly number[]): string {
  const columns = numbers.map((number) => String(number).padStart(WIDTH)).join(' ');
  if (numbers.length !== 2) return columns;
  const difference = numbers[0]! - numbers[1]!;
  return `${columns} ${`${difference > 0 ? '+' : ''}${difference}`.padStart(WIDTH)}`;
}

function blank(counts: readonly Counts[]): string {
  return ' '.repeat(header(counts).length);
}
