import { findInvalidInsn } from '../../bpf/insn-validity.js';
import { decodeInsns } from '../../bpf/insn.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import type { RunState } from '../../bpf/runtime/run-state.js';
import { messageOf } from '../../core/diagnostic.js';
import type { Executor } from '../../core/contract/executor.js';

/** Helper 5 of the bpf_conformance suite returns its first argument. */
const CONFORMANCE_HELPERS: ReadonlyMap<number, (state: RunState) => void> = new Map([
  [5, (state) => state.setResult64(state.arg(1))],
]);

export type ConformanceResult = { readonly r0: bigint } | { readonly error: string };

/**
 * Runs one program of the public bpf_conformance suite (github.com/Alan-Jowett/bpf_conformance, plugin protocol):
 * the program and the memory as hex digits, in which white space does not count. R1 is the address of the
 * memory and R2 its length in bytes, both 0 without memory. Never throws for bad input.
 */
export async function runConformanceProgram(
  executor: Executor,
  runtime: BpfRuntime,
  programHex: string,
  memoryHex = '',
): Promise<ConformanceResult> {
  try {
    const insns = decodeInsns(parseHex(programHex, 'program'));
    if (insns.length === 0) return { error: 'the program is empty' };
    const invalid = findInvalidInsn(insns);
    if (invalid !== undefined) return { error: `insn ${invalid.insn}: ${invalid.reason}` };
    const memory = parseHex(memoryHex, 'memory');
    const loaded = await executor.load(
      { name: 'conformance', type: 0, attachType: 'BPF_XDP', gplCompatible: true, insns },
      {
        maps: new Map(),
        world: { trace() {} },
        helperOverrides: CONFORMANCE_HELPERS,
      },
    );
    const region = runtime.space.allocate(memory.length, {
      kind: 'scratch',
      label: 'the memory',
      access: 'read-write',
    });
    try {
      runtime.space.write(region.start, memory);
      if (loaded.call === undefined) return { error: `executor ${executor.name} runs XDP programs only` };
      const outcome = loaded.call(memory.length === 0 ? 0n : BigInt(region.start), BigInt(memory.length));
      return 'r0' in outcome ? outcome : { error: `insn ${outcome.fault.insn}: ${outcome.fault.reason}` };
    } finally {
      runtime.space.free(region);
      loaded.close();
    }
  } catch (error) {
    return { error: messageOf(error) };
  }
}

function parseHex(text: string, what: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  const bad = /[^0-9a-fA-F]/.exec(digits);
  if (bad !== null) throw new Error(`the ${what} is not hex: '${bad[0]}'`);
  if (digits.length % 2 !== 0) throw new Error(`the ${what} has an odd number of hex digits`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}
