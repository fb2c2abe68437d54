import type { LineInfo } from '../../src/bpf/btf/btf-ext.js';
import type { Program } from '../../src/bpf/program.js';
import type { Hotspot, VerifierStatistics } from '../../src/core/contract/verifier.js';
import type { Budget } from './budget.js';
import { isConditional } from './control-flow.js';
import type { Exploration } from './exploration.js';

const MAX_HOTSPOTS = 10;

/** What the exploration cost and where: see VerifierStatistics. */
export function complexityReport(
  program: Program,
  budget: Budget,
  exploration: Exploration | undefined,
  { deterministic, visits }: { readonly deterministic: boolean; readonly visits: boolean },
): VerifierStatistics {
  return {
    processedInsns: budget.processedInsns,
    prunedPaths: exploration?.prunedPaths ?? 0,
    peakStates: exploration?.peakStates ?? 0,
    totalStates: exploration?.totalStates ?? 0,
    hotspots: exploration === undefined ? [] : hotspots(program, exploration),
    ...(visits && exploration !== undefined ? { visits: [...exploration.visits] } : {}),
    ...(deterministic ? {} : { milliseconds: budget.milliseconds }),
  };
}

function hotspots(program: Program, exploration: Exploration): Hotspot[] {
  const { visits, storedAt, flow } = exploration;
  const candidates: number[] = [];
  for (let insn = 0; insn < visits.length; insn++) {
    if (flow.prunePoints[insn] !== 0 && visits[insn]! > 1) candidates.push(insn);
  }
  candidates.sort((a, b) => storedAt[b]! - storedAt[a]! || visits[b]! - visits[a]! || a - b);
  return candidates.slice(0, MAX_HOTSPOTS).map((insn) => ({
    insn,
    visits: visits[insn]!,
    states: storedAt[insn]!,
    kind: kindOf(program, exploration, insn),
    ...lineOf(program, insn),
  }));
}

function kindOf(program: Program, exploration: Exploration, insn: number): Hotspot['kind'] {
  if (exploration.flow.loopHeads[insn] !== 0) return 'loop';
  const isFunction = exploration.flow.functions.includes(insn) && insn !== 0;
  if (isFunction || program.insns[insn]!.opcode === 0x85) return 'call';
  return isConditional(program.insns[insn]!) || !isFunction ? 'branch' : 'call';
}

function lineOf(program: Program, insn: number): { line?: LineInfo } {
  const line = findLine(program, insn);
  return line === undefined ? {} : { line };
}

/** The source line that made the insn: the last one that starts at or before it. */
export function findLine(program: Program, insn: number): LineInfo | undefined {
  const lines = program.debug?.lines;
  if (lines === undefined || lines.length === 0) return undefined;
  let low = 0;
  let high = lines.length - 1;
  let found: LineInfo | undefined;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const line = lines[middle]!;
    if (line.insn <= insn) {
      found = line;
      low = middle + 1;
    } else high = middle - 1;
  }
  return found;
}
