import type { LineInfo } from '../../bpf/btf/btf-ext.js';
import { formatSourceLine } from '../../bpf/program.js';
import { printableLine } from '../printable.js';
import type { Rejection, Verification, VerifierStatistics } from '../contract/verifier.js';

/** Limits of the Linux verifier that the complexity report measures against (kernel/bpf/verifier.c). */
const KERNEL_INSN_LIMIT = 1_000_000;

/**
 * A verification for people: what failed, why, at which source line and insn, the registers that matter, how it
 * came to that, and what would help.
 */
export function renderVerification(
  program: string,
  verification: Verification,
  options: { readonly complexity: boolean },
): string {
  const lines: string[] = [];
  const { statistics } = verification;
  // The log has lines of its own; a line feed in all else is one of a name's.
  if (verification.log !== undefined) lines.push(...verification.log.trimEnd().split('\n'), '');
  if (verification.accepted) {
    lines.push(`${program}: accepted by ${verification.verifier}  (${summary(statistics)})`);
    const { properties } = verification;
    if (properties !== undefined) {
      lines.push(
        `  may return ${properties.verdicts.join(', ') || 'nothing'}; ${properties.writesPacket ? 'writes' : 'does not write'} the packet; ` +
          `${mostInsns(properties.worstCaseInsns)} for a packet; ${properties.stackBytes} bytes of stack`,
      );
    }
  } else {
    lines.push(
      `${program}: rejected by ${verification.verifier}  (${summary(statistics)})`,
      ...rejectionLines(verification),
    );
  }
  if (options.complexity) lines.push(...complexityLines(statistics));
  return `${lines.map(printableLine).join('\n')}\n`;
}

function mostInsns(count: number): string {
  return count === Infinity ? 'no bound of insns' : `at most ${count} insns`;
}

function rejectionLines(rejection: Rejection): string[] {
  const lines = ['', `verification failed [${rejection.code}]: ${rejection.reason}`];
  if (rejection.insn !== undefined) {
    lines.push(
      '',
      `  at insn ${rejection.insn}${rejection.disassembly === undefined ? '' : `: ${rejection.disassembly}`}`,
    );
    if (rejection.line !== undefined) lines.push(`     ${source(rejection.line)}`);
  }
  if (rejection.registers !== undefined && rejection.registers.length > 0) {
    lines.push('', '  registers', ...rejection.registers.map((register) => `    ${register}`));
  }
  if (rejection.path !== undefined && rejection.path.length > 0) {
    lines.push('', '  how it came to this');
    for (const step of rejection.path) {
      lines.push(`    ${String(step.insn).padStart(4)}: ${step.text}`);
      if (step.line !== undefined) lines.push(`          ${source(step.line)}`);
    }
  }
  if (rejection.suggestion !== undefined) lines.push('', `  what would help: ${rejection.suggestion}`);
  return lines;
}

function complexityLines(statistics: VerifierStatistics): string[] {
  const share = ((100 * statistics.processedInsns) / KERNEL_INSN_LIMIT).toFixed(
    statistics.processedInsns < 10_000 ? 2 : 0,
  );
  const lines = [
    '',
    `  complexity: ${statistics.processedInsns} insns processed, ${share} % of the kernel’s limit of ${KERNEL_INSN_LIMIT}`,
  ];
  for (const spot of statistics.hotspots ?? []) {
    const where = spot.line === undefined ? '' : `  ${source(spot.line)}`;
    lines.push(
      `    insn ${spot.insn} (${spot.kind}): visited ${spot.visits} times, ${spot.states} states${where}`,
    );
  }
  return lines;
}

function summary({ processedInsns, peakStates, totalStates, milliseconds }: VerifierStatistics): string {
  const time = milliseconds === undefined ? '' : `, ${milliseconds.toFixed(1)} ms`;
  return `${processedInsns} insns processed, ${totalStates} states, ${peakStates} at most${time}`;
}

function source(line: LineInfo): string {
  return `; ${formatSourceLine(line)}`;
}
