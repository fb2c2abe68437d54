import { BPF_PROG_TYPE_XDP, programTypeName } from '../../src/bpf/program.js';
import type { Hotspot, Verification, Verifier, VerifyRequest } from '../../src/core/contract/verifier.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { Budget, type Limits } from './budget.js';
import { complexityReport } from './complexity-report.js';
import type { AbstractVerifierConfig } from './config.js';
import { analyseControlFlow } from './control-flow.js';
import { makeRejection, trace, type Trace } from './explain.js';
import { Exploration, type ExplorationTools } from './exploration.js';
import { checkFunctionReferences } from './function-references.js';
import { checkMapReferences } from './map-references.js';
import { programProperties } from './properties.js';
import { type Finding, RejectSignal } from './reject-signal.js';
import type { RejectionCode } from './rejection-codes.js';
import { Simulation } from './simulation.js';
import { checkStackDepth } from './stack-depth.js';
import { StateLog } from './state-log.js';

const NAME = 'abstract';

/** Milliseconds between turns of the event loop. */
const MS_PER_SLICE = 10;

const UNTRACED: Trace = { registers: [], path: [] };

/**
 * Verifier by abstract interpretation: follows every path with what is known of each register and stack slot, and
 * accepts a program only if nothing it can do on any of them is unsafe. Bad programs are values, not throws.
 */
export class AbstractVerifier implements Verifier {
  readonly name = NAME;

  constructor(
    readonly config: AbstractVerifierConfig,
    readonly tools: ExplorationTools = {},
  ) {}

  async verify(request: VerifyRequest): Promise<Verification> {
    const { program, signal } = request;
    const budget = new Budget(this.#limits(request), request.limits?.clock);
    const wanted = { deterministic: this.config.deterministic, visits: request.visits === true };
    const log = request.log === true ? new StateLog(program) : undefined;
    let exploration: Exploration | undefined;
    let simulation: Simulation | undefined;
    try {
      this.#checkProgram(request);
      const flow = analyseControlFlow(program.insns);
      checkMapReferences(program.insns, request.maps);
      exploration = new Exploration(flow, budget, log, this.tools);
      simulation = new Simulation(program, flow, request.maps, this.config, exploration);
      exploration.attach(simulation);
      while (exploration.run(MS_PER_SLICE)) {
        await new Promise((resolve) => setImmediate(resolve));
        signal?.throwIfAborted();
      }
      const stackBytes = checkStackDepth(program.insns, flow, simulation.stackDepth);
      const facts = simulation.facts.finish(program.insns);
      checkFunctionReferences(program.insns, facts.unreachable);
      return {
        accepted: true,
        verifier: NAME,
        statistics: complexityReport(program, budget, exploration, wanted),
        contained: true,
        properties: programProperties(simulation, exploration, stackBytes),
        facts,
        ...(log === undefined ? {} : { log: log.toString() }),
      };
    } catch (error) {
      signal?.throwIfAborted();
      const finding = findingOf(error, simulation?.pc);
      log?.rejected(finding.reason);
      let traced = UNTRACED;
      if (simulation !== undefined && finding.insn === simulation.pc) {
        try {
          traced = trace(simulation, request.maps, finding, budget);
        } catch {
          // The explanation is a service; the verdict stands without it.
        }
      }
      const statistics = complexityReport(program, budget, exploration, wanted);
      const placed = atHotspot(finding, statistics.hotspots ?? []);
      return makeRejection(NAME, program, placed, traced, statistics, log?.toString());
    }
  }

  /** What the config allows, or less where the caller grants less. */
  #limits({ limits }: VerifyRequest): Limits {
    const { maxMilliseconds, maxMemoryMiB } = this.config;
    return {
      ...this.config,
      maxMilliseconds: Math.min(maxMilliseconds, limits?.milliseconds ?? Infinity),
      maxMemoryMiB: Math.min(maxMemoryMiB, limits?.memoryMiB ?? Infinity),
    };
  }

  #checkProgram({ program }: VerifyRequest): void {
    if (program.type !== BPF_PROG_TYPE_XDP) {
      throw new RejectSignal({
        code: 'program-type',
        reason: `the program is of type ${programTypeName(program.type)}; only XDP programs are verified`,
      });
    }
    if (program.insns.length === 0) {
      throw new RejectSignal({ code: 'program-empty', reason: 'the program has no insns' });
    }
    if (program.insns.length > this.config.maxProgramInsns) {
      throw new RejectSignal({
        code: 'program-too-long',
        reason: `${program.insns.length} insns exceed the limit of ${this.config.maxProgramInsns}`,
        suggestion: 'split the program with tail calls',
      });
    }
  }
}

/** A bug of the verifier is no reason to run a program. */
function findingOf(error: unknown, insn: number | undefined): Finding {
  if (error instanceof RejectSignal) return error.finding;
  return { code: 'internal-error', insn, reason: `the verifier failed: ${messageOf(error)}` };
}

const COMPLEXITY: ReadonlySet<string> = new Set<RejectionCode>([
  'too-many-insns',
  'too-many-branches',
  'out-of-memory',
  'out-of-time',
]);

/** Where a limit was hit says nothing; the place that was visited most does. */
function atHotspot(finding: Finding, hotspots: readonly Hotspot[]): Finding {
  if (!COMPLEXITY.has(finding.code)) return finding;
  const hottest = hotspots.reduce<Hotspot | undefined>(
    (best, spot) => (best === undefined || spot.visits > best.visits ? spot : best),
    undefined,
  );
  if (hottest === undefined) return finding;
  const what = { loop: 'the loop', branch: 'the branch', call: 'the call' }[hottest.kind];
  return {
    ...finding,
    insn: hottest.insn,
    reason: `${finding.reason}; ${what} at insn ${hottest.insn} was visited ${hottest.visits} times`,
  };
}
