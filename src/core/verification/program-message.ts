import type { FunctionInfo } from '../../bpf/btf/btf-ext.js';
import { decodeInsns, encodeInsns } from '../../bpf/insn.js';
import type { Program, ProgramDebugInfo } from '../../bpf/program.js';

/**
 * A program as it is sent to a judge: many objects take long to copy, and both ends have other things to do. Its insns are bytes, and each
 * text is there once: lines and functions of a guest's may all name the same KiB, or 65 536 of them 256 MiB.
 */
export type ProgramMessage = Omit<Program, 'insns' | 'debug'> & {
  readonly insns: Uint8Array;
  readonly debug?: DebugMessage | undefined;
};

interface DebugMessage extends Omit<ProgramDebugInfo, 'functions' | 'lines'> {
  readonly texts: readonly string[];
  /** The name is an index into the texts. */
  readonly functions: readonly (Omit<FunctionInfo, 'name'> & { readonly name: number })[];
  /** Five numbers for each: insn, line, column, and of file and text the index into the texts. */
  readonly lines: Uint32Array;
}

const NUMBERS_OF_LINE = 5;

export function packProgram({ insns, debug, ...rest }: Program): ProgramMessage {
  return {
    ...rest,
    insns: encodeInsns(insns),
    ...(debug === undefined ? {} : { debug: packDebug(debug) }),
  };
}

export function unpackProgram({ insns, debug, ...rest }: ProgramMessage): Program {
  return {
    ...rest,
    insns: decodeInsns(insns),
    ...(debug === undefined ? {} : { debug: unpackDebug(debug) }),
  };
}

function packDebug({ functions, lines, ...rest }: ProgramDebugInfo): DebugMessage {
  const indices = new Map<string, number>();
  const indexOf = (text: string): number => {
    let index = indices.get(text);
    if (index === undefined) indices.set(text, (index = indices.size));
    return index;
  };
  const numbers = new Uint32Array(NUMBERS_OF_LINE * lines.length);
  let at = 0;
  for (const { insn, line, column, file, text } of lines) {
    numbers[at++] = insn;
    numbers[at++] = line;
    numbers[at++] = column;
    numbers[at++] = indexOf(file);
    numbers[at++] = indexOf(text);
  }
  const named = functions.map((each) => ({ ...each, name: indexOf(each.name) }));
  return { ...rest, functions: named, lines: numbers, texts: [...indices.keys()] };
}

function unpackDebug({ texts, functions, lines, ...rest }: DebugMessage): ProgramDebugInfo {
  const of: ProgramDebugInfo['lines'][number][] = [];
  for (let at = 0; at < lines.length; at += NUMBERS_OF_LINE) {
    const [insn, line, column, file, text] = lines.subarray(at, at + NUMBERS_OF_LINE);
    of.push({ insn: insn!, line: line!, column: column!, file: texts[file!]!, text: texts[text!]! });
  }
  return {
    ...rest,
    functions: functions.map((each) => ({ ...each, name: texts[each.name]! })),
    lines: of,
  };
}
