import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { UNTYPED_HINT } from '../../bpf/link.js';
import { BPF_PROG_TYPE_UNSPEC, BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import { nearest } from '../nearest.js';

export type Selection =
  { readonly program: ProgramSpec } | { readonly problem: string; readonly hint?: string | undefined };

/**
 * The program of an object that a person means: by function name or section, or the only XDP program there is.
 * A section that holds several programs does not name one.
 */
export function selectProgram(object: ObjectSpec, wanted: string | undefined): Selection {
  const { programs } = object;
  if (wanted === undefined) {
    const xdp = programs.filter((program) => program.type === BPF_PROG_TYPE_XDP);
    if (xdp.length === 1) return { program: xdp[0]! };
    if (xdp.length === 0) {
      const untyped = programs.filter((program) => program.type === BPF_PROG_TYPE_UNSPEC);
      const hint = untyped.length === 0 ? describe(programs) : `${describe(untyped)}: ${UNTYPED_HINT}`;
      return { problem: 'the object holds no XDP program', hint };
    }
    return { problem: `the object holds ${xdp.length} XDP programs; name one`, hint: describe(xdp) };
  }
  const byName = programs.find((program) => program.name === wanted);
  if (byName !== undefined) return { program: byName };
  const inSection = programs.filter((program) => program.section === wanted);
  if (inSection.length === 1) return { program: inSection[0]! };
  if (inSection.length > 1) {
    return {
      problem: `section '${wanted}' holds ${inSection.length} programs; name one`,
      hint: describe(inSection),
    };
  }
  const near = nearest(wanted, [
    ...programs.map((program) => program.section),
    ...programs.map((program) => program.name),
  ]);
  return {
    problem: `the object has no program or section '${wanted}'`,
    hint: near === undefined ? describe(programs) : `did you mean '${near}'?`,
  };
}

function describe(programs: readonly ProgramSpec[]): string {
  if (programs.length === 0) return 'it holds no programs at all';
  return programs.map((program) => `${program.name} (section ${program.section})`).join(', ');
}
