import { formatInsn } from '../../bpf/disassembler.js';
import { insnSlots, type ProgramCoverage } from './coverage-collector.js';
import {
  branchAt,
  coverageTotals,
  isBranch,
  sourceCoverage,
  type BranchCoverage,
  type CoverageTotal,
  type FileCoverage,
  type LineCoverage,
  type WayCoverage,
} from './source-coverage.js';

const COUNT_WIDTH = 9;
/** In place of a count, as gcov writes them: what never ran, and what cannot. */
const NEVER = '#####';
const UNREACHABLE = '-----';

/**
 * Coverage for people: each source line that made insns with how often it ran, and below it the ways of its branches
 * that no case took; insn by insn for programs without line info; then what that comes to.
 */
export function formatCoverage(programs: readonly ProgramCoverage[]): string {
  const files = sourceCoverage(programs);
  const bare = programs.filter(({ program }) => (program.debug?.lines.length ?? 0) === 0);
  const parts = [...files.map(formatFile), ...bare.map(formatProgram)];
  if (files.length > 0) parts.push(formatTotals(files));
  return parts.join('\n');
}

function formatFile(file: FileCoverage): string {
  const lines: string[] = [file.file];
  const width = Math.max(4, ...file.lines.map(({ line }) => String(line).length));
  let before = 0;
  for (const line of file.lines) {
    const starting = file.functions.filter((each) => each.line > before && each.line <= line.line);
    for (const { name, count, unreachable } of starting) {
      const calls = unreachable ? 'no path leads to it' : `called ${times(count)}`;
      lines.push(`${''.padStart(COUNT_WIDTH)}  ${''.padStart(width)}  ${name}: ${calls}`);
    }
    before = line.line;
    lines.push(`${countOf(line).padStart(COUNT_WIDTH)}  ${String(line.line).padStart(width)}  ${line.text}`);
    const indent = `${''.padStart(COUNT_WIDTH)}  ${''.padStart(width)}    `;
    for (const text of missedWays(file.file, line)) lines.push(`${indent}${text}`);
  }
  return `${lines.join('\n')}\n`;
}

function countOf({ count, unreachable }: Pick<LineCoverage, 'count' | 'unreachable'>): string {
  return unreachable ? UNREACHABLE : count === 0 ? NEVER : String(count);
}

/** Ways not taken, of branches that ran: of one that never ran, the line says enough. */
function missedWays(file: string, { branches }: LineCoverage): string[] {
  return branches.flatMap(({ taken, fallThrough, insn, text }) => {
    if (taken.count + fallThrough.count === 0) return [];
    const missed = (way: WayCoverage, what: string): string[] =>
      way.count > 0 || !way.possible ? [] : [`! ${neverTo(file, way)}insn ${insn}, ${text}, is ${what}`];
    return [...missed(taken, 'never taken'), ...missed(fallThrough, 'always taken')];
  });
}

function neverTo(from: string, { to }: WayCoverage): string {
  if (to === undefined) return '';
  const { file, line, text } = to;
  return `never goes to ${file === from ? 'line ' : `${file.split('/').at(-1)}:`}${line} \`${text}\`: `;
}

function formatProgram(coverage: ProgramCoverage): string {
  const { program, counts, unreachable } = coverage;
  const lines = [`program ${program.name}, which has no line info: its insns`];
  let [hit, found] = [0, 0];
  const branches: BranchCoverage[] = [];
  for (const slot of insnSlots(program)) {
    const count = counts.executed[slot]!;
    const dead = unreachable.has(slot);
    if (!dead) found++;
    if (count > 0) hit++;
    const text = formatInsn(program.insns, slot, { references: program.references });
    lines.push(
      `${countOf({ count, unreachable: dead }).padStart(COUNT_WIDTH)}  ${String(slot).padStart(4)}  ${text}`,
    );
    if (dead || !isBranch(program, slot)) continue;
    const branch = branchAt(coverage, slot);
    branches.push(branch);
    if (count === 0) continue;
    if (branch.taken.count === 0 && branch.taken.possible)
      lines.push(`${''.padStart(COUNT_WIDTH + 8)}! never taken`);
    if (branch.fallThrough.count === 0 && branch.fallThrough.possible)
      lines.push(`${''.padStart(COUNT_WIDTH + 8)}! always taken`);
  }
  const ways = branches
    .flatMap(({ taken, fallThrough }) => [taken, fallThrough])
    .filter(({ possible }) => possible);
  const taken = ways.filter(({ count }) => count > 0).length;
  lines.push(
    `insns ${share({ hit, found })}, branches ${share({ hit: taken, found: ways.length })} (of each both ways)`,
  );
  return `${lines.join('\n')}\n`;
}

function formatTotals(files: readonly FileCoverage[]): string {
  const named: [string, readonly FileCoverage[]][] = files.map((file) => [file.file, [file]]);
  if (files.length > 1) named.push(['all', files]);
  const rows = named.map(([name, of]): [string, string] => {
    const { lines, branches, functions } = coverageTotals(of);
    return [
      name,
      `lines ${share(lines)}, branches ${share(branches)} (of each both ways), functions ${share(functions)}`,
    ];
  });
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}\n`).join('');
}

function share({ hit, found }: CoverageTotal): string {
  const percent = found === 0 ? '' : ` (${(Math.floor((hit / found) * 1000) / 10).toFixed(1)} %)`;
  return `${hit} of ${found}${percent}`;
}

function times(count: number): string {
  return count === 0 ? 'never' : count === 1 ? 'once' : `${count} times`;
}
