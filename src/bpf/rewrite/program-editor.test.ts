import { describe, expect, it } from 'vitest';
import { assemble } from '../assembler.js';
import { disassemble } from '../disassembler.js';
import { isLddw, type Insn } from '../insn.js';
import type { Program, ProgramDebugInfo } from '../program.js';
import { callFunction, jumpTo, ProgramEditor } from './program-editor.js';

const program = (text: string, debug?: ProgramDebugInfo): Program => ({
  name: 'edited',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
  debug,
});

/** Both ways through the disassembler, so that distances are read as a person would. */
const expectText = (edited: { readonly insns: readonly Insn[] }, text: string): void =>
  expect(disassemble(edited.insns)).toBe(disassemble(assemble(text)));

describe('ProgramEditor', () => {
  it('leaves a program without edits as it is', () => {
    const original = program('r1 = 5ll\nif r1 > 3 goto out\nr0 = 1\nout:\nexit');
    expect(new ProgramEditor(original).finish().program).toEqual(original);
  });

  it('sends jumps through what was inserted before their target, and falls into it', () => {
    const editor = new ProgramEditor(program('if r1 == 0 goto out\nr0 = 1\nout:\nexit'));
    editor.insertBefore(2, { insns: assemble('r2 = 7ll') });
    expectText(editor.finish().program, 'if r1 == 0 goto in\nr0 = 1\nin:\nr2 = 7ll\nexit');
  });

  it('sends jumps past a prologue, and calls through it', () => {
    const editor = new ProgramEditor(program('call f\nexit\nf:\nr0 = 1\nif r0 == 0 goto f\nexit'));
    editor.insertBefore(2, { insns: assemble('r9 = 2') }, { jumps: 'past' });
    expectText(
      editor.finish().program,
      'call f\nexit\nf:\nr9 = 2\nagain:\nr0 = 1\nif r0 == 0 goto again\nexit',
    );
  });

  it('puts what jumps go past in front of what they go through', () => {
    const editor = new ProgramEditor(program('again:\nr0 = 1\nif r0 == 0 goto again\nexit'));
    editor.insertBefore(0, { insns: assemble('r7 = 1') });
    editor.insertBefore(0, { insns: assemble('r8 = 1') }, { jumps: 'past' });
    editor.insertBefore(0, { insns: assemble('r9 = 1') });
    expectText(
      editor.finish().program,
      'r8 = 1\nagain:\nr7 = 1\nr9 = 1\nr0 = 1\nif r0 == 0 goto again\nexit',
    );
  });

  it('replaces an insn, both slots of an lddw, and takes one away', () => {
    const original = program('if r1 == 0 goto wide\nr0 = 9\nwide:\nr2 = 5ll\nr3 = 4\nexit');
    const editor = new ProgramEditor(original);
    editor.replace(1, { insns: [] });
    editor.replace(2, { insns: assemble('if r1 == 3 goto end\nr2 = 6\nend:') });
    const edited = editor.finish();
    expectText(
      edited.program,
      'if r1 == 0 goto wide\nwide:\nif r1 == 3 goto end\nr2 = 6\nend:\nr3 = 4\nexit',
    );
    expect([0, 1, 2, 3, 4, 5].map((slot) => edited.slotOf(slot))).toEqual([
      0,
      undefined,
      undefined,
      undefined,
      3,
      4,
    ]);
    expect([
      ...edited.moved(
        new Map([
          [2, 'gone'],
          [4, 'r3'],
        ]),
      ),
    ]).toEqual([[3, 'r3']]);
  });

  it('mends local calls, addresses of functions and gotol, forwards and back', () => {
    const editor = new ProgramEditor(
      program('r2 = subprog[f]\ngotol go\nback:\nexit\ngo:\ncall f\ngotol back\nf:\nr0 = 0\nexit'),
    );
    for (const slot of [0, 2, 3, 4, 6, 7]) editor.insertBefore(slot, { insns: assemble('r9 = 1ll') });
    expectText(
      editor.finish().program,
      `r9 = 1ll\nr2 = subprog[f]\nr9 = 1ll\ngotol go\nback:\nr9 = 1ll\nexit\ngo:\nr9 = 1ll\ncall f\ngotol back
       f:\nr9 = 1ll\nr0 = 0\nr9 = 1ll\nexit`,
    );
  });

  it('leaves calls of helpers and of the kernel alone, and mends may_goto', () => {
    const editor = new ProgramEditor(
      program('call bpf_ktime_get_ns\ncall kernel-function#2\nmay_goto out\nr0 = 1\nout:\nexit'),
    );
    editor.insertBefore(3, { insns: assemble('r9 = 1') });
    expectText(
      editor.finish().program,
      'call bpf_ktime_get_ns\ncall kernel-function#2\nmay_goto out\nr9 = 1\nr0 = 1\nout:\nexit',
    );
  });

  it('calls functions that it appends, and jumps to labels', () => {
    const editor = new ProgramEditor(program('r0 = 1\nexit\nr0 = 2\nexit'));
    const f = editor.appendFunction('f', { insns: assemble('r0 = 3\nexit') });
    const there = editor.insertBefore(2, { insns: [callFunction()], targets: new Map([[0, f]]) });
    editor.replace(1, jumpTo(there));
    expectText(editor.finish().program, 'r0 = 1\ngoto there\nthere:\ncall f\nr0 = 2\nexit\nf:\nr0 = 3\nexit');
  });

  it('calls functions that it puts in front of others, which are called as before', () => {
    const editor = new ProgramEditor(program('call g\nexit\ng:\nr0 = 2\nexit'));
    const f = editor.insertFunction('f', { insns: assemble('r0 = 3\nexit') }, 2);
    editor.insertBefore(2, { insns: assemble('r9 = 2') }, { jumps: 'past' });
    editor.insertBefore(1, { insns: [callFunction()], targets: new Map([[0, f]]) });
    expectText(editor.finish().program, 'call g\ncall f\nexit\nf:\nr0 = 3\nexit\ng:\nr9 = 2\nr0 = 2\nexit');
  });

  it('keeps code behind an insn out of the way of jumps to the next one', () => {
    const editor = new ProgramEditor(program('if r1 == 0 goto next\nr0 = 1\nnext:\nexit'));
    editor.insertAfter(1, { insns: assemble('r0 += 1') });
    expectText(editor.finish().program, 'if r1 == 0 goto next\nr0 = 1\nr0 += 1\nnext:\nexit');
  });

  it('lengthens jumps that no longer reach, which may make others too long', () => {
    const filler = Array.from({ length: 0x7ffe }, () => assemble('r0 = 0')[0]!);
    const near = program('if r1 == 0 goto far\nif r2 == 0 goto far\ngoto far\nr0 = 0\nfar:\nexit');
    const editor = new ProgramEditor(near);
    // From the third jump it is one slot more than 16 bits hold only if the others are long.
    editor.insertBefore(3, { insns: filler });
    const { insns } = editor.finish().program;
    const targets = jumpTargets(insns);
    const exit = insns.length - 1;
    expect(targets.get(0)).toBe(2);
    expect(targets.get(2)).toBe(exit);
    expect(targets.get(3)).toBe(5);
    expect(targets.get(5)).toBe(exit);
    expect(targets.get(6)).toBe(exit);
    expect(insns[6]).toMatchObject({ opcode: 0x05, off: 0x7fff });
    // Past the one behind it, where a conditional jump's own way goes on.
    expect([targets.get(1), targets.get(4)]).toEqual([3, 6]);
  });

  it('reaches backwards as well', () => {
    const editor = new ProgramEditor(program('again:\nr0 = 1\nif r0 == 0 goto again\nexit'));
    editor.insertBefore(1, { insns: Array.from({ length: 0x7fff }, () => assemble('r0 = 0')[0]!) });
    const { insns } = editor.finish().program;
    const at = insns.length - 4;
    const targets = jumpTargets(insns);
    expect([targets.get(at), targets.get(at + 1), targets.get(at + 2)]).toEqual([at + 2, at + 3, 0]);
  });

  it('does not take long where each jump made long puts one more out of reach', () => {
    const jumps = 8000;
    // The last jump reaches just so far; the one before it two slots further, and so on, so that each gives way in turn.
    const distance = (slot: number): number => 0x7fff - 2 * (jumps - 1 - slot);
    const original = program('exit');
    const insns = [
      ...Array.from({ length: jumps }, (_, slot) => assemble(`if r1 == 0 goto +${distance(slot)}`)[0]!),
      ...Array.from({ length: 0x7fff }, () => assemble('r0 = 0')[0]!),
      ...original.insns,
    ];
    const editor = new ProgramEditor({ ...original, insns });
    editor.insertAfter(jumps, { insns: assemble('r9 = 9') });
    const start = process.cpuUsage();
    const edited = editor.finish();
    // Microseconds of this process, whatever else the machine does.
    expect(process.cpuUsage(start).user).toBeLessThan(1_000_000);
    const targets = jumpTargets(edited.program.insns);
    let long = 0;
    for (let slot = 0; slot < jumps; slot++) {
      const at = edited.slotOf(slot)!;
      // A long one is three slots, of which the last goes to the target.
      const isLong = edited.slotOf(slot + 1)! - at === 3;
      long += Number(isLong);
      if (targets.get(isLong ? at + 2 : at) !== edited.slotOf(slot + 1 + distance(slot)))
        expect.fail(`slot ${slot}`);
    }
    expect(long).toBe(jumps);
  });

  it('moves functions, lines and missing functions along, as a kernel wants them', () => {
    const line = (insn: number, number: number) => ({
      insn,
      file: 'f.c',
      text: `line ${number}`,
      line: number,
      column: 1,
    });
    const debug: ProgramDebugInfo = {
      functions: [
        { insn: 0, name: 'main', linkage: 'global', typeId: 7 },
        { insn: 3, name: 'f', linkage: 'static', typeId: 8 },
      ],
      lines: [line(0, 1), line(1, 2), line(2, 3), line(3, 4)],
      missing: [{ insn: 1, name: 'gone' }],
    };
    const editor = new ProgramEditor(program('r0 = 0\ncall 32767\nexit\ncall f\nexit\nf:\nexit', debug));
    editor.insertBefore(3, { insns: assemble('r9 = 1') }, { jumps: 'past' });
    editor.insertBefore(1, { insns: assemble('r9 = 1ll') });
    editor.replace(2, { insns: [] });
    editor.appendFunction('added', { insns: assemble('exit') });
    editor.insertFunction('between', { insns: assemble('exit') }, 5);
    const { debug: moved } = editor.finish().program;
    expect(moved?.functions.map(({ insn, name }) => [insn, name])).toEqual([
      [0, 'main'],
      [4, 'f'],
      [7, 'between'],
      [9, 'added'],
    ]);
    // The insn of line 3 is gone: what stands there now is of line 4.
    expect(moved?.lines.map(({ insn, text }) => [insn, text])).toEqual([
      [0, 'line 1'],
      [1, 'line 2'],
      [4, 'line 4'],
      [7, 'between'],
      [9, 'added'],
    ]);
    expect(moved?.missing).toEqual([{ insn: 3, name: 'gone' }]);
  });

  it('refuses slots that are not the first of an insn, and jumps to nowhere', () => {
    const editor = new ProgramEditor(program('r1 = 5ll\nexit'));
    expect(() => editor.insertBefore(1, { insns: [] })).toThrow(
      'slot 1 of program edited is not the first of an insn',
    );
    expect(() => editor.replace(3, { insns: [] })).toThrow(
      'slot 3 of program edited is not the first of an insn',
    );
    editor.replace(2, { insns: [] });
    expect(() => editor.replace(2, { insns: [] })).toThrow('slot 2 of program edited is replaced twice');
    const astray = new ProgramEditor(program('goto +1\nr1 = 5ll\nexit'));
    expect(() => astray.finish()).toThrow('slot 0 of program edited refers to slot 2');
    const inserted = new ProgramEditor(program('exit'));
    inserted.insertBefore(0, { insns: assemble('goto +1') });
    expect(() => inserted.finish()).toThrow('slot 0 of inserted code refers to none of its insns');
  });
});

/** Slot that each jump of class JMP or JMP32 goes to. */
function jumpTargets(insns: readonly Insn[]): Map<number, number> {
  const targets = new Map<number, number>();
  for (let slot = 0; slot < insns.length; slot++) {
    const { opcode, off, imm } = insns[slot]!;
    if (opcode === 0x06) targets.set(slot, slot + 1 + imm);
    else if ((opcode & 0x07) >= 0x05 && (opcode & 0x07) <= 0x06 && opcode !== 0x95)
      targets.set(slot, slot + 1 + off);
    if (isLddw(insns[slot])) slot++;
  }
  return targets;
}
