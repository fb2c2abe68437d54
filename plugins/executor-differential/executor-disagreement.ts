import { formatInsn } from '../../src/bpf/disassembler.js';
import type { Program } from '../../src/bpf/program.js';
import { isLddw } from '../../src/bpf/insn.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { hex } from './describe-memory.js';

/** What a run started from. */
export interface Scene {
  /** In front of the packet, empty for none. */
  readonly metadata: Uint8Array;
  /** Absent for a run that was not given a frame. */
  readonly packet?: Uint8Array | undefined;
  /** Other fields of the context and of the run state, as `name = value`. */
  readonly fields: readonly string[];
  /** The maps' contents, a line each. */
  readonly maps: readonly string[];
}

/** One executor's part of a disagreement, in words. */
export interface Opinion {
  readonly executor: string;
  readonly outcome: string;
}

export interface DisagreementParts {
  /** The executor that counts as right, then the one that differs from it. */
  readonly opinions: readonly [Opinion, Opinion];
  /** The first difference, in words. */
  readonly difference: string;
  readonly program: Program;
  /** Other programs that it may tail-call. */
  readonly callees: readonly Program[];
  readonly scene: Scene;
  /** Length of the program before it was shrunk. */
  readonly originalLength: number;
}

/**
 * Two executors ran the same program from the same state and did not end in the same one. The message holds all
 * that is needed to do it again.
 */
export class ExecutorDisagreement extends XdpbedError {
  constructor(readonly parts: DisagreementParts) {
    super('executor-disagreement', summary(parts) + '\n' + reproduction(parts), {
      hint: 'RFC 9669 says who is right; please report the program above',
    });
  }

  /** The first line of the message. */
  get summary(): string {
    return summary(this.parts);
  }
}

function summary({ opinions: [right, wrong], difference, program }: DisagreementParts): string {
  return `executors ${right.executor} and ${wrong.executor} disagree on program ${program.name}: ${difference}`;
}

/** Everything that a run depends on, as text. */
export function reproduction(parts: DisagreementParts): string {
  const { opinions, program, callees, scene, originalLength } = parts;
  const shrunk = originalLength === program.insns.length ? '' : `, shrunk from ${originalLength}`;
  const lines = opinions.map(({ executor, outcome }) => `${executor}: ${outcome}`);
  lines.push(`program ${program.name} (${program.insns.length} slots${shrunk}):`, ...listing(program));
  for (const callee of callees) lines.push(`program ${callee.name}, by tail call:`, ...listing(callee));
  if (scene.packet !== undefined) {
    lines.push(`packet (${scene.packet.length} bytes): ${hex(scene.packet)}`);
    if (scene.metadata.length > 0) lines.push(`metadata: ${hex(scene.metadata)}`);
  }
  lines.push(scene.fields.join(', '), ...scene.maps);
  return lines.filter((line) => line !== '').join('\n');
}

function listing({ insns }: Program): string[] {
  return insns.flatMap((insn, slot) =>
    insn.opcode === 0 && isLddw(insns[slot - 1])
      ? []
      : [`${String(slot).padStart(4)}: ${formatInsn(insns, slot)}`],
  );
}
