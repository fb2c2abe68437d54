import { helperId } from '../../bpf/helper-ids.js';
import * as op from '../../bpf/opcodes.js';
import { ENCODING_FORMS, type EncodingForm } from '../../bpf/valid-encodings.js';
import { ARITHMETIC_STATEMENTS } from './arithmetic-statements.js';
import { Label } from './code-writer.js';
import type { Callee, FunctionGenerator, Statement } from './function-generator.js';
import { HELPER_STATEMENTS } from './helper-statements.js';
import type { MachineState } from './machine-state.js';
import { SCALAR } from './machine-state.js';
import { MEMORY_STATEMENTS } from './memory-statements.js';

const COMPARISONS: readonly EncodingForm[] = ENCODING_FORMS.filter(
  ({ opcode, dst }) =>
    dst === 'read-register' &&
    ((opcode & op.BPF_CLASS_MASK) === op.BPF_JMP || (opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32),
);

const BPF_LOOP = helperId('bpf_loop')!;

/** Nested loops multiply: each runs up to eight times. */
const MAX_LOOP_DEPTH = 2;

const CONTROL_STATEMENTS: readonly Statement[] = [
  { weight: 9, generate: branchOver },
  { weight: 4, generate: either },
  { weight: 3, applies: (f) => f.labels.length > 0, generate: leave },
  { weight: 1, generate: exitEarly },
  { weight: 2, generate: switchOver },
  { weight: 4, applies: (f) => f.loopDepth < MAX_LOOP_DEPTH, generate: loop },
  { weight: 4, applies: (f) => usableCallees(f).length > 0, generate: callFunction },
  { weight: 3, applies: (f) => callbacks(f).length > 0, generate: callBack },
];

const STATEMENTS: readonly Statement[] = [
  ...ARITHMETIC_STATEMENTS,
  ...MEMORY_STATEMENTS,
  ...HELPER_STATEMENTS,
  ...CONTROL_STATEMENTS,
];
const TOTAL_WEIGHT = STATEMENTS.reduce((sum, { weight }) => sum + weight, 0);

/** How many statements the function may still have, nested ones included. */
const budgets = new WeakMap<FunctionGenerator, { left: number }>();

/** Generates up to `count` statements, as long as there is a path that leads here. */
export function generateStatements(f: FunctionGenerator, count: number): void {
  let budget = budgets.get(f);
  if (budget === undefined) budgets.set(f, (budget = { left: count }));
  for (let i = 0; i < count && budget.left > 0 && f.reachable; i++) {
    budget.left--;
    const statement = pickStatement(f);
    if (statement.applies?.(f) ?? true) statement.generate(f);
  }
}

function pickStatement(f: FunctionGenerator): Statement {
  let at = f.random.below(TOTAL_WEIGHT);
  for (const statement of STATEMENTS) {
    at -= statement.weight;
    if (at < 0) return statement;
  }
  return STATEMENTS[0]!;
}

/** A jump on a comparison of numbers, of any form. */
function branchOnScalar(f: FunctionGenerator, label: Label): void {
  const { random } = f;
  const { opcode, src } = random.pick(COMPARISONS);
  const dst = f.scalar();
  const operand = src === 'read-register' ? f.scalar(...(random.chance(80) ? [dst] : [])) : 0;
  if (f.value(dst)?.kind !== 'scalar') return;
  f.branch(label, opcode, dst, operand, src === 'read-register' ? 0 : f.word());
}

/** `if (…) { … }`; code in it may jump out of it. */
function branchOver(f: FunctionGenerator): void {
  const end = new Label();
  branchOnScalar(f, end);
  f.labels.push(end);
  generateStatements(f, 1 + f.random.below(4));
  f.labels.pop();
  f.placeLabel(end);
}

function either(f: FunctionGenerator): void {
  const [other, end] = [new Label(), new Label()];
  branchOnScalar(f, other);
  f.labels.push(end);
  generateStatements(f, 1 + f.random.below(4));
  if (f.reachable) f.goto(end);
  f.placeLabel(other);
  if (f.reachable) generateStatements(f, 1 + f.random.below(4));
  f.labels.pop();
  f.placeLabel(end);
}

/** A jump out of any number of blocks, mostly on a condition. */
function leave(f: FunctionGenerator): void {
  const label = f.random.pick(f.labels);
  if (f.random.chance(80)) branchOnScalar(f, label);
  else f.goto(label);
}

function exitEarly(f: FunctionGenerator): void {
  const over = new Label();
  branchOnScalar(f, over);
  const { callback } = f.around;
  if (callback || f.value(0)?.kind !== 'scalar' || f.random.chance(50)) {
    f.immediate(0, f.random.below(callback ? 2 : 5));
  }
  f.exit();
  f.placeLabel(over);
}

/** A chain of comparisons of one number, as a switch becomes. */
function switchOver(f: FunctionGenerator): void {
  const { random } = f;
  const subject = f.scalar();
  if (f.isLocked(subject)) return;
  f.lock(subject);
  const cases = Array.from({ length: 2 + random.below(4) }, () => new Label());
  const end = new Label();
  for (const [index, label] of cases.entries()) {
    const insnClass = random.chance(50) ? op.BPF_JMP : op.BPF_JMP32;
    f.branch(label, insnClass | op.BPF_JEQ | op.BPF_K, subject, 0, random.chance(60) ? index : f.word());
  }
  f.unlock(subject);
  f.goto(end);
  f.labels.push(end);
  for (const label of cases) {
    f.placeLabel(label);
    if (!f.reachable) continue;
    generateStatements(f, 1 + random.below(2));
    // Some fall through into the next case.
    if (f.reachable && random.chance(75)) f.goto(end);
  }
  f.labels.pop();
  f.placeLabel(end);
}

/**
 * A loop that ends after a known number of rounds: its counter and every pointer that it may use from before are
 * left alone in it. Sometimes it is entered in the middle as well, so that no structure of loops fits.
 */
function loop(f: FunctionGenerator): void {
  const { random } = f;
  const rounds = 1 + random.below(random.chance(90) ? 6 : 24);
  const counter = f.savedTarget();
  if (counter < 6) return;
  f.immediate(counter, random.chance(50) ? 0 : rounds);
  const counter0 = f.code.insns.at(-1)!.imm;
  f.lock(counter);

  const mayMovePacket = random.chance(10) && f.packetFixed === 0;
  const head = headState(f, counter, mayMovePacket);
  const locked = lockPointers(f, head);
  if (!mayMovePacket) f.packetFixed++;
  f.loopDepth++;
  f.resume(head.clone());

  const irreducible = random.chance(15);
  const middle = new Label();
  if (irreducible) branchOnScalar(f, middle);
  const exit = new Label();
  const next = new Label();
  // What the branch just above made for itself may be more than what holds on the way back.
  f.resume(head.clone());
  const start = f.code.length;
  f.labels.push(exit, next);
  generateStatements(f, 1 + random.below(4));
  if (irreducible) {
    f.placeLabel(middle);
    if (f.reachable) generateStatements(f, 1 + random.below(3));
  }
  f.labels.pop();
  f.placeLabel(next);
  if (f.reachable) {
    restoreHead(f, head);
    const wide = random.chance(70);
    const insnClass = wide ? op.BPF_JMP : op.BPF_JMP32;
    const addClass = wide || random.chance(50) ? op.BPF_ALU64 : op.BPF_ALU;
    if (counter0 === 0) {
      f.code.emit(addClass | op.BPF_ADD | op.BPF_K, counter, 0, 0, 1);
      const code = random.pick([op.BPF_JLT, op.BPF_JNE, op.BPF_JSLT]);
      f.code.jumpBack(start, insnClass | code | op.BPF_K, counter, 0, rounds);
    } else {
      f.code.emit(addClass | op.BPF_SUB | op.BPF_K, counter, 0, 0, 1);
      const code = random.pick([op.BPF_JGT, op.BPF_JNE, op.BPF_JSGT]);
      f.code.jumpBack(start, insnClass | code | op.BPF_K, counter, 0, 0);
    }
  }
  f.labels.pop();
  for (const register of locked.registers) f.unlock(register);
  for (const cell of locked.cells) f.unlockCell(cell);
  f.unlock(counter);
  if (!mayMovePacket) f.packetFixed--;
  f.loopDepth--;
  f.placeLabel(exit);
}

/** What will hold whenever the loop starts a round: numbers, and pointers that calls do not touch. */
function headState(f: FunctionGenerator, counter: number, mayMovePacket: boolean): MachineState {
  const state = f.state.clone();
  state.registers.forEach((value, register) => {
    if (value !== undefined && value.kind !== 'scalar' && register < 6) state.registers[register] = undefined;
  });
  state.update((value) => {
    const inPacket = value.kind === 'packet' || value.kind === 'packet-end' || value.kind === 'metadata';
    if (inPacket && mayMovePacket) return undefined;
    // A round may check a pointer against NULL, or update the map it points into.
    const unsure = value.kind === 'map-value' && (value.id !== undefined || f.around.kernel);
    return unsure ? undefined : value;
  });
  state.registers[counter] = SCALAR;
  return state;
}

function lockPointers(f: FunctionGenerator, head: MachineState): { registers: number[]; cells: number[] } {
  const registers = head.registers.flatMap((value, register) =>
    value !== undefined && value.kind !== 'scalar' ? [register] : [],
  );
  const cells = head.cells.flatMap((cell, index) => (cell !== undefined && cell !== 'data' ? [index] : []));
  for (const register of registers) f.lock(register);
  for (const cell of cells) f.lockCell(cell);
  return { registers, cells };
}

/** Makes what holds at the end of a round hold at its start again. */
function restoreHead(f: FunctionGenerator, head: MachineState): void {
  head.registers.forEach((value, register) => {
    if (value?.kind === 'scalar' && f.value(register)?.kind !== 'scalar') f.immediate(register, f.word());
  });
  head.cells.forEach((cell, index) => {
    if (cell === 'data' && f.state.cells[index] !== 'data') f.initialiseCell(index);
  });
}

/** bpf_loop: a function that is called a known number of times, or until it returns 1. */
function callBack(f: FunctionGenerator): void {
  const { random } = f;
  const callee = random.pick(callbacks(f));
  const buffer = callee.parameters.find((parameter) => parameter.kind === 'buffer');
  const offset = buffer === undefined ? undefined : f.stackBuffer(buffer.size);
  if (offset === undefined) return;
  f.immediate(1, random.below(8));
  f.code.functionPointer(2, callee.index);
  f.set(2, undefined);
  f.move(3, op.FRAME_POINTER);
  f.add(3, offset);
  f.immediate(4, random.chance(90) ? 0 : 1);
  f.helper(BPF_LOOP);
  afterEffects(f, callee);
}

function callbacks(f: FunctionGenerator): Callee[] {
  return f.around.callees.filter(({ callback }) => callback);
}

/** What the caller can no longer rely on. */
function afterEffects(f: FunctionGenerator, { changesPacket, touchedMaps }: Callee): void {
  if (changesPacket) f.forgetPacket();
  if (touchedMaps === 'all') f.touchMap('all');
  else for (const map of touchedMaps) f.touchMap(map);
}

function usableCallees(f: FunctionGenerator): Callee[] {
  return f.around.callees.filter(
    (callee) =>
      !callee.callback &&
      (f.hasContext || !callee.parameters.some(({ kind }) => kind === 'context')) &&
      (f.packetFixed === 0 || !callee.changesPacket),
  );
}

function callFunction(f: FunctionGenerator): void {
  const { random } = f;
  const callee = random.pick(usableCallees(f));
  const buffers = callee.parameters.map((parameter) =>
    parameter.kind === 'buffer' ? f.stackBuffer(parameter.size) : undefined,
  );
  for (const [index, parameter] of callee.parameters.entries()) {
    const register = index + 1;
    switch (parameter.kind) {
      case 'scalar': {
        const kept = f.find((value, at) => value.kind === 'scalar' && (at === 0 || at > 5));
        if (kept.length > 0 && random.chance(70)) f.move(register, random.pick(kept));
        else f.constant(register);
        break;
      }
      case 'context':
        f.contextInto(register);
        break;
      case 'buffer': {
        const offset = buffers[index];
        if (offset === undefined) return;
        f.move(register, op.FRAME_POINTER);
        f.add(register, offset);
        break;
      }
      case 'map-value':
        f.code.wide(register, op.BPF_PSEUDO_MAP_VALUE, parameter.map, 0);
        f.set(register, { kind: 'map-value', map: parameter.map, offset: 0 });
        break;
    }
  }
  f.code.call(callee.index);
  f.afterCall();
  afterEffects(f, callee);
}
