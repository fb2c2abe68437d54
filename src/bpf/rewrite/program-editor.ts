import { XdpbedError } from '../../core/diagnostic.js';
import type { FunctionInfo, LineInfo } from '../btf/btf-ext.js';
import { isFunctionReference } from '../function-starts.js';
import { isLddw, type Insn } from '../insn.js';
import {
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
  BPF_PSEUDO_CALL,
  OP_CALL,
} from '../opcodes.js';
import type { Program, ProgramDebugInfo } from '../program.js';

/**
 * A place in the program that is being made, for jumps and calls of inserted code: where a piece of code that was
 * inserted or appended begins.
 */
export class Label {
  /** The item at which it stands, once that is known; for {@link ProgramEditor} alone. */
  item: number | undefined;
}

/**
 * Insns to put into a program. Their jumps and local calls count slots within the piece; one to the slot after its
 * last means whatever follows it. `targets` overrides that: jumps, calls and `lddw` of functions, by their slot in the
 * piece, that go to a place elsewhere.
 */
export interface Piece {
  readonly insns: readonly Insn[];
  readonly targets?: ReadonlyMap<number, Label> | undefined;
}

export interface InsertOptions {
  /**
   * `through` (default): a jump to the slot runs the inserted code first, as falling into it does. `past`: it does not.
   * Calls always run it, so that `past` at a function's first slot makes a prologue, which loops back to that slot do not
   * repeat. At one slot what jumps go past stands before what they go through.
   */
  readonly jumps?: 'through' | 'past' | undefined;
}

/** A program after its edits. */
export interface EditedProgram {
  readonly program: Program;
  /** Where an insn of the old program is now; undefined for one that was replaced, and for second slots of `lddw`. */
  slotOf(oldSlot: number): number | undefined;
  /** What is known by the slots of the old program, by those of the new one; of insns that were replaced it is dropped. */
  moved<T>(bySlot: ReadonlyMap<number, T>): Map<number, T>;
}

/** One instruction on its way into the new program. */
interface Item {
  insn: Insn;
  /** Of an lddw. */
  readonly second?: Insn | undefined;
  readonly oldSlot?: number | undefined;
  /** Where it jumps to, what it calls, or whose address it takes. */
  target?: Target | undefined;
  /** A conditional jump that does not reach: `if … goto +1; goto +1; gotol target`. */
  far?: boolean | undefined;
}

type Target =
  | { readonly kind: 'jump'; readonly oldSlot: number }
  | { readonly kind: 'function'; readonly oldSlot: number }
  | { readonly kind: 'item'; readonly item: number }
  | { readonly kind: 'label'; readonly label: Label };

interface AddedFunction {
  readonly name: string;
  readonly piece: PlacedPiece;
  /** Slot of the function that it stands in front of; undefined: behind all. */
  readonly before?: number | undefined;
}

interface SlotEdits {
  readonly functions: PlacedPiece[];
  readonly past: PlacedPiece[];
  readonly through: PlacedPiece[];
  replacement?: PlacedPiece | undefined;
  readonly after: PlacedPiece[];
}

interface PlacedPiece extends Piece {
  readonly label: Label;
}

/**
 * Puts code into a program, and mends all that counts slots: jumps (of JMP and JMP32, `goto`, `gotol`, `may_goto`), local
 * calls, addresses of functions, names of functions and source lines. Slots are always those of the program as it came;
 * edits are collected and carried out by `finish`, in whatever order they were made. A jump whose way has become too long
 * for 16 bits goes on through a `gotol` (kernel 6.6). The program that was given is not changed.
 *
 * Throws `insn-invalid` for a slot that is not the first of an insn, and for a program with a jump to nowhere: programs
 * that are edited have been verified.
 */
export class ProgramEditor {
  readonly #program: Program;
  readonly #edits = new Map<number, SlotEdits>();
  readonly #functions: AddedFunction[] = [];

  constructor(program: Program) {
    this.#program = program;
  }

  /** Code that runs before the insn at `slot`. */
  insertBefore(slot: number, piece: Piece, options: InsertOptions = {}): Label {
    const placed = place(piece);
    const edits = this.#editsAt(slot);
    (options.jumps === 'past' ? edits.past : edits.through).push(placed);
    return placed.label;
  }

  /**
   * Code instead of the insn at `slot`, of a whole `lddw` if it is one; a piece without insns takes it away. Throws
   * `insn-invalid` if it has been replaced before.
   */
  replace(slot: number, piece: Piece): Label {
    const edits = this.#editsAt(slot);
    if (edits.replacement !== undefined) this.#fail(slot, 'is replaced twice');
    const placed = place(piece);
    edits.replacement = placed;
    return placed.label;
  }

  /**
   * Code that stands behind the insn at `slot`, before what was inserted in front of the next one. Jumps to the next slot
   * do not run it. Behind the last insn of a function, which falls into nothing, only its label leads to it.
   */
  insertAfter(slot: number, piece: Piece): Label {
    const placed = place(piece);
    this.#editsAt(slot).after.push(placed);
    return placed.label;
  }

  /** A function behind all others, to be called by its label. */
  appendFunction(name: string, piece: Piece): Label {
    const placed = place(piece);
    this.#functions.push({ name, piece: placed });
    return placed.label;
  }

  /** A function in front of the one that begins at `slot`. What stands before it must not fall into it. */
  insertFunction(name: string, piece: Piece, slot: number): Label {
    const placed = place(piece);
    this.#editsAt(slot).functions.push(placed);
    this.#functions.push({ name, piece: placed, before: slot });
    return placed.label;
  }

  finish(): EditedProgram {
    const { insns } = this.#program;
    const items: Item[] = [];
    /** Item at which a slot begins, by old slot: for functions, for jumps, and the slot's own insn. */
    const starts = new Array<number>(insns.length);
    const entries = new Array<number>(insns.length);
    const own = new Map<number, number>();
    for (let slot = 0; slot < insns.length; slot++) {
      const edits = this.#edits.get(slot);
      const insn = insns[slot]!;
      for (const piece of edits?.functions ?? []) addPiece(items, piece);
      starts[slot] = items.length;
      for (const piece of edits?.past ?? []) addPiece(items, piece);
      entries[slot] = items.length;
      for (const piece of edits?.through ?? []) addPiece(items, piece);
      if (edits?.replacement !== undefined) {
        addPiece(items, edits.replacement);
      } else {
        own.set(slot, items.length);
        items.push({
          insn,
          second: isLddw(insn) ? insns[slot + 1] : undefined,
          oldSlot: slot,
          target: targetOf(insn, (distance) => this.#target(slot, insn, distance)),
        });
      }
      for (const piece of edits?.after ?? []) addPiece(items, piece);
      if (isLddw(insn)) slot++;
    }
    const functions = this.#functions.map(({ name, piece, before }) => {
      if (before === undefined) addPiece(items, piece);
      return { name, item: piece.label.item! };
    });

    const itemOf = (target: Target): number => {
      switch (target.kind) {
        case 'jump':
          return entries[target.oldSlot]!;
        case 'function':
          return starts[target.oldSlot]!;
        case 'item':
          return target.item;
        case 'label': {
          const { item } = target.label;
          if (item === undefined) throw new XdpbedError('insn-invalid', 'a label that stands nowhere');
          return item;
        }
      }
    };
    const slots = layOut(items, itemOf);
    const program: Program = {
      ...this.#program,
      insns: encode(items, slots, itemOf),
      debug: moveDebug(this.#program.debug, {
        start: (oldSlot) => slotAt(slots, starts[oldSlot]),
        own: (oldSlot) => slotAt(slots, own.get(oldSlot)),
        functions: functions.map(({ name, item }) => ({ name, insn: slots[item]! })),
        length: slots.at(-1)!,
      }),
    };
    const slotOf = (oldSlot: number): number | undefined => slotAt(slots, own.get(oldSlot));
    return {
      program,
      slotOf,
      moved: (bySlot) =>
        new Map(
          [...bySlot].flatMap(([oldSlot, what]) => {
            const slot = slotOf(oldSlot);
            return slot === undefined ? [] : [[slot, what] as const];
          }),
        ),
    };
  }

  #editsAt(slot: number): SlotEdits {
    const known = this.#edits.get(slot);
    if (known !== undefined) return known;
    if (!this.#isInsn(slot)) this.#fail(slot, 'is not the first of an insn');
    const edits: SlotEdits = { functions: [], past: [], through: [], after: [] };
    this.#edits.set(slot, edits);
    return edits;
  }

  #isInsn(slot: number): boolean {
    const { insns } = this.#program;
    return insns[slot] !== undefined && !(insns[slot].opcode === 0 && isLddw(insns[slot - 1]));
  }

  #target(slot: number, insn: Insn, distance: number): Target {
    const oldSlot = slot + 1 + distance;
    if (!this.#isInsn(oldSlot))
      this.#fail(slot, `refers to slot ${oldSlot}, which is not the first of an insn`);
    return { kind: isFunctionReference(insn) ? 'function' : 'jump', oldSlot };
  }

  #fail(slot: number, what: string): never {
    throw new XdpbedError('insn-invalid', `slot ${slot} of program ${this.#program.name} ${what}`, {
      at: { insn: slot },
    });
  }
}

function place(piece: Piece): PlacedPiece {
  return { ...piece, label: new Label() };
}

function addPiece(items: Item[], { insns, targets, label }: PlacedPiece): void {
  label.item = items.length;
  /** Item of each slot of the piece, and of the one behind it. */
  const at: number[] = [];
  let next = items.length;
  for (let slot = 0; slot < insns.length; slot++) {
    at[slot] = next++;
    if (isLddw(insns[slot])) slot++;
  }
  at[insns.length] = next;
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    const elsewhere = targets?.get(slot);
    const target: Target | undefined =
      elsewhere === undefined
        ? targetOf(insn, (distance) => {
            const item = at[slot + 1 + distance];
            if (item === undefined) {
              throw new XdpbedError(
                'insn-invalid',
                `slot ${slot} of inserted code refers to none of its insns`,
              );
            }
            return { kind: 'item', item };
          })
        : { kind: 'label', label: elsewhere };
    items.push({ insn, second: isLddw(insn) ? insns[slot + 1] : undefined, target });
    if (isLddw(insn)) slot++;
  }
}

/** Where the distance in slots stands that an insn counts, if it counts any. */
function distanceField(insn: Insn): 'off' | 'imm' | undefined {
  if (isFunctionReference(insn)) return 'imm';
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  if (insnClass !== BPF_JMP && insnClass !== BPF_JMP32) return undefined;
  const code = insn.opcode & BPF_OP_MASK;
  if (code === BPF_CALL || code === BPF_EXIT) return undefined;
  return isGotol(insn) ? 'imm' : 'off';
}

function targetOf(insn: Insn, resolve: (distance: number) => Target): Target | undefined {
  const field = distanceField(insn);
  return field === undefined ? undefined : resolve(insn[field]);
}

const OP_GOTO = BPF_JMP | BPF_JA;
const OP_GOTOL = BPF_JMP32 | BPF_JA;

function isGotol({ opcode }: Insn): boolean {
  return opcode === OP_GOTOL;
}

/** Slots that a conditional jump takes when its way is too long. */
const FAR_SLOTS = 3;

function sizeOf({ second, far }: Item): number {
  if (far === true) return FAR_SLOTS;
  return second === undefined ? 1 : 2;
}

/** Rounds after which jumps that reach, but not by much, are made long as well. */
const EXACT_ROUNDS = 8;
/** What stands between such a jump and its target may treble, and the jump still reaches. */
const SAFE_DISTANCE = 0x2000;

/**
 * The slot of each item, and of what would come after the last. Jumps that do not reach are made long, which moves what
 * follows them and may put others out of reach, and so on. A program can be made so that each round puts out of reach just
 * one more: after a few rounds all are made long that may ever have to be.
 */
function layOut(items: Item[], itemOf: (target: Target) => number): number[] {
  for (let round = 0; ; round++) {
    const slots: number[] = [0];
    for (const item of items) slots.push(slots.at(-1)! + sizeOf(item));
    const reach = round < EXACT_ROUNDS ? 0x7fff : SAFE_DISTANCE;
    let changed = false;
    items.forEach((item, index) => {
      if (item.target === undefined || item.far === true || distanceField(item.insn) !== 'off') return;
      const distance = slots[itemOf(item.target)]! - slots[index]! - 1;
      if (distance >= -reach - 1 && distance <= reach) return;
      changed = true;
      if (item.insn.opcode === OP_GOTO) item.insn = { ...item.insn, opcode: OP_GOTOL, off: 0 };
      else item.far = true;
    });
    if (!changed) return slots;
  }
}

function encode(
  items: readonly Item[],
  slots: readonly number[],
  itemOf: (target: Target) => number,
): Insn[] {
  const out: Insn[] = [];
  items.forEach(({ insn, second, target, far }, index) => {
    const field = distanceField(insn);
    if (target === undefined || field === undefined) {
      out.push(insn);
    } else if (far === true) {
      const distance = slots[itemOf(target)]! - slots[index]! - FAR_SLOTS;
      out.push({ ...insn, off: 1 }, jump(OP_GOTO, { off: 1 }), jump(OP_GOTOL, { imm: distance }));
    } else {
      out.push({ ...insn, [field]: slots[itemOf(target)]! - slots[index]! - 1 });
    }
    if (second !== undefined) out.push(second);
  });
  return out;
}

function jump(opcode: number, fields: { readonly off?: number; readonly imm?: number }): Insn {
  return { opcode, dst: 0, src: 0, off: 0, imm: 0, ...fields };
}

function slotAt(slots: readonly number[], item: number | undefined): number | undefined {
  return item === undefined ? undefined : slots[item];
}

interface Moves {
  /** Where what belongs to an old slot begins, what was inserted before it included. */
  start(oldSlot: number): number | undefined;
  own(oldSlot: number): number | undefined;
  readonly functions: readonly { readonly name: string; readonly insn: number }[];
  readonly length: number;
}

/** A kernel takes lines only if they go up, and if each function's first insn has one. */
function moveDebug(debug: ProgramDebugInfo | undefined, moves: Moves): ProgramDebugInfo | undefined {
  if (debug === undefined) return undefined;
  const lines = new Map<number, LineInfo>();
  for (const line of debug.lines) {
    const insn = moves.start(line.insn);
    // Of lines whose insns were taken away, the last one before what follows them counts.
    if (insn !== undefined && insn < moves.length) lines.set(insn, { ...line, insn });
  }
  if (debug.lines.length > 0) {
    for (const { insn, name } of moves.functions) {
      lines.set(insn, { insn, file: '', text: name, line: 0, column: 0 });
    }
  }
  const functions = new Map<number, FunctionInfo>();
  for (const info of debug.functions) {
    const insn = moves.start(info.insn);
    // Likewise of functions that were taken away as a whole.
    if (insn !== undefined && insn < moves.length) functions.set(insn, { ...info, insn });
  }
  for (const { insn, name } of moves.functions) {
    functions.set(insn, { insn, name, linkage: 'static', typeId: 0 });
  }
  return {
    functions: inOrder(functions),
    lines: inOrder(lines),
    ...(debug.missing !== undefined && {
      missing: debug.missing.flatMap((call) => {
        const insn = moves.own(call.insn);
        return insn === undefined ? [] : [{ ...call, insn }];
      }),
    }),
  };
}

function inOrder<T>(bySlot: ReadonlyMap<number, T>): T[] {
  return [...bySlot].sort(([a], [b]) => a - b).map(([, what]) => what);
}

/** An insn that calls a function by its label: `{ insns: [callFunction()], targets: new Map([[0, label]]) }`. */
export function callFunction(): Insn {
  return { opcode: OP_CALL, dst: 0, src: BPF_PSEUDO_CALL, off: 0, imm: 0 };
}

/** A jump to a label. */
export function jumpTo(label: Label): Piece {
  return { insns: [jump(OP_GOTO, {})], targets: new Map([[0, label]]) };
}
