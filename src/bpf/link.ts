import { XdpbedError } from '../core/diagnostic.js';
import { isLddw, type Insn } from './insn.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from './opcodes.js';
import {
  BPF_PROG_TYPE_UNSPEC,
  BPF_PROG_TYPE_XDP,
  isGplCompatible,
  programTypeName,
  type Program,
  type ProgramSpec,
} from './program.js';

/** What to do about a program whose section does not say what it is. */
export const UNTYPED_HINT =
  'if it is an XDP program all the same, say so: --type xdp on the command line, `type: xdp` in a testbed or in cases';

/** Why a program is not run, when it is no XDP program. */
export function whyNotXdp({
  name,
  section,
  type,
}: ProgramSpec): { readonly message: string; readonly hint?: string } | undefined {
  if (type === BPF_PROG_TYPE_XDP) return undefined;
  return {
    message: `program ${name} in section ${section} is of type ${programTypeName(type)}; only XDP programs are run`,
    ...(type === BPF_PROG_TYPE_UNSPEC && { hint: UNTYPED_HINT }),
  };
}

/**
 * Puts map handles into a program: the `lddw` of a map becomes BPF_PSEUDO_MAP_FD with the handle in imm; one into
 * global data BPF_PSEUDO_MAP_VALUE with the handle in imm and the byte offset in the imm of its second slot
 * (RFC 9669 section 5.4). The spec is not changed.
 *
 * Throws `object-unsupported` when the program is not XDP or cannot be linked, `map-invalid` when a map that it
 * names has no handle.
 */
export function linkProgram(spec: ProgramSpec, handles: ReadonlyMap<string, number>): Program {
  const unfit = whyNotXdp(spec);
  if (unfit !== undefined) throw new XdpbedError('object-unsupported', unfit.message, { hint: unfit.hint });
  if (spec.unsupported !== undefined) throw new XdpbedError('object-unsupported', spec.unsupported);
  const insns: Insn[] = [...spec.insns];
  for (const reference of spec.references) {
    const handle = handles.get(reference.mapName);
    if (handle === undefined) {
      throw new XdpbedError(
        'map-invalid',
        `program ${spec.name} needs map ${reference.mapName}, which was not made`,
        {
          at: { insn: reference.insn },
        },
      );
    }
    const first = insns[reference.insn];
    const second = insns[reference.insn + 1];
    if (first === undefined || second === undefined || !isLddw(first)) {
      throw new XdpbedError(
        'insn-invalid',
        `map ${reference.mapName} is referred to by what is not an lddw`,
        {
          at: { insn: reference.insn },
        },
      );
    }
    const source = reference.value ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD;
    insns[reference.insn] = { ...first, src: source, imm: handle };
    insns[reference.insn + 1] = { ...second, imm: reference.value ? reference.offset : 0 };
  }
  return {
    name: spec.name,
    type: BPF_PROG_TYPE_XDP,
    attachType: spec.attachType,
    gplCompatible: isGplCompatible(spec.license),
    frags: spec.frags,
    insns,
    debug: spec.debug,
  };
}
