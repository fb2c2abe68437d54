import { type AbstractVerifierConfig, DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import type { CampaignOptions } from './campaign.js';
import { generateOfEachKind } from './generated-programs.js';
import { findOutsideOf, type ContainmentMiss } from './containment.js';
import { markdownTable } from './markdown-table.js';
import { describeCase, shrinkCase } from './shrink.js';

/** Programs that take longer than this to explore have too many states to be kept. */
export const CONTAINMENT_CONFIG: AbstractVerifierConfig = {
  ...DEFAULT_CONFIG,
  allowPointerLeaks: true,
  maxProcessedInsns: 20_000,
  maxMilliseconds: 300_000,
};

/** Runs generated programs inside what the verifier explored of them, and counts. */
export class ContainmentCampaign {
  programs = 0;
  contained = 0;
  rejected = 0;
  tooLarge = 0;
  notRunnable = 0;
  checked = 0;
  states = 0;
  readonly misses: { readonly seed: number; readonly text: string }[] = [];

  constructor(readonly generator: CampaignOptions['generator']) {}

  async try(seed: number): Promise<void> {
    const generated = generateOfEachKind(seed, this.generator);
    const result = await findOutsideOf(generated, CONTAINMENT_CONFIG);
    this.programs++;
    switch (result.kind) {
      case 'rejected':
        this.rejected++;
        return;
      case 'too-large':
        this.tooLarge++;
        return;
      case 'not-runnable':
        this.notRunnable++;
        return;
      case 'contained':
        this.contained++;
        this.checked += result.checked;
        this.states += result.states;
        return;
      case 'miss':
        break;
    }
    let { miss } = result;
    const shrunk = await shrinkCase(generated, async (smaller) => {
      const again = await findOutsideOf(smaller, CONTAINMENT_CONFIG);
      if (again.kind === 'miss') miss = again.miss;
      return again.kind === 'miss';
    });
    this.misses.push({ seed, text: `${describeMiss(miss)}\n${describeCase(shrunk, miss.frame)}` });
  }

  report(): string {
    return markdownTable(
      [
        'programs',
        'run and contained',
        'rejected',
        'too large',
        'not runnable',
        'insns of runs checked',
        'states kept',
        'misses',
      ],
      [
        [
          this.programs,
          this.contained,
          this.rejected,
          this.tooLarge,
          this.notRunnable,
          this.checked,
          this.states,
          this.misses.length,
        ].map(String),
      ],
    );
  }
}

function describeMiss({ insn, reason, states }: ContainmentMiss): string {
  return `insn ${insn}: ${reason} (the nearest of ${states} states)`;
}
