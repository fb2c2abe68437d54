import { release } from 'node:os';
import type { Campaign } from './campaign.js';
import { markdownTable } from './markdown-table.js';
import { CLASSES, groupTable } from './tally.js';

/** What a campaign counted, in Markdown. */
export function campaignReport(campaign: Campaign): string {
  const { programs, slots, mutated, ran, runs, rejected, rejectedFaulting, misses, options } = campaign;
  const { seed, generator, modes, kernel } = options;
  const sections = [
    `${programs} programs from seed ${seed} (${slots} slots, at most ${generator.statements} statements each), ${mutated} of them mutated.`,
    '### What is accepted does not fault',
    markdownTable(
      ['mode', 'accepted', 'of these mutated'],
      modes.map((mode) => {
        const { accepted, acceptedMutated } = campaign.counts[mode];
        return [mode, accepted, acceptedMutated].map(String);
      }),
    ),
    `${ran} accepted programs were run, ${runs} times in all: ${misses.length} faulted or contradicted the verifier. To show that the frames find faults: of ${rejected} programs without loops that are rejected, ${rejectedFaulting} fault on them.`,
  ];
  if (kernel) sections.push(...kernelSections(campaign));
  return sections.join('\n\n');
}

function kernelSections({ tallies, options }: Campaign): string[] {
  const sections = [
    `### Beside the verifier of kernel ${release()}`,
    markdownTable(
      [
        'mode',
        'both accept',
        'both reject',
        'at the same insn',
        'by the same code',
        'only abstract accepts',
        'of these for safety',
        'only the kernel accepts',
        'insns ÷ kernel, median',
      ],
      options.modes.map((mode) => {
        const { matrix, sameInsn, sameCode, safetyMisses, medianRatio } = tallies[mode];
        const { both, neither, onlyAbstract, onlyKernel } = matrix;
        const counts = [both, neither, sameInsn, sameCode, onlyAbstract, safetyMisses, onlyKernel];
        return [mode, ...counts.map(String), medianRatio.toFixed(2)];
      }),
    ),
    'Classes of rejections by the kernel alone; only the first would be a miss:',
    Object.entries(CLASSES)
      .map(([name, meaning]) => `- **${name}**: ${meaning}`)
      .join('\n'),
  ];
  for (const mode of options.modes) {
    const { onlyAbstract, onlyKernel } = tallies[mode];
    sections.push(`#### Mode ${mode}: abstract accepts, the kernel rejects`, groupTable(onlyAbstract, true));
    sections.push(`#### Mode ${mode}: abstract rejects, the kernel accepts`, groupTable(onlyKernel, false));
  }
  return sections;
}
