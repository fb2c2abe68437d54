import { deserialize, serialize } from 'node:v8';
import { expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { packProgram, unpackProgram, type ProgramMessage } from './program-message.js';

const PLAIN: Program = {
  name: 'p',
  type: BPF_PROG_TYPE_XDP,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble('r0 = 2\nexit'),
};

function described(lines: number, text: string): Program {
  return {
    ...PLAIN,
    debug: {
      functions: [
        { insn: 0, typeId: 7, name: 'main', linkage: 'global' },
        { insn: 1, typeId: 8, name: text, linkage: 'static' },
      ],
      lines: Array.from({ length: lines }, (_, insn) => ({
        insn,
        file: 'a.c',
        text,
        line: insn + 1,
        column: 1023,
      })),
      missing: [{ insn: 0, name: 'weak' }],
    },
  };
}

it.each([PLAIN, described(3, 'return 2;'), described(0, '')])('a program arrives as it was', (program) => {
  expect(unpackProgram(deserialize(serialize(packProgram(program))) as ProgramMessage)).toEqual(program);
});

it('sends a text once, however many lines have it', () => {
  const LINES = 4096;
  const message = serialize(packProgram(described(LINES, '\ufffd'.repeat(1024))));
  // Five numbers of four bytes for each line, the text in two bytes a character, and some names.
  expect(message.length).toBeLessThan(20 * LINES + 2048 + 1024);
});
