import { formatInsn } from '../../src/bpf/disassembler.js';
import type { Program } from '../../src/bpf/program.js';
import type { Frame } from './frame.js';
import type { Simulation } from './simulation.js';
import { Byte } from './slot.js';
import { formatValue } from './value-format.js';
import { Kind } from './value.js';
import type { VerifierState } from './verifier-state.js';

/** Largest log in characters; the rest is left out, with a note. */
const MAX_LENGTH = 8 * 1024 * 1024;

/**
 * The log of every simulated insn, in the notation of the kernel's verifier: the source line, the insn, and behind
 * a semicolon what it changed.
 *
 * ```
 * ; if (data + 14 > data_end) @ xdp.c:12
 * 3: (2d) if r4 > r3 goto pc+5          ; R3=pkt_end() R4=pkt(off=14,r=14)
 * ```
 */
export class StateLog {
  readonly #parts: string[] = [];
  #length = 0;
  #full = false;
  #before: Frame | undefined;
  #line = -1;
  readonly #lineAt = new Map<number, number>();

  constructor(readonly program: Program) {
    program.debug?.lines.forEach((line, index) => this.#lineAt.set(line.insn, index));
    this.#add('func#0 @0\n0: R1=ctx() R10=fp0\n');
  }

  before(simulation: Simulation): void {
    const line = this.#lineAt.get(simulation.pc);
    if (line !== undefined && line !== this.#line) {
      this.#line = line;
      const info = this.program.debug!.lines[line]!;
      this.#add(`; ${info.text} @ ${info.file}:${info.line}\n`);
    }
    // Frames and stacks are written in place.
    this.#before = simulation.state.top.copy({});
    this.#before.stack = this.#before.stack.copy();
  }

  after(simulation: Simulation, pc: number): void {
    const text = `${pc}: (${simulation.insns[pc]!.opcode.toString(16).padStart(2, '0')}) ${formatInsn(simulation.insns, pc, { functions: this.program.debug?.functions })}`;
    const changes = this.#changes(simulation.state.top);
    this.#add(changes.length === 0 ? `${text}\n` : `${text.padEnd(40)} ; ${changes.join(' ')}\n`);
  }

  pruned(pc: number): void {
    this.#add(`${pc}: safe\n`);
  }

  /** A path that was put aside at a branch goes on. */
  resume(simulation: Simulation): void {
    this.#line = -1;
    this.#add(`\nfrom a branch to ${simulation.pc}: ${formatState(simulation.state)}\n`);
  }

  rejected(reason: string): void {
    this.#add(`${reason}\n`);
  }

  toString(): string {
    return this.#parts.join('');
  }

  #changes(frame: Frame): string[] {
    const before = this.#before;
    if (before === undefined || before.start !== frame.start || before.callsite !== frame.callsite) {
      return formatFrame(frame);
    }
    const changes: string[] = [];
    frame.regs.forEach((value, register) => {
      if (value !== before.regs[register] && value.kind !== Kind.NotInit) {
        changes.push(`R${register}=${formatValue(value)}`);
      }
    });
    frame.stack.slots.forEach((slot, index) => {
      if (slot !== before.stack.slots[index]) changes.push(...formatSlot(frame, index));
    });
    return changes;
  }

  #add(text: string): void {
    if (this.#full) return;
    if (this.#length + text.length > MAX_LENGTH) {
      this.#full = true;
      text = '… the log is cut here\n';
    }
    this.#length += text.length;
    this.#parts.push(text);
  }
}

/** All that a state knows, in one line. */
export function formatState(state: VerifierState): string {
  return formatFrame(state.top).join(' ');
}

function formatFrame(frame: Frame): string[] {
  const parts: string[] = [];
  frame.regs.forEach((value, register) => {
    if (value.kind !== Kind.NotInit) parts.push(`R${register}=${formatValue(value)}`);
  });
  frame.stack.slots.forEach((slot, index) => {
    if (slot.types !== 0) parts.push(...formatSlot(frame, index));
  });
  return parts;
}

const BYTE_LETTERS: Readonly<Record<Byte, string>> = {
  [Byte.Invalid]: '?',
  [Byte.Misc]: 'm',
  [Byte.Zero]: '0',
  [Byte.Spill]: 'r',
};

/** `fp-8=pkt(r=14)`, or one letter for each byte, highest address first, as the kernel has it: `fp-8=mmmm????`. */
function formatSlot(frame: Frame, index: number): string[] {
  const slot = frame.stack.slot(index);
  const name = `fp-${8 * (index + 1)}`;
  if (slot.value !== undefined && slot.spillSize === 8) return [`${name}=${formatValue(slot.value)}`];
  let letters = '';
  for (let i = 7; i >= 0; i--) letters += BYTE_LETTERS[slot.byte(i)];
  const value = slot.value === undefined ? '' : `(${formatValue(slot.value)})`;
  return [`${name}=${letters}${value}`];
}
