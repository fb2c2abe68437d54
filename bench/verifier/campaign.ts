import { isLddw } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { generateCase, type GeneratedCase } from '../../src/conformance/program-generator/index.js';
import type { Acceptance, Rejection } from '../../src/core/contract/verifier.js';
import { generateOfEachKind } from './generated-programs.js';
import { judge, type Judges, type Mode } from './judges.js';
import { meaningOf, type Opinions } from './meaning.js';
import { describeCase, shrinkCase } from './shrink.js';
import { findMiss, type Miss } from './soundness.js';
import { Tally } from './tally.js';

export interface CampaignOptions {
  readonly programs: number;
  /** Of the first program. */
  readonly seed: number;
  readonly generator: {
    readonly unsafePercent: number;
    readonly frames: number;
    readonly statements: number;
  };
  /** Only the first kind of program: of any insns. */
  readonly plain: boolean;
  readonly modes: readonly Mode[];
  readonly kernel: boolean;
  /** How many programs of each kind of disagreement are shrunk. */
  readonly shrink: number;
  /** Code of those. */
  readonly only: string | undefined;
}

export interface Finding {
  readonly seed: number;
  readonly mode: Mode;
  readonly title: string;
  readonly text: string;
}

/** Counts of one mode. */
interface Counts {
  accepted: number;
  acceptedMutated: number;
}

/** Tries one generated program after the other and keeps count. */
export class Campaign {
  readonly tallies: Record<Mode, Tally> = { guest: new Tally(), root: new Tally() };
  readonly counts: Record<Mode, Counts> = {
    guest: { accepted: 0, acceptedMutated: 0 },
    root: { accepted: 0, acceptedMutated: 0 },
  };
  /** What must not be: an accepted program faulted, contradicted the verifier, or the verifier failed. */
  readonly misses: Finding[] = [];
  /** Shrunk programs that only one verifier accepts. */
  readonly disagreements: Finding[] = [];
  readonly #shrunk = new Map<string, number>();
  programs = 0;
  mutated = 0;
  slots = 0;
  /** Programs that were run, and runs of them. */
  ran = 0;
  runs = 0;
  /**
   * Programs without loops that every mode rejects, and those of them that do fault: whether the frames find faults
   * at all.
   */
  rejected = 0;
  rejectedFaulting = 0;

  constructor(
    readonly options: CampaignOptions,
    readonly judges: Record<Mode, Judges>,
  ) {}

  get safetyMisses(): number {
    return this.options.modes.reduce((sum, mode) => sum + this.tallies[mode].safetyMisses, 0);
  }

  async try(seed: number): Promise<void> {
    const { plain, generator } = this.options;
    const generated = plain ? generateCase(seed, generator) : generateOfEachKind(seed, generator);
    this.programs++;
    if (generated.mutations.length > 0) this.mutated++;
    for (const { insns } of generated.programs) this.slots += insns.length;
    let hasRun = false;
    for (const mode of this.options.modes) {
      const opinions = await this.#ask(mode, generated);
      const { verification, program } = opinions.abstract;
      if (verification.accepted) {
        this.counts[mode].accepted++;
        if (generated.mutations.length > 0) this.counts[mode].acceptedMutated++;
        // It would do the same in the other mode.
        if (!hasRun) await this.#run(mode, generated, verification);
        hasRun = true;
      } else if (verification.code === 'internal-error') {
        const title = `internal error in program ${program}`;
        this.misses.push({ seed, mode, title, text: `${verification.reason}\n${describeCase(generated)}` });
      }
      if (opinions.kernel !== undefined) await this.#compare(mode, generated, opinions);
    }
    if (hasRun) return;
    if (mayLoop(generated)) return;
    this.rejected++;
    if ((await missOf(generated, undefined)) !== undefined) this.rejectedFaulting++;
  }

  async #ask(mode: Mode, generated: GeneratedCase): Promise<Opinions> {
    const { abstract, kernel } = this.judges[mode];
    return {
      abstract: await judge(abstract, generated),
      kernel: kernel === undefined ? undefined : await judge(kernel, generated),
    };
  }

  async #run(mode: Mode, generated: GeneratedCase, acceptance: Acceptance): Promise<void> {
    this.ran++;
    this.runs += generated.frames.length;
    const first = await findMiss(generated, acceptance);
    if (first === undefined) return;
    let miss: Miss = first;
    const shrunk = await shrinkCase(generated, async (smaller) => {
      const { verification } = await judge(this.judges[mode].abstract, smaller);
      const found = verification.accepted ? await missOf(smaller, verification) : undefined;
      if (found !== undefined) miss = found;
      return found !== undefined;
    });
    const title = `accepted, but insn ${miss.insn ?? '–'}: ${miss.reason}`;
    this.misses.push({ seed: generated.seed, mode, title, text: describeCase(shrunk, miss.frame) });
  }

  async #compare(mode: Mode, generated: GeneratedCase, opinions: Opinions): Promise<void> {
    const ours = opinions.abstract.verification;
    const theirs = opinions.kernel!.verification;
    const meaning = await meaningOf(this.judges, mode, generated, opinions);
    this.tallies[mode].add(generated.seed, ours, theirs, meaning);
    if (ours.accepted && !theirs.accepted) {
      const title = `only abstract accepts; kernel: ${describe(theirs)}; class ${meaning}`;
      await this.#disagree(
        mode,
        theirs.code,
        `kernel ${theirs.code} ${meaning}`,
        title,
        generated,
        async (smaller) => {
          const again = await this.#ask(mode, smaller);
          const { verification } = again.kernel!;
          if (verification.accepted || verification.code !== theirs.code) return false;
          return (await meaningOf(this.judges, mode, smaller, again)) === meaning;
        },
      );
    } else if (!ours.accepted && theirs.accepted) {
      const title = `only the kernel accepts; abstract: ${describe(ours)}`;
      await this.#disagree(mode, ours.code, `abstract ${ours.code}`, title, generated, async (smaller) => {
        const again = await this.#ask(mode, smaller);
        const { verification } = again.abstract;
        return (
          !verification.accepted && verification.code === ours.code && again.kernel!.verification.accepted
        );
      });
    }
  }

  async #disagree(
    mode: Mode,
    code: string,
    kind: string,
    title: string,
    generated: GeneratedCase,
    holds: (smaller: GeneratedCase) => Promise<boolean>,
  ): Promise<void> {
    const { shrink, only } = this.options;
    const known = this.#shrunk.get(`${mode} ${kind}`) ?? 0;
    if (known >= shrink || (only ?? code) !== code) return;
    this.#shrunk.set(`${mode} ${kind}`, known + 1);
    const shrunk = await shrinkCase(generated, holds);
    this.disagreements.push({ seed: generated.seed, mode, title, text: describeCase(shrunk) });
  }
}

/** Jumps backwards, callbacks and tail calls: what may go round for ever if nobody verified it. */
function mayLoop({ programs }: GeneratedCase): boolean {
  if (programs.length > 1) return true;
  return programs[0]!.insns.some((insn) => {
    const { opcode, src, off, imm } = insn;
    if (isLddw(insn)) return src === op.BPF_PSEUDO_FUNC;
    const insnClass = opcode & op.BPF_CLASS_MASK;
    if (insnClass !== op.BPF_JMP && insnClass !== op.BPF_JMP32) return false;
    if (opcode === op.OP_CALL) return src === op.BPF_PSEUDO_CALL && imm < 0;
    return opcode === (op.BPF_JMP32 | op.BPF_JA) ? imm < 0 : off < 0;
  });
}

function describe({ code, reason, insn }: Rejection): string {
  return `${code}, ${reason} (insn ${insn ?? '–'})`;
}

/** As `findMiss`; a program that nobody accepted may be one that the interpreter refuses to load. */
async function missOf(
  generated: GeneratedCase,
  acceptance: Acceptance | undefined,
): Promise<Miss | undefined> {
  try {
    return await findMiss(generated, acceptance);
  } catch {
    return undefined;
  }
}
