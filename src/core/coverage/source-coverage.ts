import { formatInsn } from '../../bpf/disassembler.js';
import { isConditionalJump, isUnconditionalJump, jumpTarget } from '../../bpf/jumps.js';
import { OP_EXIT } from '../../bpf/opcodes.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { FunctionInfo, LineInfo } from '../../bpf/btf/btf-ext.js';
import { insnSlots, type ProgramCoverage } from './coverage-collector.js';

/** One way that a conditional jump may go on. */
export interface WayCoverage {
  readonly count: number;
  /** False when the verifier says that no path goes there: it is then no way that a case could take. */
  readonly possible: boolean;
  /** Source line that it leads to: the first one that is not the jump's own. */
  readonly to: LineInfo | undefined;
}

/** A conditional jump. Copies of it in several programs (a static function that two of them call) are one. */
export interface BranchCoverage {
  /** Program and slot in which it was seen first. */
  readonly program: string;
  readonly insn: number;
  /** As disassembled, e.g. `if r1 > 0x5 goto pc+3`. */
  readonly text: string;
  readonly taken: WayCoverage;
  readonly fallThrough: WayCoverage;
}

export interface LineCoverage {
  readonly line: number;
  /** The source text, trimmed; of BTF, so that no source file is needed. */
  readonly text: string;
  /** Runs of its insn that ran most, added up over the programs that the line is in. */
  readonly count: number;
  /** The verifier says that no path leads to any of its insns. */
  readonly unreachable: boolean;
  readonly branches: readonly BranchCoverage[];
}

export interface FunctionCoverage {
  readonly name: string;
  /** Line of its first insn. */
  readonly line: number;
  /** Calls of it, added up over the programs that it is in. */
  readonly count: number;
  /** The verifier says that no path leads to it. */
  readonly unreachable: boolean;
}

export interface FileCoverage {
  /** As the compiler wrote it into BTF: absolute, or from the folder in which it ran. */
  readonly file: string;
  /** Those that made insns, ascending. */
  readonly lines: readonly LineCoverage[];
  /** By line. */
  readonly functions: readonly FunctionCoverage[];
}

/** How many of what can be reached was. A branch counts each of its ways. */
export interface CoverageTotals {
  readonly lines: CoverageTotal;
  readonly branches: CoverageTotal;
  readonly functions: CoverageTotal;
}

export interface CoverageTotal {
  readonly hit: number;
  readonly found: number;
}

interface MutableWay {
  count: number;
  possible: boolean;
  to: LineInfo | undefined;
}
interface MutableBranch {
  program: string;
  insn: number;
  text: string;
  taken: MutableWay;
  fallThrough: MutableWay;
}
interface MutableLine {
  text: string;
  count: number;
  unreachable: boolean;
  branches: Map<string, MutableBranch>;
}
interface MutableFile {
  lines: Map<number, MutableLine>;
  functions: Map<string, { name: string; line: number; count: number; unreachable: boolean }>;
}

/** Coverage by source file, of the programs that have line info; files in order of their names. */
export function sourceCoverage(programs: readonly ProgramCoverage[]): FileCoverage[] {
  const files = new Map<string, MutableFile>();
  for (const coverage of programs) addProgram(files, coverage);
  return [...files]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([file, { lines, functions }]) => ({
      file,
      lines: [...lines]
        .sort(([a], [b]) => a - b)
        .map(([line, { branches, ...rest }]) => ({ line, ...rest, branches: [...branches.values()] })),
      functions: [...functions.values()].sort((a, b) => a.line - b.line),
    }));
}

function addProgram(files: Map<string, MutableFile>, coverage: ProgramCoverage): void {
  const { program, counts, unreachable } = coverage;
  /** The most that one insn of a line ran in this program. */
  const most = new Map<MutableLine, number>();
  for (const slot of insnSlots(program)) {
    const info = lineOfInsn(program, slot);
    if (info === undefined) continue;
    const line = lineOf(files, info);
    most.set(line, Math.max(most.get(line) ?? 0, counts.executed[slot]!));
    if (unreachable.has(slot)) continue;
    line.unreachable = false;
    if (isBranch(program, slot)) addBranch(line, coverage, slot);
  }
  for (const [line, count] of most) line.count += count;
  for (const { insn, name } of program.debug?.functions ?? []) {
    const info = lineOfInsn(program, insn);
    if (info === undefined) continue;
    const { functions } = fileOf(files, info.file);
    const entry = functions.get(name) ?? { name, line: info.line, count: 0, unreachable: true };
    entry.count += counts.executed[insn]!;
    if (!unreachable.has(insn)) entry.unreachable = false;
    functions.set(name, entry);
  }
}

function fileOf(files: Map<string, MutableFile>, file: string): MutableFile {
  const entry = files.get(file) ?? { lines: new Map(), functions: new Map() };
  files.set(file, entry);
  return entry;
}

function lineOf(files: Map<string, MutableFile>, { file, line, text }: LineInfo): MutableLine {
  const { lines } = fileOf(files, file);
  const entry = lines.get(line) ?? { text, count: 0, unreachable: true, branches: new Map() };
  lines.set(line, entry);
  return entry;
}

/** Whether an insn is a conditional jump whose two ways are two. */
export function isBranch({ insns }: ProgramSpec, slot: number): boolean {
  const insn = insns[slot]!;
  return isConditionalJump(insn) && jumpTarget(slot, insn) !== slot + 1;
}

function addBranch(line: MutableLine, coverage: ProgramCoverage, slot: number): void {
  const { program } = coverage;
  const { name, insn: start } = functionAt(program, slot);
  const key = `${name}+${slot - start}`;
  const { taken, fallThrough } = branchAt(coverage, slot);
  const branch = line.branches.get(key);
  if (branch === undefined) {
    line.branches.set(key, { ...branchAt(coverage, slot) });
    return;
  }
  add(branch.taken, taken);
  add(branch.fallThrough, fallThrough);
}

function add(way: MutableWay, more: WayCoverage): void {
  way.count += more.count;
  way.possible ||= more.possible;
}

function functionAt({ name, debug }: ProgramSpec, slot: number): Pick<FunctionInfo, 'name' | 'insn'> {
  return debug?.functions.findLast(({ insn }) => insn <= slot) ?? { name, insn: 0 };
}

/** The conditional jump in a slot. */
export function branchAt({ program, counts, unreachable }: ProgramCoverage, slot: number): BranchCoverage {
  const taken = counts.taken[slot]!;
  const way = (target: number, count: number): MutableWay => ({
    count,
    possible: !unreachable.has(target),
    to: lineReached(program, slot, target),
  });
  const { insns, debug } = program;
  return {
    program: program.name,
    insn: slot,
    text: formatInsn(insns, slot, { functions: debug?.functions }),
    taken: way(jumpTarget(slot, insns[slot]!), taken),
    fallThrough: way(slot + 1, counts.executed[slot]! - taken),
  };
}

/**
 * The line that made an insn; undefined for an insn that a compiler made of several lines, which it says is of line 0. Such
 * an insn must not count for the line in front of it, which `sourceLineAt` would give.
 */
function lineOfInsn({ debug }: ProgramSpec, slot: number): LineInfo | undefined {
  const line = debug?.lines.findLast(({ insn }) => insn <= slot);
  return line === undefined || line.line === 0 ? undefined : line;
}

/**
 * The first line in the straight run of insns from `target` on that is not that of the jump in `slot`; undefined where
 * insns of several lines come before.
 */
function lineReached(program: ProgramSpec, slot: number, target: number): LineInfo | undefined {
  const { insns } = program;
  const own = lineOfInsn(program, slot);
  const seen = new Set<number>();
  for (let at = target; at < insns.length && !seen.has(at);) {
    seen.add(at);
    const line = lineOfInsn(program, at);
    if (line?.line !== own?.line || line?.file !== own?.file) return line;
    const insn = insns[at]!;
    if (isConditionalJump(insn) || insn.opcode === OP_EXIT) break;
    at = isUnconditionalJump(insn) ? jumpTarget(at, insn) : at + 1;
  }
  return undefined;
}

/** Of one file, or of several. */
export function coverageTotals(files: readonly FileCoverage[]): CoverageTotals {
  const lines = files.flatMap((file) => file.lines);
  const ways = lines
    .flatMap(({ branches }) => branches)
    .flatMap(({ taken, fallThrough }) => [taken, fallThrough]);
  return {
    lines: total(lines.filter(({ unreachable }) => !unreachable)),
    branches: total(ways.filter(({ possible }) => possible)),
    functions: total(files.flatMap((file) => file.functions).filter(({ unreachable }) => !unreachable)),
  };
}

function total(parts: readonly { readonly count: number }[]): CoverageTotal {
  return { hit: parts.filter(({ count }) => count > 0).length, found: parts.length };
}
